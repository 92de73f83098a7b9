#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command;
mod delete;
mod import;
mod password_changes;
mod sequences;
mod slots;

use super::super::testing::{Mailbox, Session, SharedDict, keyring};
use super::user_keys::NewPassword;
use super::*;
use crate::crypto::Secret;
use crate::key::{PrivateKey, Protect, Protection};

const SECRET: (&str, &str) = ("mail_crypt_private_password", "secret");

struct User {
    ring: Keyring,
    session: Session,
    dict: SharedDict,
}

impl User {
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::again(&SharedDict::default(), settings)
    }

    /// A new session on an old dict.
    fn again(dict: &SharedDict, settings: &[(&str, &str)]) -> Self {
        User {
            ring: keyring(settings),
            session: Session::new(dict),
            dict: SharedDict::clone(dict),
        }
    }

    fn folder(&self, name: &str) -> Mailbox {
        Mailbox::new(&self.dict, name)
    }

    fn user_key(&mut self, force: bool) -> Result<Generated> {
        user_key(&mut self.ring, &mut self.session, force)
    }

    fn folder_key(&mut self, name: &str, force: bool) -> Result<Generated> {
        let mut folder = self.folder(name);
        let (ring, host) = (&mut self.ring, &mut self.session);
        folder_key(ring, &mut folder, host, force)
    }

    fn password(&mut self, old: Option<&str>, new: NewPassword<'_>) -> Result<usize> {
        let secret = |bytes: &[u8]| bytes.iter().copied().collect::<Secret>();
        let request = Request {
            old: old.map(|old| secret(old.as_bytes())),
            new: match new {
                NewPassword::Set(new) => Some(secret(new)),
                NewPassword::Clear => None,
            },
            clear: matches!(new, NewPassword::Clear),
            ..Request::default()
        };
        let rows = password::password(&mut self.ring, &mut self.session, &request)?;
        let digits = |c: &char| c.is_ascii_digit();
        let count: String = rows[0].cells[0].chars().filter(digits).collect();
        Ok(count.parse().unwrap())
    }

    fn rekey(&mut self, name: &str) -> Result<Vec<KeyId>> {
        let mut folder = self.folder(name);
        let target = rekey_target(&mut self.ring, &mut self.session)?;
        rekey_folder(&mut self.ring, &mut folder, &mut self.session, &target)
    }

    fn check_new_user_key(&mut self, name: &str, rekey: bool) -> Result<Vec<KeyId>> {
        let mut folder = self.folder(name);
        check_new_user_key(&mut self.ring, &mut folder, &mut self.session, rekey)
    }

    fn import(&mut self, level: Level, name: &str, text: &str, force: bool) -> Result<Imported> {
        let mut at = self.folder(name);
        let (ring, host) = (&mut self.ring, &mut self.session);
        import(ring, level, &mut at, host, text, force)
    }

    fn export(&mut self, level: Level, name: &str, id: &KeyId) -> Result<Zeroizing<String>> {
        let mut at = self.folder(name);
        let (ring, host) = (&mut self.ring, &mut self.session);
        export(ring, level, &mut at, host, &id.to_string())
    }

    fn begin_deletion(
        &mut self,
        level: Level,
        name: &str,
        id: &KeyId,
        force: bool,
    ) -> Result<KeyDeletion> {
        let mut at = self.folder(name);
        let (ring, host) = (&mut self.ring, &mut self.session);
        KeyDeletion::find(ring, level, &mut at, host, &id.to_string(), force)
    }

    fn delete(&mut self, level: Level, name: &str, id: &KeyId, force: bool) -> Result<()> {
        let deletion = self.begin_deletion(level, name, id, force)?;
        let mut at = self.folder(name);
        deletion.delete(&mut self.ring, &mut at, &self.session, force)
    }

    fn list(&self, level: Level, name: &str) -> Vec<Entry> {
        list(level, &mut self.folder(name)).unwrap()
    }

    fn protection(&self, level: Level, name: &str, id: &KeyId) -> Protection {
        let stored = self.folder(name).get(Scope::Private, &level.private(id));
        let stored = stored.unwrap().unwrap();
        StoredKey::parse(&stored).unwrap().protection()
    }

    fn entries(&self) -> std::collections::BTreeMap<String, String> {
        self.dict.borrow().entries.clone()
    }
}

fn error<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("worked"),
        Err(e) => e,
    }
}

