#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod refused;
mod twice;

use crate::key::{KeyId, PrivateKey, Protect, Protection, PublicKey, StoredKey};
use crate::store::acl::{Entry, Mode, Update, Who, updated};
use crate::store::attributes::{Access, Attributes, Change, Level, Scope, shared_with};
use crate::store::keyring::Keyring;
use crate::store::sharing::{Sharee, Sharing, active_key};
use crate::store::testing::{Mailbox, Session, SharedDict, keyring};
use crate::{Error, ErrorKind};
use zeroize::Zeroizing;

/// Alice's session, her folder and its ACL.
struct Alice {
    dict: SharedDict,
    ring: Keyring,
    session: Session,
    folder: Mailbox,
    acl: Vec<Entry>,
    users: Vec<(&'static str, Option<PrivateKey>)>,
    asked: Vec<String>,
}

fn user(name: &str) -> Who {
    Who::User(name.to_owned())
}

fn set(who: Who, read: bool) -> Update {
    Update {
        who,
        mode: Mode::Replace,
        denied_mode: Mode::Replace,
        read: Some(read),
        denied: None,
    }
}

fn delete(who: Who) -> Update {
    Update {
        mode: Mode::Clear,
        denied_mode: Mode::Clear,
        read: None,
        ..set(who, false)
    }
}

fn new_key() -> PrivateKey {
    PrivateKey::generate("prime256v1").unwrap()
}

impl Alice {
    /// With a folder that has one key. Bob and Eve have keys, Carol has none.
    fn new(settings: &[(&str, &str)]) -> Self {
        let dict = SharedDict::default();
        let mut alice = Alice {
            ring: keyring(settings),
            session: Session::new(&dict),
            folder: Mailbox::new(&dict, "Work"),
            dict,
            acl: Vec::new(),
            users: vec![
                ("bob", Some(new_key())),
                ("eve", Some(new_key())),
                ("carol", None),
            ],
            asked: Vec::new(),
        };
        alice
            .ring
            .sender(&mut alice.folder, &mut alice.session)
            .unwrap();
        alice
    }

    /// Makes one more key, which becomes the active one.
    fn add_key(&mut self) -> KeyId {
        let user = self.ring.user_public(&mut self.session).unwrap();
        let made = self.ring.generate(
            Level::Folder,
            &mut self.folder,
            &mut self.session,
            Protect::Key(&user),
        );
        made.unwrap().id()
    }

