#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use crate::error::Result;
use crate::key::{KeyId, PrivateKey, Protect};
use crate::store::admin::{self, change_password};
use crate::store::attributes::{Attributes, Level, Scope, shared_with};
use crate::store::testing::{Mailbox, Session, SharedDict, keyring};

const PASSWORD: (&str, &str) = ("mail_crypt_private_password", "secret");

/// Stores a mail in a session of its own; the key that it is encrypted to.
fn store(dict: &SharedDict, folder: &str) -> KeyId {
    let mut folder = Mailbox::new(dict, folder);
    let sender = keyring(&[PASSWORD])
        .sender(&mut folder, &mut Session::new(dict))
        .unwrap();
    sender.borrow().id()
}

/// Opens a mail to the key `id` in a session of its own, as a reader does.
fn open(dict: &SharedDict, folder: &str, id: KeyId, password: &str) -> Result<PrivateKey> {
    let mut ring = keyring(&[("mail_crypt_private_password", password)]);
    let (mut folder, mut session) = (Mailbox::new(dict, folder), Session::new(dict));
    let key = ring.private_key(&[id], &mut folder, &mut session);
    ring.settle(&mut folder, &mut session);
    key
}

/// What becomes of the attributes of a mailbox whose GUID is lost.
fn lose_guid(dict: &SharedDict, mailbox: &str) {
    let path = format!("/{mailbox}/");
    let lost = |name: &String| name.contains(&path);
    dict.borrow_mut().entries.retain(|name, _| !lost(name));
}

/// As the packaged plugin stores keys.
fn forget_ids(dict: &SharedDict) {
    let by_id = dict.borrow().by_id("");
    for name in by_id {
        dict.borrow_mut().entries.remove(&name);
    }
}

fn by_ids(cannot_list: bool) -> SharedDict {
    let dict = SharedDict::default();
    dict.borrow_mut().cannot_list = cannot_list;
    dict
}

#[test]
fn keys_are_found_whatever_their_folders_are_called() {
    for cannot_list in [false, true] {
        let dict = by_ids(cannot_list);
        let id = store(&dict, "Work");
        lose_guid(&dict, "Work");
        lose_guid(&dict, "INBOX");
        open(&dict, "Other", id, "secret").unwrap();
        // From now on the packaged plugin finds them, too.
        forget_ids(&dict);
        open(&dict, "Other", id, "secret").unwrap();
        assert_eq!(dict.borrow().matching("/INBOX/").len(), 3);
        assert_eq!(dict.borrow().matching("/Other/").len(), 2);
    }
}

#[test]
fn a_user_whose_inbox_has_another_guid_keeps_the_active_key() {
    for cannot_list in [false, true] {
        let dict = by_ids(cannot_list);
        store(&dict, "Work");
        let before = dict.borrow().matching("/INBOX/");
        lose_guid(&dict, "INBOX");
        store(&dict, "Other");
        assert_eq!(dict.borrow().matching("/INBOX/"), before);
    }
}

#[test]
fn keys_that_have_no_second_place_get_it_when_they_are_met() {
    for cannot_list in [false, true] {
        let dict = by_ids(cannot_list);
        let first = store(&dict, "Work");
        forget_ids(&dict);
        // Delivery unlocks nothing, and is occasion enough.
        assert_eq!(store(&dict, "Work"), first);
        lose_guid(&dict, "Work");
        lose_guid(&dict, "INBOX");
        open(&dict, "Other", first, "secret").unwrap();

        let second = store(&dict, "New");
        forget_ids(&dict);
        open(&dict, "New", second, "secret").unwrap();
        lose_guid(&dict, "New");
        lose_guid(&dict, "INBOX");
        open(&dict, "Other", second, "secret").unwrap();
    }
}

#[test]
fn all_keys_of_a_folder_get_their_second_place_at_once() {
    let dict = SharedDict::default();
    let old = store(&dict, "Work");
    let (mut folder, mut host) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    admin::folder_key(&mut keyring(&[PASSWORD]), &mut folder, &mut host, true).unwrap();
    forget_ids(&dict);
    store(&dict, "Work");
    lose_guid(&dict, "Work");
    open(&dict, "Other", old, "secret").unwrap();
}

#[test]
fn a_session_that_only_looks_at_settled_keys_changes_nothing() {
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    dict.borrow_mut().commits_left = Some(0);
    let before = dict.borrow().entries.clone();
    assert_eq!(store(&dict, "Work"), id);
    open(&dict, "Work", id, "secret").unwrap();
    assert_eq!(dict.borrow().entries, before);
    assert!(dict.borrow().warnings.is_empty());
}

