#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use crate::error::ErrorKind;
use crate::key::KeyId;
use crate::store::admin::{self, change_password};
use crate::store::attributes::{Attributes, Change, Level, Scope};
use crate::store::testing::{Mailbox, Session, SharedDict, guid, keyring};

/// A mail is stored in `folder` in a session of its own; the key that it is encrypted to.
fn store(dict: &SharedDict, folder: &str) -> KeyId {
    let mut ring = keyring(&[]);
    let mut folder = Mailbox::new(dict, folder);
    let sender = ring.sender(&mut folder, &mut Session::new(dict)).unwrap();
    sender.borrow().id()
}

/// Can a mail to this key be read in `folder`?
fn readable(dict: &SharedDict, folder: &str, id: KeyId) -> bool {
    let mut folder = Mailbox::new(dict, folder);
    keyring(&[])
        .private_key(&[id], &mut folder, &mut Session::new(dict))
        .is_ok()
}

fn carry(dict: &SharedDict, from: &str, to: &str) {
    let mut from = Mailbox::new(dict, from);
    crate::store::carry::carry(&mut from, &guid(to), &mut Session::new(dict)).unwrap();
}

#[test]
fn mail_is_readable_under_the_new_guid() {
    let dict = SharedDict::default();
    let old = store(&dict, "old");
    carry(&dict, "old", "new");
    assert!(readable(&dict, "new", old));
    assert_eq!(store(&dict, "new"), old);
    assert!(readable(&dict, "old", old), "what was there is left there");
}

#[test]
fn keys_of_the_user_follow_inbox() {
    let dict = SharedDict::default();
    store(&dict, "Work");
    carry(&dict, "INBOX", "new");
    let old = dict.borrow().matching("/INBOX/");
    assert_eq!(old.len(), 3);
    for name in old {
        let new = name.replace("/INBOX/", "/new/");
        assert_eq!(dict.borrow().entries[&new], dict.borrow().entries[&name]);
    }
}

#[test]
fn what_is_filed_by_its_id_is_not_replaced_by_what_an_old_guid_still_has() {
    let dict = SharedDict::default();
    store(&dict, "Work");
    carry(&dict, "INBOX", "new");
    // INBOX goes by another GUID while its password changes, and then by the old one again.
    let (mut ring, mut session) = (keyring(&[]), Session::new(&dict));
    change_password(&mut ring, &mut session, None, b"secret").unwrap();
    admin::user_key(&mut ring, &mut session, true).unwrap();
    let by_id = |dict: &SharedDict| -> Vec<_> {
        let names = dict.borrow().by_id("pvt/server/");
        let value = |name: String| (dict.borrow().entries[&name].clone(), name);
        names.into_iter().map(value).collect()
    };
    let before = by_id(&dict);
    carry(&dict, "new", "newer");
    assert_eq!(by_id(&dict), before);
}

#[test]
fn what_the_new_guid_has_already_stays_active_and_both_can_be_read() {
    let dict = SharedDict::default();
    let (old, new) = (store(&dict, "old"), store(&dict, "new"));
    carry(&dict, "old", "new");
    assert!(readable(&dict, "new", old) && readable(&dict, "new", new));
    assert_eq!(store(&dict, "new"), new);
}

#[test]
fn keys_that_are_shared_follow() {
    let dict = SharedDict::default();
    store(&dict, "old");
    let name = crate::store::attributes::shared_with("bob", &KeyId([7; 32]));
    let change = Change::set(Scope::Shared, name.clone(), "key".to_owned().into());
    Mailbox::new(&dict, "old").commit(vec![change]).unwrap();
    carry(&dict, "old", "new");
    let found = Mailbox::new(&dict, "new").get(Scope::Shared, &name);
    assert_eq!(found.unwrap().unwrap().as_str(), "key");
}

#[test]
fn the_active_key_follows_where_the_dict_cannot_list() {
    let dict = SharedDict::default();
    let old = store(&dict, "old");
    dict.borrow_mut().cannot_list = true;
    carry(&dict, "old", "new");
    assert!(readable(&dict, "new", old));
    assert!(dict.borrow().warnings.iter().any(|w| w.contains("GUID")));
}

#[test]
fn a_dict_that_is_down_keeps_the_guid_from_changing() {
    let dict = SharedDict::default();
    store(&dict, "old");
    dict.borrow_mut().down = true;
    let mut old = Mailbox::new(&dict, "old");
    let done = crate::store::carry::carry(&mut old, &guid("new"), &mut Session::new(&dict));
    assert_eq!(done.err().unwrap().kind(), ErrorKind::Store);
}

#[test]
fn a_folder_without_keys_gets_none_and_waits_for_no_lock() {
    let dict = SharedDict::default();
    let mut new = Mailbox::new(&dict, "new");
    let _held = (new.lock(Level::User), new.lock(Level::Folder));
    carry(&dict, "old", "new");
    assert!(dict.borrow().entries.is_empty());
}
