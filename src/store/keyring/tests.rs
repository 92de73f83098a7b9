#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use zeroize::Zeroizing;

use crate::ErrorKind;
use crate::key::{KeyId, PrivateKey, Protect, Protection, StoredKey};
use crate::store::admin;
use crate::store::attributes::{
    Access, Attributes, Change, Host, Level, Scope, shared_with_prefix,
};
use crate::store::keyring::Keyring;
use crate::store::names::Line;
use crate::store::settings::Settings;
use crate::store::testing::{Mailbox, Session, SharedDict, keyring};

struct User {
    ring: Keyring,
    session: Session,
}

impl User {
    /// A new session of the user whose keys are in `dict`.
    fn new(dict: &SharedDict, settings: &[(&str, &str)]) -> Self {
        User {
            ring: keyring(settings),
            session: Session::new(dict),
        }
    }

    /// Does what storing a mail does, and returns the key that it is encrypted to.
    fn store(&mut self, folder: &mut Mailbox) -> crate::Result<KeyId> {
        let sender = self.ring.sender(folder, &mut self.session)?;
        let id = sender.borrow().id();
        Ok(id)
    }

    fn open(&mut self, folder: &mut Mailbox, id: KeyId) -> crate::Result<PrivateKey> {
        self.ring.private_key(&[id], folder, &mut self.session)
    }
}

fn kind<T>(result: crate::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("worked"),
        Err(e) => e.kind(),
    }
}

#[test]
fn a_first_mail_makes_one_user_key_and_one_folder_key() {
    let dict = SharedDict::default();
    let mut box_a = Mailbox::new(&dict, "Work");
    let first = User::new(&dict, &[]).store(&mut box_a).unwrap();
    let second = User::new(&dict, &[]).store(&mut box_a).unwrap();
    assert_eq!(first, second);
    assert_eq!(dict.borrow().matching("privkeys/").len(), 2);
    assert_eq!(dict.borrow().matching("pubkeys/").len(), 2);
    assert_eq!(dict.borrow().matching("/active").len(), 2);
}

#[test]
fn a_dict_that_cannot_list_is_enough_for_first_mails_and_reading() {
    let dict = SharedDict::default();
    dict.borrow_mut().cannot_list = true;
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &[]).store(&mut folder).unwrap();
    assert_eq!(User::new(&dict, &[]).store(&mut folder).unwrap(), id);
    let key = User::new(&dict, &[]).open(&mut folder, id).unwrap();
    assert!(key.public().matches(&id));
}

#[test]
fn what_is_stored_is_read_in_a_later_session() {
    let settings = [("mail_crypt_private_password", "pass")];
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &settings).store(&mut folder).unwrap();
    let key = User::new(&dict, &settings).open(&mut folder, id).unwrap();
    assert!(key.matches(&id));
}

#[test]
fn inbox_is_opened_once_a_session_for_many_folders() {
    let dict = SharedDict::default();
    let folders = ["a", "b", "c"];
    let ids = folders.map(|name| {
        let mut folder = Mailbox::new(&dict, name);
        User::new(&dict, &[]).store(&mut folder).unwrap()
    });
    let mut user = User::new(&dict, &[]);
    dict.borrow_mut().inbox_opened = 0;
    for (name, id) in folders.iter().zip(ids) {
        user.open(&mut Mailbox::new(&dict, name), id).unwrap();
    }
    assert_eq!(dict.borrow().inbox_opened, 1);
}

#[test]
fn a_wrong_password_is_named_and_tried_once_a_session() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &[("mail_crypt_private_password", "right")])
        .store(&mut folder)
        .unwrap();
    let mut user = User::new(&dict, &[("mail_crypt_private_password", "wrong")]);
    for _ in 0..2 {
        let error = user.open(&mut folder, id).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WrongPassword);
        assert!(error.to_string().contains("wrong password"), "{error}");
        assert!(!error.to_string().contains("\"wrong\""), "{error}");
    }
}

#[test]
fn whether_the_own_key_can_be_opened_is_told_without_a_mail() {
    let right = [("mail_crypt_private_password", "right")];
    let dict = SharedDict::default();
    let opens = |settings: &[(&str, &str)]| {
        let mut user = User::new(&dict, settings);
        user.ring.opens_own(&mut user.session)
    };
    assert!(!opens(&right), "there is none yet");
    let mut folder = Mailbox::new(&dict, "Work");
    User::new(&dict, &right).store(&mut folder).unwrap();
    assert!(opens(&right));
    assert!(!opens(&[("mail_crypt_private_password", "wrong")]));
    assert!(!opens(&[]));
    dict.borrow_mut().cannot_list = true;
    assert!(opens(&right));
    // INBOX gets another GUID.
    let here = dict.borrow().matching("/INBOX/");
    for name in here {
        dict.borrow_mut().entries.remove(&name);
    }
    assert!(opens(&right));
}