#[test]
fn a_key_that_cannot_be_filed_is_used_all_the_same() {
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    lose_guid(&dict, "Work");
    dict.borrow_mut().commits_left = Some(0);
    open(&dict, "Work", id, "secret").unwrap();
    assert_eq!(dict.borrow().warnings.len(), 1);
}

#[test]
fn where_users_may_not_write_nobody_is_warned_of_a_key_that_cannot_be_filed() {
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    let by_id = dict.borrow().by_id(&id.to_string());
    for name in by_id {
        dict.borrow_mut().entries.remove(&name);
    }
    let (mut ring, mut session) = (keyring(&[PASSWORD]), Session::new(&dict));
    let mut folder = Mailbox::new(&dict, "Work");
    folder.access = crate::store::Access::Public;
    dict.borrow_mut().commits_left = Some(0);
    ring.private_key(&[id], &mut folder, &mut session).unwrap();
    ring.settle(&mut folder, &mut session);
    let dict = dict.borrow();
    assert!(dict.warnings.is_empty());
    assert!(dict.decisions.iter().any(|d| d.contains("can't be filed")));
}

#[test]
fn a_key_that_cannot_be_filed_is_tried_once_a_session() {
    let dict = SharedDict::default();
    store(&dict, "Work");
    forget_ids(&dict);
    let (mut ring, mut session) = (keyring(&[PASSWORD]), Session::new(&dict));
    let mut folder = Mailbox::new(&dict, "Work");
    dict.borrow_mut().commits_left = Some(0);
    ring.sender(&mut folder, &mut session).unwrap();
    dict.borrow_mut().commits_left = None;
    ring.sender(&mut folder, &mut session).unwrap();
    assert!(dict.borrow().by_id("").is_empty());
    store(&dict, "Work");
    assert!(!dict.borrow().by_id("").is_empty());
}

#[test]
fn the_active_user_key_stays_when_another_one_is_deleted_and_inbox_gets_another_guid() {
    let dict = SharedDict::default();
    store(&dict, "Work");
    let old = dict.borrow().by_id("").into_iter();
    let old: Vec<_> = old
        .map(|n| (dict.borrow().entries[&n].clone(), n))
        .collect();
    let (mut ring, mut session) = (keyring(&[PASSWORD]), Session::new(&dict));
    let first = ring.user_public(&mut session).unwrap().id();
    // As the packaged plugin makes another one.
    let second = admin::user_key(&mut ring, &mut session, true).unwrap().id;
    forget_ids(&dict);
    for (value, name) in old.into_iter().filter(|(_, n)| n.contains("pvt/server/")) {
        dict.borrow_mut().entries.insert(name, value);
    }
    let mut inbox = Mailbox::new(&dict, "INBOX");
    let (level, name) = (Level::User, first.to_string());
    let deletion =
        admin::KeyDeletion::find(&mut ring, level, &mut inbox, &mut session, &name, false).unwrap();
    deletion
        .delete(&mut ring, &mut inbox, &session, false)
        .unwrap();
    lose_guid(&dict, "INBOX");
    let mut ring = keyring(&[PASSWORD]);
    assert_eq!(ring.user_public(&mut session).unwrap().id(), second);
}

/// Another program changes the password under INBOX's GUID alone.
fn change_elsewhere(dict: &SharedDict, id: &KeyId, new: &str) {
    let name = format!("priv/INBOX/{}", Level::User.private(id));
    let mut ring = keyring(&[PASSWORD]);
    let mut inbox = Mailbox::new(dict, "INBOX");
    let pem = admin::export(
        &mut ring,
        Level::User,
        &mut inbox,
        &mut Session::new(dict),
        &id.to_string(),
    );
    let key = crate::key::StoredKey::parse(&pem.unwrap()).unwrap();
    let key = key.unlock().unwrap();
    let text = key.to_dovecot(Protect::password(new.as_bytes())).unwrap();
    dict.borrow_mut().entries.insert(name, text.to_string());
}