    fn keys(&mut self) -> Vec<KeyId> {
        let prefix = Level::Folder.private_prefix();
        let names = self.folder.list(Scope::Private, &prefix).unwrap();
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    fn find(&self, name: &str) -> crate::Result<Sharee> {
        Ok(match self.users.iter().find(|(n, _)| *n == name) {
            Some((name, key)) => Sharee::User {
                name: (*name).to_owned(),
                key: key.as_ref().map(PrivateKey::public),
            },
            None if name == "lost" => return Err(Error::store("no answer")),
            None => Sharee::Unknown,
        })
    }

    fn look(&mut self, update: Option<Update>) -> crate::Result<Sharing> {
        Sharing::new("alice", &self.acl, update, &self.ring, &mut self.folder)
    }

    fn ask(&mut self, sharing: &mut Sharing) -> crate::Result<()> {
        while let Some(name) = sharing.wanted() {
            self.asked.push(name.clone());
            sharing.answer(&name, self.find(&name))?;
        }
        Ok(())
    }

    fn plan(&mut self, update: Option<Update>) -> crate::Result<Sharing> {
        let mut sharing = self.look(update)?;
        self.ask(&mut sharing)?;
        sharing.apply(&mut self.ring, &mut self.folder, &mut self.session)?;
        Ok(sharing)
    }

    fn change(&mut self, update: Update) -> crate::Result<()> {
        self.asked.clear();
        let acl = updated(&self.acl, &update);
        self.plan(Some(update))?;
        self.acl = acl;
        Ok(())
    }

    /// What is stored for `name`, unlocked with that user's key.
    fn given(&mut self, name: &str) -> Vec<KeyId> {
        let key = self.users.iter().find(|(n, _)| *n == name);
        let key = key.unwrap().1.clone().unwrap();
        let mut given = Vec::new();
        for id in self.keys() {
            let stored = self
                .folder
                .get(Scope::Shared, &shared_with(name, &id))
                .unwrap();
            if let Some(text) = stored {
                let found = StoredKey::parse(&text).unwrap().unlock_with_key(&key);
                assert!(found.unwrap().matches(&id));
                given.push(id);
            }
        }
        given
    }

    /// The ids of the copies that are not encrypted.
    fn open(&mut self) -> Vec<KeyId> {
        let mut open = Vec::new();
        for id in self.keys() {
            let stored = self
                .folder
                .get(Scope::Shared, &Level::Folder.private(&id))
                .unwrap();
            if let Some(text) = stored {
                let stored = StoredKey::parse(&text).unwrap();
                assert!(matches!(stored.protection(), Protection::None));
                assert!(stored.unlock().unwrap().matches(&id));
                open.push(id);
            }
        }
        open
    }

    fn shared(&self) -> Vec<String> {
        let dict = self.dict.borrow();
        let paths = dict.matching("privkeys/").into_iter();
        paths.filter(|p| p.starts_with("shared/")).collect()
    }
}

fn error<T>(result: crate::Result<T>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("worked"),
        Err(e) => (e.kind(), e.to_string()),
    }
}

#[test]
fn every_key_goes_to_the_sharee_under_its_own_id_and_none_stays() {
    let mut alice = Alice::new(&[]);
    alice.add_key();
    alice.add_key();
    alice.change(set(user("bob"), true)).unwrap();
    assert_eq!(alice.given("bob"), alice.keys());
    assert_eq!(alice.shared().len(), 3);
    assert!(alice.open().is_empty());
    alice.change(delete(user("bob"))).unwrap();
    assert!(alice.shared().is_empty());
}

#[test]
fn rights_without_reading_share_nothing() {
    let mut alice = Alice::new(&[]);
    for who in [
        Who::Anyone,
        Who::Authenticated,
        Who::Group("g".into()),
        user("bob"),
    ] {
        alice.change(set(who.clone(), false)).unwrap();
        alice.change(delete(who)).unwrap();
    }
    assert!(alice.shared().is_empty());
    assert!(alice.asked.is_empty());
}

#[test]
fn the_open_copy_goes_with_the_last_of_those_who_need_it() {
    let mut alice = Alice::new(&[]);
    alice.add_key();
    let staff = || Who::Group("staff".into());
    let over = || Who::GroupOverride("staff".into());
    alice.change(set(Who::Anyone, true)).unwrap();
    alice.change(set(staff(), true)).unwrap();
    alice.change(set(over(), true)).unwrap();
    alice.change(set(user("carol"), true)).unwrap();
    assert_eq!(alice.open(), alice.keys());
    for who in [Who::Anyone, user("carol"), staff()] {
        alice.change(delete(who)).unwrap();
        assert_eq!(alice.open(), alice.keys());
    }
    // The right goes, the entry stays.
    alice.change(set(over(), false)).unwrap();
    assert!(alice.shared().is_empty());
}

#[test]
fn a_sharee_without_a_key_reads_by_the_open_copy_until_revoked() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("carol"), true)).unwrap();
    assert_eq!(alice.open(), alice.keys());
    // Others come and go.
    alice.change(set(user("bob"), true)).unwrap();
    alice.change(delete(user("bob"))).unwrap();
    assert_eq!(alice.open(), alice.keys());
    alice.change(delete(user("carol"))).unwrap();
    assert!(alice.shared().is_empty());
}

#[test]
fn a_sharee_who_got_a_key_meanwhile_is_upgraded() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("carol"), true)).unwrap();
    alice.users[2].1 = Some(new_key());
    // At the next look, such as after a new key.
    alice.plan(None).unwrap();
    assert_eq!(alice.given("carol"), alice.keys());
    assert!(alice.open().is_empty());
}

#[test]
fn sharing_again_replaces_what_an_old_key_was_given() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("bob"), true)).unwrap();
    alice.users[0].1 = Some(new_key());
    alice.change(set(user("bob"), true)).unwrap();
    assert_eq!(alice.given("bob"), alice.keys());
}