#[test]
fn no_key_is_made_under_a_user_key_that_is_replaced_during_the_wait_for_the_lock() {
    /// While somebody waits for its lock, an administrator does something.
    struct Busy(Mailbox, Option<Box<dyn FnOnce()>>);
    impl Attributes for Busy {
        fn get(&mut self, s: Scope, name: &str) -> crate::Result<Option<Zeroizing<String>>> {
            self.0.get(s, name)
        }
        fn list(&mut self, s: Scope, prefix: &str) -> crate::Result<Vec<String>> {
            self.0.list(s, prefix)
        }
        fn commit(&mut self, changes: Vec<Change>) -> crate::Result<()> {
            self.0.commit(changes)
        }
        fn lock(&mut self, level: Level) -> crate::Result<Box<dyn std::any::Any>> {
            if let Some(f) = self.1.take() {
                f();
            }
            self.0.lock(level)
        }
        fn mailbox(&self) -> String {
            self.0.mailbox()
        }
        fn access(&self) -> Access {
            self.0.access()
        }
        fn under(&self, guid: &crate::store::Guid) -> Box<dyn Attributes + '_> {
            self.0.under(guid)
        }
    }
    let dict = SharedDict::default();
    let mut user = User::new(&dict, &[]);
    let old = user.ring.user_public(&mut user.session).unwrap().id();
    let mut admin = User::new(&dict, &[]);
    let replace = move || {
        let (ring, host) = (&mut admin.ring, &mut admin.session);
        admin::user_key(ring, host, true).unwrap();
        let mut inbox = host.inbox().unwrap();
        let (inbox, id) = (inbox.as_mut(), old.to_string());
        let deletion = admin::KeyDeletion::find(ring, Level::User, inbox, host, &id, false);
        deletion.unwrap().delete(ring, inbox, host, false).unwrap();
    };
    let mut folder = Busy(Mailbox::new(&dict, "Work"), Some(Box::new(replace)));
    let made = user.ring.sender(&mut folder, &mut user.session).unwrap();
    let id = made.borrow().id();
    User::new(&dict, &[]).open(&mut folder.0, id).unwrap();
}

#[test]
fn a_session_sees_that_a_key_was_mended() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let settings = [("mail_crypt_private_password", "right")];
    let id = User::new(&dict, &settings).store(&mut folder).unwrap();
    let (name, right) = dict
        .borrow()
        .entries
        .iter()
        .find(|(n, _)| n.contains("INBOX") && n.contains("privkeys"))
        .map(|(n, v)| (n.clone(), v.clone()))
        .unwrap();
    let key = StoredKey::parse(&right).unwrap();
    let key = key.unlock_with_password(b"right").unwrap();
    let wrong = key.to_dovecot(Protect::password(b"wrong")).unwrap();

    let mut user = User::new(&dict, &settings);
    dict.borrow_mut().lose(&name);
    assert_eq!(kind(user.open(&mut folder, id)), ErrorKind::Locked);
    dict.borrow_mut()
        .entries
        .insert(name.clone(), wrong.to_string());
    assert_eq!(kind(user.open(&mut folder, id)), ErrorKind::WrongPassword);
    dict.borrow_mut().entries.insert(name, right);
    user.open(&mut folder, id).unwrap();
}

#[test]
fn under_an_empty_password_no_key_is_made() {
    let dict = SharedDict::default();
    let mut user = User::new(&dict, &[("mail_crypt_private_password", "")]);
    let error = user.ring.user_public(&mut user.session).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("mail_crypt_private_password"), "{text}");
    assert!(dict.borrow().entries.is_empty());
}

#[test]
fn a_password_is_bytes_not_text() {
    let bytes: [&[u8]; 2] = [b"n\xe4xt", b"n\xf6xt"];
    let key = PrivateKey::generate("prime256v1").unwrap();
    let text = key.to_dovecot(Protect::password(bytes[0])).unwrap();
    let found = bytes.map(|password| {
        let settings = Settings::load(Line::V2_3, &mut |name| {
            let value: &[u8] = match name {
                "mail_crypt_save_version" => b"2",
                "mail_crypt_private_password" => password,
                _ => return None,
            };
            Some(Zeroizing::new(value.to_vec()))
        });
        let mut user = User::new(&SharedDict::default(), &[]);
        user.ring = Keyring::new(settings.unwrap());
        let found = user.ring.unlock(&key.id(), &text, &mut user.session, 0);
        found.is_ok()
    });
    assert_eq!(found, [true, false]);
}