#[test]
fn an_existing_key_is_answered_and_not_replaced() {
    let mut user = User::new(&[]);
    let made = user.user_key(false).unwrap();
    assert!(made.fresh);
    let again = user.user_key(false).unwrap();
    assert_eq!((again.id, again.fresh), (made.id, false));
    let made = user.folder_key("Work", false).unwrap();
    assert!(made.fresh);
    let again = user.folder_key("Work", false).unwrap();
    assert_eq!((again.id, again.fresh), (made.id, false));
}

#[test]
fn force_makes_a_new_active_key_and_keeps_the_old_one() {
    let mut user = User::new(&[SECRET]);
    for force in [false, true] {
        user.user_key(force).unwrap();
        user.folder_key("Work", force).unwrap();
    }
    for (level, name) in [(Level::User, "INBOX"), (Level::Folder, "Work")] {
        let entries = user.list(level, name);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries.iter().filter(|e| e.active).count(), 1);
        for entry in entries {
            user.export(level, name, &entry.name.parse().unwrap())
                .unwrap();
        }
    }
}

#[test]
fn rekeying_puts_every_key_of_a_folder_under_the_new_user_key() {
    let mut user = User::new(&[SECRET]);
    let old = user.folder_key("Work", false).unwrap().id;
    let new = user.folder_key("Work", true).unwrap().id;
    let target = user.user_key(true).unwrap().id;
    let mut done = user.rekey("Work").unwrap();
    done.sort();
    let mut both = [old, new];
    both.sort();
    assert_eq!(done, both);
    for id in both {
        assert_eq!(
            user.protection(Level::Folder, "Work", &id),
            Protection::Key(target)
        );
    }
    // The old user key is no longer needed.
    let users = user.list(Level::User, "INBOX");
    let old_user = users.iter().find(|e| !e.active).unwrap();
    let old_user = old_user.name.parse().unwrap();
    let deletion = user
        .begin_deletion(Level::User, "INBOX", &old_user, false)
        .unwrap();
    deletion
        .check_folder(&mut user.folder("Work"), &user.session)
        .unwrap();
    user.delete(Level::User, "INBOX", &old_user, false).unwrap();
    let mut later = User::again(&user.dict, &[SECRET]);
    for id in both {
        later.export(Level::Folder, "Work", &id).unwrap();
    }
}

#[test]
fn rekeying_reaches_the_keys_that_no_folder_has() {
    let mut user = User::new(&[SECRET]);
    let id = user.folder_key("Gone", false).unwrap().id;
    let old = user.user_key(false).unwrap().id;
    user.dict
        .borrow_mut()
        .entries
        .retain(|path, _| !path.contains("/Gone/"));
    user.user_key(true).unwrap();
    let e = error(user.delete(Level::User, "INBOX", &old, false));
    assert!(e.to_string().contains(&id.to_string()), "{e}");
    let target = rekey_target(&mut user.ring, &mut user.session).unwrap();
    let mut inbox = user.folder("INBOX");
    let (ring, host) = (&mut user.ring, &mut user.session);
    let done = rekey_without_folder(ring, &mut inbox, host, &target).unwrap();
    assert_eq!(done, [id]);
    let done = rekey_without_folder(ring, &mut inbox, host, &target).unwrap();
    assert!(done.is_empty());
    user.delete(Level::User, "INBOX", &old, false).unwrap();
    let mut later = User::again(&user.dict, &[SECRET]);
    later.export(Level::Folder, "Any", &id).unwrap();
}

#[test]
fn rekeying_that_is_interrupted_loses_nothing_and_can_be_repeated() {
    let mut user = User::new(&[SECRET]);
    let ids = ["a", "b", "c"].map(|name| (name, user.folder_key(name, false).unwrap().id));
    user.user_key(true).unwrap();
    user.dict.borrow_mut().commits_left = Some(1);
    user.rekey("a").unwrap();
    error(user.rekey("b"));
    user.dict.borrow_mut().commits_left = None;
    let mut later = User::again(&user.dict, &[SECRET]);
    for (name, id) in ids {
        later.export(Level::Folder, name, &id).unwrap();
        later.rekey(name).unwrap();
        later.export(Level::Folder, name, &id).unwrap();
    }
}

#[test]
fn nothing_is_put_under_a_user_key_that_nobody_can_unlock() {
    let mut user = User::new(&[SECRET]);
    user.folder_key("Work", false).unwrap();
    user.user_key(true).unwrap();
    let before = user.entries();
    let mut other = User::again(&user.dict, &[("mail_crypt_private_password", "wrong")]);
    assert_eq!(error(other.rekey("Work")).kind(), ErrorKind::WrongPassword);
    let target = user.user_key(false).unwrap().id;
    let name = format!("priv/INBOX/{}", Level::User.private(&target));
    user.dict.borrow_mut().lose(&name);
    assert_eq!(error(user.rekey("Work")).kind(), ErrorKind::NoKey);
    user.dict.borrow_mut().entries = before.clone();
    assert_eq!(user.entries(), before);
}

