//! Passwords of the user's keys.

use super::*;

#[test]
fn a_password_changes_in_both_places() {
    let mut user = User::new(&[SECRET]);
    let id = user.user_key(false).unwrap().id;
    user.password(None, NewPassword::Set(b"new")).unwrap();
    user.dict
        .borrow_mut()
        .entries
        .retain(|path, _| !path.contains("/INBOX/"));
    let new = ("mail_crypt_private_password", "new");
    let mut later = User::again(&user.dict, &[new]);
    later.export(Level::User, "INBOX", &id).unwrap();
    assert_eq!(later.password(None, NewPassword::Clear).unwrap(), 1);
    // And both are there again.
    assert_eq!(
        later.protection(Level::User, "INBOX", &id),
        Protection::None
    );
}

#[test]
fn a_password_changes_for_all_keys_or_none() {
    let mut user = User::new(&[SECRET]);
    let keys = [(); 3].map(|()| user.user_key(true).unwrap().id);
    assert_eq!(
        user.password(Some("secret"), NewPassword::Set(b"new"))
            .unwrap(),
        3
    );
    let before = user.entries();
    let e = error(user.password(Some("secret"), NewPassword::Set(b"other")));
    assert_eq!(e.kind(), ErrorKind::WrongPassword);
    assert!(
        keys.iter()
            .any(|id| e.to_string().contains(&id.to_string())),
        "{e}"
    );
    assert_eq!(user.entries(), before);

    // One of them under another password, and none is changed.
    let odd = PrivateKey::generate("prime256v1").unwrap();
    let text = odd.to_dovecot(Protect::password(b"odd")).unwrap();
    let name = format!("priv/INBOX/{}", Level::User.private(&odd.id()));
    user.dict
        .borrow_mut()
        .entries
        .insert(name.clone(), text.to_string());
    let before = user.entries();
    let e = error(user.password(Some("new"), NewPassword::Set(b"other")));
    assert!(e.to_string().contains(&odd.id().to_string()), "{e}");
    assert_eq!(user.entries(), before);
}

#[test]
fn no_new_user_key_is_made_under_a_password_that_was_just_changed() {
    let mut user = User::new(&[SECRET]);
    user.folder_key("Work", false).unwrap();
    let id = user.user_key(false).unwrap().id;
    user.export(Level::User, "INBOX", &id).unwrap();
    let mut other = User::again(&user.dict, &[SECRET]);
    other.password(None, NewPassword::Set(b"new")).unwrap();
    let before = user.entries();
    assert_eq!(error(user.user_key(true)).kind(), ErrorKind::Store);
    assert_eq!(user.entries(), before);
}

#[test]
fn a_password_change_that_was_interrupted_can_be_finished() {
    let mut user = User::new(&[SECRET]);
    let keys = [(); 3].map(|()| user.user_key(true).unwrap().id);
    let before = user.entries();
    user.password(None, NewPassword::Set(b"new")).unwrap();
    // As a dict leaves it that has stored one of three.
    for id in &keys[1..] {
        let name = format!("priv/INBOX/{}", Level::User.private(id));
        let text = before[&name].clone();
        user.dict.borrow_mut().entries.insert(name, text);
    }
    let e = error(user.password(Some("secret"), NewPassword::Clear));
    assert_eq!(e.kind(), ErrorKind::WrongPassword);
    let count = user.password(Some("secret"), NewPassword::Set(b"new"));
    assert_eq!(count.unwrap(), 3);
    assert_eq!(user.password(Some("new"), NewPassword::Clear).unwrap(), 3);
}

#[test]
fn a_password_is_cleared_also_where_one_is_configured() {
    let mut user = User::new(&[SECRET]);
    let id = user.user_key(false).unwrap().id;
    assert_eq!(user.password(None, NewPassword::Clear).unwrap(), 1);
    assert_eq!(user.protection(Level::User, "INBOX", &id), Protection::None);
    assert_eq!(user.password(None, NewPassword::Set(b"x")).unwrap(), 1);
    assert_eq!(
        user.protection(Level::User, "INBOX", &id),
        Protection::Password
    );
}

#[test]
fn a_password_that_must_not_be_is_refused() {
    let required = ("mail_crypt_require_encrypted_user_key", "yes");
    let mut user = User::new(&[SECRET, required]);
    user.user_key(false).unwrap();
    let before = user.entries();
    for (new, kind) in [
        (NewPassword::Set(b""), ErrorKind::Usage),
        (NewPassword::Clear, ErrorKind::Setting),
    ] {
        assert_eq!(error(user.password(Some("secret"), new)).kind(), kind);
    }
    assert_eq!(user.entries(), before);
    let mut later = User::again(&user.dict, &[]);
    let e = error(later.password(None, NewPassword::Set(b"new")));
    assert_eq!(e.kind(), ErrorKind::NoKey);
}

#[test]
fn a_key_under_a_key_has_no_password() {
    let above = PrivateKey::generate("prime256v1").unwrap();
    let above = above.to_dovecot(Protect::None).unwrap();
    let mut user = User::new(&[("mail_crypt_private_key", &above)]);
    let id = user.user_key(false).unwrap().id;
    let before = user.entries();
    let e = error(user.password(None, NewPassword::Set(b"new")));
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains(&id.to_string()), "{e}");
    assert_eq!(user.entries(), before);
}