#[test]
fn a_new_key_reaches_those_who_read_and_nobody_else() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("bob"), true)).unwrap();
    alice.change(set(user("eve"), true)).unwrap();
    alice.change(delete(user("eve"))).unwrap();
    alice.change(set(Who::Anyone, true)).unwrap();
    alice.add_key();
    alice.asked.clear();
    alice.plan(None).unwrap();
    assert_eq!(alice.given("bob"), alice.keys());
    assert_eq!(alice.open(), alice.keys());
    assert!(alice.given("eve").is_empty());
    assert_eq!(alice.asked, ["bob"]);
    // There is nothing left to do.
    alice.dict.borrow_mut().commits_left = Some(0);
    alice.plan(None).unwrap();
}

#[test]
fn a_sharee_who_has_rotated_the_key_gets_copies_under_the_new_one() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("bob"), true)).unwrap();
    alice.change(set(user("eve"), true)).unwrap();
    let untouched = alice.given("eve");
    alice.users[0].1 = Some(new_key());
    alice.plan(None).unwrap();
    assert_eq!(alice.given("bob"), alice.keys());
    assert_eq!(alice.given("eve"), untouched);
}

#[test]
fn a_new_key_is_not_kept_from_some_because_of_others() {
    let mut alice = Alice::new(&[]);
    for name in ["bob", "nobody", "lost"] {
        let update = set(user(name), true);
        alice.acl = updated(&alice.acl, &update);
    }
    alice.plan(None).unwrap();
    assert_eq!(alice.given("bob"), alice.keys());
    assert_eq!(alice.shared().len(), 1);
}

#[test]
fn an_open_copy_stays_while_it_is_not_known_who_needs_it() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("carol"), true)).unwrap();
    alice.users[2].0 = "carol, gone";
    alice.acl = updated(&[], &set(user("lost"), true));
    alice.plan(None).unwrap();
    assert_eq!(alice.open(), alice.keys());
    alice.acl = updated(&[], &set(user("nobody"), true));
    alice.plan(None).unwrap();
    assert!(alice.open().is_empty());
}

#[test]
fn the_owner_is_no_sharee() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("alice"), true)).unwrap();
    alice.change(set(Who::Owner, true)).unwrap();
    alice.plan(None).unwrap();
    assert!(alice.shared().is_empty());
    assert!(alice.asked.is_empty());
}

#[test]
fn a_folder_without_keys_has_nothing_to_share_yet() {
    let mut alice = Alice::new(&[]);
    alice.folder = Mailbox::new(&alice.dict, "Empty");
    alice.change(set(user("bob"), true)).unwrap();
    alice.change(set(Who::Anyone, true)).unwrap();
    assert!(alice.shared().is_empty());
    alice
        .ring
        .sender(&mut alice.folder, &mut alice.session)
        .unwrap();
    alice.plan(None).unwrap();
    assert_eq!(alice.given("bob").len(), 1);
    assert_eq!(alice.open().len(), 1);
}

#[test]
fn with_a_global_key_nobody_is_asked_about() {
    let mut alice = Alice::new(&[]);
    let global = new_key().public().to_dovecot();
    alice.ring = keyring(&[
        ("mail_crypt_global_public_key", &global),
        ("mail_crypt_acl_require_secure_key_sharing", "yes"),
    ]);
    alice.folder = Mailbox::new(&alice.dict, "Empty");
    alice.change(set(user("nobody"), true)).unwrap();
    alice.change(set(Who::Anyone, true)).unwrap();
    assert!(alice.asked.is_empty());
}

#[test]
fn what_the_packaged_plugin_left_under_two_ids_is_removed() {
    let mut alice = Alice::new(&[]);
    let key = alice.keys()[0];
    let prefix = Level::Folder.private_prefix();
    for name in [
        format!("{prefix}{key}{key}"),
        format!("{prefix}626f62/{key}{key}"),
    ] {
        let value = Zeroizing::new("2:..".to_owned());
        let change = Change::set(Scope::Shared, name, value);
        alice.folder.commit(vec![change]).unwrap();
    }
    alice.change(set(user("bob"), true)).unwrap();
    assert_eq!(alice.shared().len(), 1);
    assert_eq!(alice.given("bob"), alice.keys());
}

