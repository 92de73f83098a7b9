//! Keys that are deleted, and those that aren't since something needs them.

use super::super::super::attributes::shared_with;
use super::super::super::saved;
use super::*;

#[test]
fn the_active_key_is_not_deleted_unless_forced() {
    let mut user = User::new(&[]);
    let id = user.folder_key("Work", false).unwrap().id;
    let e = error(user.delete(Level::Folder, "Work", &id, false));
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("Work"), "{e}");
    user.delete(Level::Folder, "Work", &id, true).unwrap();
    assert!(user.dict.borrow().matching("Work").is_empty());
    assert!(user.folder_key("Work", false).unwrap().fresh);
}

#[test]
fn a_key_that_a_mail_or_a_folder_needs_is_not_deleted() {
    let mut user = User::new(&[]);
    let id = user.folder_key("Work", false).unwrap().id;
    user.folder_key("Work", true).unwrap();
    let deletion = user
        .begin_deletion(Level::Folder, "Work", &id, false)
        .unwrap();
    let pem = user.export(Level::Folder, "Work", &id).unwrap();
    let key = StoredKey::parse(&pem).unwrap().unlock().unwrap();
    let other = KeyId([7; 32]);
    deletion.check_mail(1, &[other]).unwrap();
    let e = error(deletion.check_mail(17, &[other, id]));
    assert!(e.to_string().contains("17"), "{e}");
    error(deletion.check_mail(1, &[key.old_id().unwrap()]));

    let old = user.user_key(false).unwrap().id;
    user.user_key(true).unwrap();
    let deletion = user
        .begin_deletion(Level::User, "INBOX", &old, false)
        .unwrap();
    let e = error(deletion.check_folder(&mut user.folder("Work"), &user.session));
    assert!(e.to_string().contains("Work"), "{e}");
    deletion
        .check_folder(&mut user.folder("Empty"), &user.session)
        .unwrap();
}

#[test]
fn a_key_is_deleted_for_others_too_when_its_folder_has_another_guid() {
    let mut user = User::new(&[]);
    let id = user.folder_key("Work", false).unwrap().id;
    let text = user.export(Level::Folder, "Work", &id).unwrap();
    let copy = Change::set(Scope::Shared, shared_with("bob", &id), text);
    let other = Change::set(
        Scope::Shared,
        shared_with("bob", &KeyId([7; 32])),
        Zeroizing::new(String::new()),
    );
    user.folder("Work").commit(vec![copy, other]).unwrap();
    let lost = |name: &String| name.contains("/Work/");
    user.dict.borrow_mut().entries.retain(|name, _| !lost(name));
    user.folder_key("Work", true).unwrap();
    user.delete(Level::Folder, "Work", &id, true).unwrap();
    let of_bob = user.dict.borrow().by_id("626f62");
    assert_eq!(of_bob.len(), 1, "{of_bob:?}");
}

#[test]
fn a_deleted_key_is_in_no_place() {
    let mut user = User::new(&[]);
    for (level, name) in [(Level::Folder, "Work"), (Level::User, "INBOX")] {
        let old = user.folder_key("Work", true).unwrap().id;
        let id = match level {
            Level::Folder => old,
            Level::User => user.user_key(false).unwrap().id,
        };
        user.folder_key("Work", true).unwrap();
        user.user_key(true).unwrap();
        user.rekey("Work").unwrap();
        user.delete(level, name, &id, false).unwrap();
        let id = id.to_string();
        assert!(!user.entries().keys().any(|path| path.contains(&id)));
    }
}

#[test]
fn a_key_is_deleted_where_no_folder_has_it() {
    let mut user = User::new(&[]);
    let id = user.folder_key("Gone", false).unwrap().id;
    user.dict
        .borrow_mut()
        .entries
        .retain(|path, _| !path.contains("/Gone/"));
    let mut inbox = user.folder("INBOX");
    let none = HashSet::new();
    let found = list_without_folder(&mut inbox, &none).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, id.to_string());
    user.delete(Level::Folder, "Work", &id, false).unwrap();
    assert!(list_without_folder(&mut inbox, &none).unwrap().is_empty());
}

#[test]
fn a_user_key_that_a_shared_folder_needs_is_not_deleted() {
    let mut user = User::new(&[]);
    let old = user.user_key(false).unwrap().id;
    let public = user.ring.user_public(&mut user.session).unwrap();
    user.user_key(true).unwrap();
    let theirs = PrivateKey::generate("prime256v1").unwrap();
    let text = theirs.to_dovecot(Protect::Key(&public)).unwrap();
    let mut folder = user.folder("shared/bob");
    folder.access = crate::store::Access::Shared;
    let name = shared_with(user.session.username(), &theirs.id());
    folder
        .commit(vec![Change::set(Scope::Shared, name, text)])
        .unwrap();
    let deletion = user
        .begin_deletion(Level::User, "INBOX", &old, false)
        .unwrap();
    error(deletion.check_folder(&mut folder, &user.session));
}