#[test]
fn a_new_user_key_leaves_no_folder_key_under_one_that_does_not_open() {
    let mut user = User::new(&[SECRET]);
    let id = user.folder_key("Work", false).unwrap().id;
    let user_key = user.user_key(false).unwrap().id;
    assert_eq!(user.check_new_user_key("Work", false).unwrap(), [id]);
    assert_eq!(user.check_new_user_key("Work", true).unwrap(), [id]);
    assert_eq!(user.check_new_user_key("Empty", true).unwrap(), []);
    let other = ("mail_crypt_private_password", "other");
    for settings in [&[other][..], &[]] {
        for (rekey, lists) in [(false, true), (true, true), (false, false)] {
            let mut later = User::again(&user.dict, settings);
            later.dict.borrow_mut().cannot_list = !lists;
            let e = error(later.check_new_user_key("Work", rekey));
            assert_eq!(e.kind(), ErrorKind::Refused);
            for name in ["Work", "mail_crypt_private_password"] {
                assert!(e.to_string().contains(name), "{e}");
            }
            for id in [id, user_key] {
                assert!(e.to_string().contains(&id.to_string()), "{e}");
            }
            later.dict.borrow_mut().cannot_list = false;
        }
    }
    user.dict.borrow_mut().down = true;
    let mut later = User::again(&user.dict, &[other]);
    assert_eq!(
        error(later.check_new_user_key("Work", false)).kind(),
        ErrorKind::Store
    );
}

#[test]
fn a_user_key_that_stays_locked_is_named() {
    let mut user = User::new(&[SECRET]);
    let old = user.user_key(false).unwrap().id;
    let new = user.user_key(true).unwrap().id;
    assert_eq!(user.dict.borrow().warnings, Vec::<String>::new());
    let mut later = User::again(&user.dict, &[("mail_crypt_private_password", "other")]);
    let made = later.user_key(true).unwrap().id;
    let warnings = later.dict.borrow().warnings.join("\n");
    for id in [old, new] {
        assert!(warnings.contains(&id.to_string()), "{warnings}");
    }
    assert!(!warnings.contains(&made.to_string()), "{warnings}");
}

#[test]
fn a_folder_key_that_is_lost_already_stands_in_no_way() {
    let mut user = User::new(&[SECRET]);
    user.folder_key("Work", false).unwrap();
    let user_key = user.user_key(false).unwrap().id;
    user.delete(Level::User, "INBOX", &user_key, true).unwrap();
    let mut later = User::again(&user.dict, &[("mail_crypt_private_password", "other")]);
    later.check_new_user_key("Work", false).unwrap();
    // It can't be put under another one, though.
    assert_eq!(
        error(later.check_new_user_key("Work", true)).kind(),
        ErrorKind::Refused
    );
}

#[test]
fn a_dict_that_loses_what_it_is_given_is_noticed() {
    struct Forgetful(Mailbox);
    impl Attributes for Forgetful {
        fn get(&mut self, scope: Scope, name: &str) -> Result<Option<Zeroizing<String>>> {
            self.0.get(scope, name)
        }
        fn list(&mut self, scope: Scope, prefix: &str) -> Result<Vec<String>> {
            self.0.list(scope, prefix)
        }
        fn commit(&mut self, _: Vec<Change>) -> Result<()> {
            Ok(())
        }
        fn lock(&mut self, level: Level) -> Result<Box<dyn std::any::Any>> {
            self.0.lock(level)
        }
        fn mailbox(&self) -> String {
            self.0.mailbox()
        }
        fn access(&self) -> crate::store::Access {
            self.0.access()
        }
        fn under(&self, guid: &crate::store::Guid) -> Box<dyn Attributes + '_> {
            self.0.under(guid)
        }
    }
    let mut user = User::new(&[]);
    user.folder_key("Work", false).unwrap();
    user.user_key(true).unwrap();
    let target = rekey_target(&mut user.ring, &mut user.session).unwrap();
    let mut folder = Forgetful(user.folder("Work"));
    let e = error(rekey_folder(
        &mut user.ring,
        &mut folder,
        &mut user.session,
        &target,
    ));
    assert_eq!(e.kind(), ErrorKind::Store);
}
