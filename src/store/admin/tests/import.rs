//! Keys that are exported, and come back.

use super::*;

#[test]
fn a_lost_key_comes_back_from_its_export() {
    for (level, name) in [(Level::User, "INBOX"), (Level::Folder, "Work")] {
        let mut user = User::new(&[SECRET]);
        let folder = user.folder_key("Work", false).unwrap().id;
        let id = match level {
            Level::User => user.user_key(false).unwrap().id,
            Level::Folder => folder,
        };
        let pem = user.export(level, name, &id).unwrap();
        let lost = format!("priv/{name}/{}", level.private(&id));
        user.dict.borrow_mut().lose(&lost);
        let mut later = User::again(&user.dict, &[SECRET]);
        error(later.export(Level::Folder, "Work", &folder));
        let imported = later.import(level, name, &pem, false).unwrap();
        assert_eq!(imported, Imported { id, active: true });
        assert_ne!(later.protection(level, name, &id), Protection::None);
        later.export(Level::Folder, "Work", &folder).unwrap();
    }
}

#[test]
fn a_key_that_nothing_names_is_only_imported_by_force() {
    let mut user = User::new(&[]);
    let active = user.folder_key("Work", false).unwrap().id;
    let other = PrivateKey::generate("secp384r1").unwrap();
    let pem = other.to_pem(None).unwrap();
    let before = user.entries();
    let e = error(user.import(Level::Folder, "Work", &pem, false));
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains(&other.id().to_string()), "{e}");
    assert_eq!(user.entries(), before);

    let imported = user.import(Level::Folder, "Work", &pem, true).unwrap();
    assert_eq!(
        imported,
        Imported {
            id: other.id(),
            active: false
        }
    );
    assert_eq!(user.folder_key("Work", false).unwrap().id, active);
    user.export(Level::Folder, "Work", &other.id()).unwrap();

    // Where there is no key at all it becomes the active one.
    let imported = user.import(Level::Folder, "Empty", &pem, true).unwrap();
    assert!(imported.active);
    assert_eq!(user.folder_key("Empty", false).unwrap().id, other.id());
}

#[test]
fn a_key_known_by_its_old_id_is_imported_under_that() {
    let mut user = User::new(&[]);
    user.user_key(false).unwrap();
    let key = PrivateKey::generate("prime256v1").unwrap();
    let old = key.old_id().unwrap();
    let active = format!("shared/Work/{}", Level::Folder.active());
    user.dict
        .borrow_mut()
        .entries
        .insert(active, old.to_string());
    let pem = key.to_pem(None).unwrap();
    let imported = user.import(Level::Folder, "Work", &pem, false).unwrap();
    assert_eq!(
        imported,
        Imported {
            id: old,
            active: true
        }
    );
    user.export(Level::Folder, "Work", &old).unwrap();
}

#[test]
fn garbage_is_not_imported_and_not_quoted() {
    let mut user = User::new(&[]);
    user.user_key(false).unwrap();
    for text in [
        "",
        "hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
    ] {
        let e = error(user.import(Level::User, "INBOX", text, true));
        assert!(!e.to_string().contains("hunter2"), "{e}");
    }
}