#[test]
fn a_key_is_deleted_with_its_copies_for_others() {
    let mut user = User::new(&[]);
    let id = user.folder_key("Work", false).unwrap().id;
    let kept = user.folder_key("Work", true).unwrap().id;
    for id in [id, kept] {
        for name in [shared_with("bob", &id), Level::Folder.private(&id)] {
            let text = Zeroizing::new("copy".to_owned());
            let change = Change::set(Scope::Shared, name, text);
            user.folder("Work").commit(vec![change]).unwrap();
        }
    }
    user.delete(Level::Folder, "Work", &id, false).unwrap();
    assert!(user.dict.borrow().matching(&id.to_string()).is_empty());
    assert_eq!(user.dict.borrow().matching(&kept.to_string()).len(), 4);
    error(user.delete(Level::Folder, "Work", &id, false));
}

#[test]
fn another_users_folder_loses_no_key() {
    let mut alice = User::new(&[]);
    let old = alice.folder_key("Work", false).unwrap().id;
    alice.folder_key("Work", true).unwrap();
    let mut bob = User::new(&[]);
    let mut folder = alice.folder("Work");
    folder.access = crate::store::Access::Shared;
    for force in [false, true] {
        let (ring, host) = (&mut bob.ring, &mut bob.session);
        let found = KeyDeletion::find(
            ring,
            Level::Folder,
            &mut folder,
            host,
            &old.to_string(),
            force,
        );
        assert_eq!(error(found).kind(), ErrorKind::Refused);
    }
}

#[test]
fn a_mail_that_was_begun_under_a_deleted_key_is_not_stored() {
    let mut user = User::new(&[]);
    let mut folder = user.folder("Work");
    let old = user.folder_key("Work", false).unwrap().id;
    saved::check(&mut folder, &[old]).unwrap();
    user.folder_key("Work", true).unwrap();
    saved::check(&mut folder, &[old]).unwrap();
    let mut deletion = user
        .begin_deletion(Level::Folder, "Work", &old, false)
        .unwrap();
    let before = user.entries();
    deletion.retire(&mut folder).unwrap();
    let e = saved::check(&mut folder, &[old]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Store);
    user.export(Level::Folder, "Work", &old).unwrap();
    deletion.undo(&mut folder).unwrap();
    assert_eq!(user.entries(), before);
    saved::check(&mut folder, &[old]).unwrap();
}

#[test]
fn an_old_session_makes_no_keys_under_a_deleted_user_key() {
    let mut user = User::new(&[]);
    let old = user.user_key(false).unwrap().id;
    user.ring.user_public(&mut user.session).unwrap();
    let mut admin = User::again(&user.dict, &[]);
    let new = admin.user_key(true).unwrap().id;
    admin.delete(Level::User, "INBOX", &old, false).unwrap();
    let mut folder = user.folder("Late");
    user.ring.sender(&mut folder, &mut user.session).unwrap();
    let id = user.list(Level::Folder, "Late")[0].name.parse().unwrap();
    assert_eq!(
        admin.protection(Level::Folder, "Late", &id),
        Protection::Key(new)
    );
}

#[test]
fn an_old_session_imports_no_folder_key_under_a_deleted_user_key() {
    let mut user = User::new(&[]);
    let old = user.user_key(false).unwrap().id;
    let lost = user.folder_key("Work", false).unwrap().id;
    let pem = user.export(Level::Folder, "Work", &lost).unwrap();
    user.delete(Level::Folder, "Work", &lost, true).unwrap();
    user.ring.user_public(&mut user.session).unwrap();
    let mut admin = User::again(&user.dict, &[]);
    let new = admin.user_key(true).unwrap().id;
    admin.delete(Level::User, "INBOX", &old, false).unwrap();
    user.import(Level::Folder, "Work", &pem, true).unwrap();
    assert_eq!(
        admin.protection(Level::Folder, "Work", &lost),
        Protection::Key(new)
    );
    admin.export(Level::Folder, "Work", &lost).unwrap();
}

#[test]
fn an_old_session_puts_no_folder_key_under_a_user_key_that_was_replaced() {
    let mut user = User::new(&[]);
    let id = user.folder_key("Work", false).unwrap().id;
    let target = rekey_target(&mut user.ring, &mut user.session).unwrap();
    let mut admin = User::again(&user.dict, &[]);
    let new = admin.user_key(true).unwrap().id;
    admin.rekey("Work").unwrap();
    let before = user.entries();
    let mut folder = user.folder("Work");
    let late = rekey_folder(&mut user.ring, &mut folder, &mut user.session, &target);
    assert_eq!(error(late).kind(), ErrorKind::Store);
    assert_eq!(user.entries(), before);
    assert_eq!(
        admin.protection(Level::Folder, "Work", &id),
        Protection::Key(new)
    );
}