#[test]
fn without_the_password_the_error_names_the_setting() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &[("mail_crypt_private_password", "right")])
        .store(&mut folder)
        .unwrap();
    let error = User::new(&dict, &[]).open(&mut folder, id).err().unwrap();
    assert!(
        error.to_string().contains("mail_crypt_private_password"),
        "{error}"
    );
}

#[test]
fn a_settings_key_protects_the_user_key() {
    let above = PrivateKey::generate("prime256v1").unwrap();
    let text = above.to_dovecot(Protect::None).unwrap();
    let settings = [("mail_crypt_private_key", text.as_str())];
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &settings).store(&mut folder).unwrap();
    let path = dict
        .borrow()
        .matching("server/vendor/vendor.dovecot/pvt/crypt/privkeys/");
    let stored = dict.borrow().entries[&path[0]].clone();
    match StoredKey::parse(&stored).unwrap().protection() {
        Protection::Key(id) => assert!(above.matches(&id)),
        _ => panic!("the user key is not under the settings' key"),
    }
    User::new(&dict, &settings).open(&mut folder, id).unwrap();
}

#[test]
fn an_unprotected_user_key_warns_once_or_is_refused() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let strict = [("mail_crypt_require_encrypted_user_key", "yes")];
    let refused = User::new(&dict, &strict).store(&mut folder);
    assert_eq!(kind(refused), ErrorKind::Setting);
    assert!(dict.borrow().entries.is_empty());

    User::new(&dict, &[]).store(&mut folder).unwrap();
    assert_eq!(dict.borrow().warnings.len(), 1);
}

#[test]
fn a_dict_that_is_down_never_makes_keys() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    dict.borrow_mut().down = true;
    let failed = User::new(&dict, &[]).store(&mut folder);
    assert_eq!(kind(failed), ErrorKind::Store);
    dict.borrow_mut().down = false;
    assert!(dict.borrow().entries.is_empty());
}

#[test]
fn a_store_that_fails_is_asked_again_later() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &[]).store(&mut folder).unwrap();
    let mut user = User::new(&dict, &[]);
    dict.borrow_mut().down = true;
    assert_eq!(kind(user.open(&mut folder, id)), ErrorKind::Store);
    dict.borrow_mut().down = false;
    user.open(&mut folder, id).unwrap();
}

#[test]
fn a_crash_while_keys_are_made_leaves_nothing_or_a_usable_key() {
    for commits in 0..5 {
        let dict = SharedDict::default();
        let mut folder = Mailbox::new(&dict, "Work");
        dict.borrow_mut().commits_left = Some(commits);
        assert!(User::new(&dict, &[]).store(&mut folder).is_err());
        dict.borrow_mut().commits_left = None;
        let id = User::new(&dict, &[]).store(&mut folder).unwrap();
        User::new(&dict, &[]).open(&mut folder, id).unwrap();
        assert_eq!(dict.borrow().matching("privkeys/").len(), 2, "{commits}");
    }
}

#[test]
fn a_key_that_was_stored_after_all_stays_as_others_have_changed_it_since() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let mut user = User::new(&dict, &[]);
    user.store(&mut Mailbox::new(&dict, "Other")).unwrap();
    dict.borrow_mut().commits_left = Some(1);
    dict.borrow_mut().answer_lost = true;
    assert!(user.store(&mut folder).is_err());
    dict.borrow_mut().commits_left = None;
    // Somebody has put it under another user key.
    let mut others = 0;
    for (path, text) in &mut dict.borrow_mut().entries {
        if path.starts_with("priv/Work/") {
            *text = text.replace(":", ";");
            others += 1;
        }
    }
    assert_eq!(others, 1);
    let before = dict.borrow().entries.clone();
    user.store(&mut folder).unwrap();
    assert_eq!(dict.borrow().entries, before);
}

#[test]
fn a_mail_may_name_its_key_by_the_old_id() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &[]).store(&mut folder).unwrap();
    let old = User::new(&dict, &[])
        .open(&mut folder, id)
        .unwrap()
        .old_id()
        .unwrap();
    let key = User::new(&dict, &[]).open(&mut folder, old).unwrap();
    assert!(key.matches(&id));
}

