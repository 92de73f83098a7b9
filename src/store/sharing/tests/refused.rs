//! Sharing that is refused or fails: who gets no keys, and what stays as it was.

use super::{Alice, delete, error, new_key, set, user};
use crate::ErrorKind;
use crate::key::Protect;
use crate::store::acl::{Who, updated};
use crate::store::attributes::{Attributes, Change, Level, Scope};
use crate::store::testing::keyring;

#[test]
fn whoever_has_no_key_is_refused_where_sharing_must_be_secure() {
    let settings = [("mail_crypt_acl_require_secure_key_sharing", "yes")];
    let mut alice = Alice::new(&settings);
    for who in [
        Who::Anyone,
        Who::Authenticated,
        Who::Group("g".into()),
        user("carol"),
    ] {
        let (kind, text) = error(alice.change(set(who.clone(), true)));
        assert_eq!(kind, ErrorKind::Setting);
        assert!(text.contains("mail_crypt_acl_require_secure_key_sharing"));
        // Nobody reads by these.
        alice.change(set(who.clone(), false)).unwrap();
        alice.change(delete(who)).unwrap();
    }
    alice.change(set(user("bob"), true)).unwrap();
    assert_eq!(alice.shared().len(), 1);
    // A key that is made later doesn't get out either.
    alice.acl = updated(&alice.acl, &set(Who::Anyone, true));
    alice.add_key();
    alice.plan(None).unwrap();
    assert!(alice.open().is_empty());
    assert_eq!(alice.given("bob"), alice.keys());
    assert_eq!(alice.dict.borrow().warnings.len(), 2);
}

#[test]
fn an_older_open_copy_is_removed_with_its_readers_where_sharing_must_be_secure() {
    let mut alice = Alice::new(&[]);
    alice.change(set(Who::Anyone, true)).unwrap();
    alice.ring = keyring(&[("mail_crypt_acl_require_secure_key_sharing", "yes")]);
    alice.change(set(user("bob"), true)).unwrap();
    assert_eq!(alice.open(), alice.keys());
    alice.change(delete(Who::Anyone)).unwrap();
    assert!(alice.open().is_empty());
}

#[test]
fn nobody_gets_rights_who_can_not_be_found() {
    let mut alice = Alice::new(&[]);
    let (kind, text) = error(alice.change(set(user("nobody"), true)));
    assert_eq!(kind, ErrorKind::NoKey);
    assert!(text.contains("nobody"));
    let (kind, _) = error(alice.change(set(user("lost"), true)));
    assert_eq!(kind, ErrorKind::Store);
    assert!(alice.shared().is_empty());
    // Rights that nobody reads by, and taking rights away, are never in doubt.
    alice.change(set(user("nobody"), false)).unwrap();
    alice.change(delete(user("nobody"))).unwrap();
    alice.change(delete(user("lost"))).unwrap();
}

#[test]
fn a_key_that_can_not_be_unlocked_stops_the_sharing_before_anything_changes() {
    let mut alice = Alice::new(&[]);
    let foreign = new_key();
    let text = foreign.to_dovecot(Protect::password(b"forgotten")).unwrap();
    let name = Level::Folder.private(&foreign.id());
    let change = Change::set(Scope::Private, name, text);
    alice.folder.commit(vec![change]).unwrap();
    for who in [user("bob"), Who::Anyone] {
        let (_, text) = error(alice.change(set(who, true)));
        assert!(text.contains(&foreign.id().to_string()), "{text}");
        assert!(alice.shared().is_empty());
    }
}

#[test]
fn a_dict_that_fails_changes_nothing() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("bob"), true)).unwrap();
    let before = alice.dict.borrow().entries.clone();
    for update in [
        set(user("eve"), true),
        delete(user("bob")),
        set(Who::Anyone, true),
    ] {
        alice.dict.borrow_mut().commits_left = Some(0);
        let (kind, _) = error(alice.change(update.clone()));
        assert_eq!(kind, ErrorKind::Store);
        alice.dict.borrow_mut().commits_left = None;
        alice.dict.borrow_mut().down = true;
        let (kind, _) = error(alice.change(update));
        assert_eq!(kind, ErrorKind::Store);
        alice.dict.borrow_mut().down = false;
        assert!(alice.dict.borrow().entries == before);
    }
}

#[test]
fn keys_follow_when_the_rights_could_not_be_changed() {
    let mut alice = Alice::new(&[]);
    alice.change(set(user("bob"), true)).unwrap();
    alice.change(set(user("carol"), true)).unwrap();
    let before = alice.dict.borrow().entries.clone();
    for update in [
        set(user("eve"), true),
        set(user("bob"), true),
        delete(user("bob")),
        delete(user("carol")),
    ] {
        let mut sharing = alice.plan(Some(update)).unwrap();
        assert!(alice.dict.borrow().entries != before);
        sharing.undo(&mut alice.folder).unwrap();
        assert!(alice.dict.borrow().entries == before);
    }
}