#[test]
fn a_sharee_is_known_by_the_name_of_the_session() {
    let mut alice = Alice::new(&[]);
    let key = alice.users[0].1.clone().unwrap();
    let ask = |alice: &mut Alice, update| {
        let mut sharing = Sharing::new(
            "alice",
            &alice.acl,
            Some(update),
            &alice.ring,
            &mut alice.folder,
        )
        .unwrap();
        while let Some(name) = sharing.wanted() {
            let name_of_session = name.to_lowercase();
            let key = Some(key.public());
            let sharee = Sharee::User {
                name: name_of_session,
                key,
            };
            sharing.answer(&name, Ok(sharee)).unwrap();
        }
        sharing
            .apply(&mut alice.ring, &mut alice.folder, &mut alice.session)
            .unwrap();
    };
    ask(&mut alice, set(user("BOB"), true));
    assert_eq!(alice.given("bob"), alice.keys());
    alice.acl = updated(&[], &set(user("BOB"), true));
    ask(&mut alice, delete(user("BOB")));
    assert!(alice.shared().is_empty());
}

#[test]
fn a_key_under_its_old_id_is_shared_under_both() {
    let mut alice = Alice::new(&[]);
    let folder_key = new_key();
    let old = folder_key.old_id().unwrap();
    let user_key = alice.ring.user_public(&mut alice.session).unwrap();
    let text = folder_key.to_dovecot(Protect::Key(&user_key)).unwrap();
    alice.folder = Mailbox::new(&alice.dict, "Old");
    let change = Change::set(Scope::Private, Level::Folder.private(&old), text);
    alice.folder.commit(vec![change]).unwrap();
    alice.change(set(user("bob"), true)).unwrap();
    for id in [old, folder_key.id()] {
        let name = shared_with("bob", &id);
        assert!(alice.folder.get(Scope::Shared, &name).unwrap().is_some());
    }
}

#[test]
fn an_administrator_of_somebody_elses_folder_shares_what_is_shared_with_them() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("bob"), true)).unwrap();
    let keys = alice.keys();
    // Bob's session: his own dict, with his key, and Alice's folder.
    let dict = SharedDict::default();
    let bob_key = alice.users[0].1.clone().unwrap();
    let id = bob_key.id();
    let mut inbox = Mailbox::new(&dict, "INBOX");
    inbox
        .commit(vec![Change::set(
            Scope::Private,
            Level::User.private(&id),
            bob_key.to_dovecot(Protect::None).unwrap(),
        )])
        .unwrap();
    let mut bob = Session {
        dict,
        username: "bob".to_owned(),
    };
    alice.folder.access = Access::Shared;
    let mut ring = keyring(&[]);
    let update = Some(set(user("eve"), true));
    let mut sharing = Sharing::new("alice", &alice.acl, update, &ring, &mut alice.folder).unwrap();
    sharing.answer("eve", alice.find("eve")).unwrap();
    sharing
        .apply(&mut ring, &mut alice.folder, &mut bob)
        .unwrap();
    alice.folder.access = Access::Own;
    assert_eq!(alice.given("eve"), keys);
}

#[test]
fn the_active_key_is_the_one_that_is_named() {
    let dict = SharedDict::default();
    let mut inbox = Mailbox::new(&dict, "INBOX");
    assert!(active_key(&mut inbox).unwrap().is_none());
    let mut alice = Alice::new(&[]);
    let made = alice.ring.user_public(&mut alice.session).unwrap();
    let mut inbox = Mailbox::new(&alice.dict, "INBOX");
    let found = active_key(&mut inbox).unwrap().unwrap();
    assert_eq!(found.id(), made.id());
    // Another key under that id would get to read the folder.
    let other: PublicKey = new_key().public();
    let name = Level::User.public(&made.id());
    let value = Zeroizing::new(other.to_dovecot());
    inbox
        .commit(vec![Change::set(Scope::Shared, name, value)])
        .unwrap();
    assert!(active_key(&mut inbox).is_err());
}