#[test]
fn a_lost_public_key_is_recovered_from_the_private_one() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let id = User::new(&dict, &[]).store(&mut folder).unwrap();
    let path = format!("shared/Work/{}", Level::Folder.public(&id));
    dict.borrow_mut().lose(&path);
    assert_eq!(User::new(&dict, &[]).store(&mut folder).unwrap(), id);
}

#[test]
fn a_key_stored_under_another_id_is_refused() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    User::new(&dict, &[]).store(&mut folder).unwrap();
    let other = PrivateKey::generate("prime256v1").unwrap().public();
    let active = folder.get(Scope::Shared, &Level::Folder.active());
    let id: KeyId = active.unwrap().unwrap().parse().unwrap();
    let change = Change::set(
        Scope::Shared,
        Level::Folder.public(&id),
        Zeroizing::new(other.to_dovecot()),
    );
    folder.commit(vec![change]).unwrap();
    assert_eq!(
        kind(User::new(&dict, &[]).store(&mut folder)),
        ErrorKind::Corrupt
    );
}

#[test]
fn nobody_but_the_owner_makes_a_folder_key() {
    for access in [Access::Shared, Access::Public] {
        let dict = SharedDict::default();
        let mut folder = Mailbox::new(&dict, "Team");
        folder.access = access;
        assert_eq!(
            kind(User::new(&dict, &[]).store(&mut folder)),
            ErrorKind::Keyless
        );
    }
}

#[test]
fn the_legacy_format_makes_no_keys() {
    let dict = SharedDict::default();
    let legacy = [("mail_crypt_save_version", "1")];
    let failed = User::new(&dict, &legacy).store(&mut Mailbox::new(&dict, "Work"));
    assert_eq!(kind(failed), ErrorKind::Setting);
    assert!(dict.borrow().entries.is_empty());
}

#[test]
fn a_global_key_needs_no_attributes() {
    let key = PrivateKey::generate("prime256v1").unwrap();
    let public = key.public().to_dovecot();
    let private = key.to_dovecot(Protect::None).unwrap();
    let dict = SharedDict::default();
    dict.borrow_mut().down = true;
    let mut user = User::new(
        &dict,
        &[
            ("mail_crypt_global_public_key", &public),
            ("mail_crypt_global_private_key", &private),
        ],
    );
    let mut folder = Mailbox::new(&dict, "Work");
    let id = user.store(&mut folder).unwrap();
    user.open(&mut folder, id).unwrap();
    assert_eq!(user.session.username(), "alice");
}

#[test]
fn a_mail_may_name_a_shared_key_by_its_old_id() {
    let dict = SharedDict::default();
    let key = PrivateKey::generate("prime256v1").unwrap();
    for prefix in [shared_with_prefix("alice"), Level::Folder.private_prefix()] {
        let path = format!("shared/Team/{prefix}{}", key.id());
        let stored = key.to_dovecot(Protect::None).unwrap();
        dict.borrow_mut()
            .entries
            .insert(path.clone(), stored.to_string());
        let mut folder = Mailbox::new(&dict, "Team");
        folder.access = Access::Shared;
        let old = key.old_id().unwrap();
        assert!(User::new(&dict, &[]).open(&mut folder, old).is_ok());
        dict.borrow_mut().entries.remove(&path);
        assert_eq!(
            kind(User::new(&dict, &[]).open(&mut folder, old)),
            ErrorKind::NoKey
        );
    }
}

#[test]
fn a_mail_under_the_global_key_asks_for_the_global_private_key() {
    let key = PrivateKey::generate("prime256v1").unwrap();
    let public = key.public().to_dovecot();
    let other = PrivateKey::generate("prime256v1").unwrap();
    let other = other.to_dovecot(Protect::None).unwrap();
    let dict = SharedDict::default();
    // No folder is asked.
    dict.borrow_mut().down = true;
    let mut folder = Mailbox::new(&dict, "INBOX");
    let global = ("mail_crypt_global_public_key", public.as_str());
    let private = ("mail_crypt_global_private_key", other.as_str());
    for (settings, why) in [
        (&[global][..], "mail_crypt_global_private_key is not set"),
        (
            &[global, private],
            "no mail_crypt_global_private_key belongs",
        ),
    ] {
        let mut user = User::new(&dict, settings);
        let error = user.open(&mut folder, key.id()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NoKey);
        assert!(error.to_string().contains(why), "{error}");
    }
}