#[test]
fn a_password_that_was_changed_in_one_place_reaches_the_other_and_the_old_one_is_not_lost() {
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    let mut ring = keyring(&[PASSWORD]);
    let user = ring.user_public(&mut Session::new(&dict)).unwrap().id();
    change_elsewhere(&dict, &user, "new");
    open(&dict, "Work", id, "new").unwrap();
    open(&dict, "Work", id, "secret").unwrap();
    lose_guid(&dict, "INBOX");
    open(&dict, "Work", id, "secret").unwrap();
    lose_guid(&dict, "INBOX");
    open(&dict, "Work", id, "new").unwrap();
    // A change by the command leaves one text.
    let mut ring = keyring(&[PASSWORD]);
    change_password(&mut ring, &mut Session::new(&dict), Some(b"new"), b"newest").unwrap();
    assert!(open(&dict, "Work", id, "secret").is_err());
    assert!(open(&dict, "Work", id, "new").is_err());
    open(&dict, "Work", id, "newest").unwrap();
}

#[test]
fn whom_a_folder_is_shared_with_reads_under_any_guid() {
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    let key = open(&dict, "Work", id, "secret").unwrap();
    let name = shared_with("alice", &id);
    let text = key.to_dovecot(Protect::None).unwrap();
    let change = crate::store::Change::set(Scope::Shared, name.clone(), text);
    Mailbox::new(&dict, "Work").commit(vec![change]).unwrap();
    lose_guid(&dict, "Work");
    let mut folder = Mailbox::new(&dict, "Work");
    folder.access = crate::store::Access::Shared;
    let before = dict.borrow().entries.clone();
    let (mut ring, mut session) = (keyring(&[]), Session::new(&dict));
    ring.private_key(&[id], &mut folder, &mut session).unwrap();
    ring.settle(&mut folder, &mut session);
    assert_eq!(
        dict.borrow().entries,
        before,
        "the owner's dict is the owner's"
    );
    // Taking the right back takes both.
    let change = crate::store::Change::unset(Scope::Shared, name);
    folder.commit(vec![change]).unwrap();
    assert!(dict.borrow().by_id("616c696365").is_empty());
}

#[test]
fn who_may_read_no_more_keeps_no_copy_when_the_folder_has_another_guid() {
    use crate::store::acl::{Entry, Mode, Update, Who};
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    let key = open(&dict, "Work", id, "secret").unwrap();
    let open_copy = Level::Folder.private(&id);
    for name in [shared_with("bob", &id), open_copy] {
        let text = key.to_dovecot(Protect::None).unwrap();
        let change = crate::store::Change::set(Scope::Shared, name, text);
        Mailbox::new(&dict, "Work").commit(vec![change]).unwrap();
    }
    lose_guid(&dict, "Work");
    open(&dict, "Work", id, "secret").unwrap();
    let bob = Who::User("bob".to_owned());
    let entry = Entry {
        global: false,
        who: bob.clone(),
        read: Some(true),
        denied: None,
    };
    let update = Update {
        who: bob,
        mode: Mode::Clear,
        denied_mode: Mode::Clear,
        read: None,
        denied: None,
    };
    let mut ring = keyring(&[PASSWORD]);
    let (mut folder, mut session) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    let mut sharing =
        crate::store::Sharing::new("alice", &[entry], Some(update), &ring, &mut folder).unwrap();
    while let Some(name) = sharing.wanted() {
        sharing
            .answer(&name, Ok(crate::store::Sharee::Unknown))
            .unwrap();
    }
    sharing.apply(&mut ring, &mut folder, &mut session).unwrap();
    let left = dict.borrow().entries.clone();
    let left = left
        .keys()
        .filter(|n| n.starts_with("shared/") && n.contains("privkeys/"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_mail_names_its_key_by_another_id_than_the_dict_under_any_guid() {
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    let old = open(&dict, "Work", id, "secret").unwrap().old_id().unwrap();
    lose_guid(&dict, "Work");
    open(&dict, "Other", old, "secret").unwrap();
}

#[test]
fn a_deleted_key_does_not_come_back() {
    let dict = SharedDict::default();
    let id = store(&dict, "Work");
    let mut ring = keyring(&[PASSWORD]);
    let (mut folder, mut session) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    lose_guid(&dict, "Work");
    // Found by its id, and noted to be filed.
    ring.private_key(&[id], &mut folder, &mut session).unwrap();
    let by_id = dict.borrow().by_id(&id.to_string());
    for name in by_id {
        dict.borrow_mut().entries.remove(&name);
    }
    ring.settle(&mut folder, &mut session);
    assert!(
        !dict
            .borrow()
            .entries
            .keys()
            .any(|n| n.contains(&id.to_string()))
    );
}
