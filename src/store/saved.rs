//! Whether a mail may be stored, and stay: its key may have been replaced, and then deleted, while a client
//! was still sending; and not every storage can keep what is encrypted.
//!
//! Whoever deletes a key takes the public one away first, and then looks at all mails. Whoever saves a
//! mail stores it first, and then looks for the public key. So whatever the two do at the same time, one
//! of them sees the other: the key stays, or the mail is taken back.
#![forbid(unsafe_code)]

use super::attributes::{Attributes, Level, Scope};
use super::filing;
use super::names::Setting;
use super::settings::{SaveVersion, Settings};
use crate::error::{Error, Result};
use crate::key::KeyId;

/// Makes sure that `folder` still has the public key with these ids, to which a mail was encrypted.
///
/// # Errors
/// [`crate::ErrorKind::Store`] where it hasn't, or that can't be told: the mail must not be stored. A
/// second attempt uses another key.
pub fn check(folder: &mut dyn Attributes, ids: &[KeyId]) -> Result<()> {
    let active = folder.get(Scope::Shared, &Level::Folder.active())?;
    let active = active.and_then(|a| a.trim().parse::<KeyId>().ok());
    if active.is_some_and(|active| ids.contains(&active)) {
        return Ok(());
    }
    // Each of its ids may be the name under which it is stored, and the folder may have got another GUID.
    for id in ids {
        if filing::public_text(Level::Folder, folder, id)?.is_some() {
            return Ok(());
        }
    }
    let id = ids.first().map(KeyId::to_string).unwrap_or_default();
    Err(Error::store(format!(
        "mailbox {}: key {id} was deleted while a mail was being encrypted to it",
        folder.mailbox()
    )))
}

/// For storage that keeps text only: `driver` is its name, `mailbox` the folder's.
///
/// # Errors
/// [`crate::ErrorKind::Setting`] where the user's mail is to be encrypted.
pub fn check_unfit(settings: &Settings, mailbox: &str, driver: &str) -> Result<()> {
    if settings.writing()?.version == SaveVersion::ReadOnly {
        return Ok(());
    }
    Err(Error::setting(format!(
        "mailbox {mailbox}: {driver} can't keep encrypted mail: use maildir, sdbox or mdbox, or set \
         {} so that none is encrypted",
        settings.name(Setting::Write)
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::key::PrivateKey;
    use crate::store::keyring::activate;
    use crate::store::testing::{Mailbox, SharedDict};

    /// A folder whose active key is stored under the id that `name` picks, and both ids of the key.
    fn folder(name: fn(&[KeyId]) -> KeyId) -> (Mailbox, Vec<KeyId>, KeyId) {
        let dict = SharedDict::default();
        let public = PrivateKey::generate("prime256v1").unwrap().public();
        let ids: Vec<_> = [Some(public.id()), public.old_id()]
            .into_iter()
            .flatten()
            .collect();
        let name = name(&ids);
        let mut folder = Mailbox::new(&dict, "Work");
        activate(Level::Folder, &mut folder, &name, &public).unwrap();
        (folder, ids, name)
    }

    #[test]
    fn a_key_is_found_under_each_of_its_ids_without_listing() {
        for name in [|ids: &[KeyId]| ids[0], |ids: &[KeyId]| ids[1]] {
            let (mut folder, ids, name) = folder(name);
            folder.dict.borrow_mut().cannot_list = true;
            check(&mut folder, &ids).unwrap();
            // Another one is active by now.
            let active = format!("shared/Work/{}", Level::Folder.active());
            let other = PrivateKey::generate("prime256v1").unwrap().id().to_string();
            folder.dict.borrow_mut().entries.insert(active, other);
            check(&mut folder, &ids).unwrap();
            // And this one is deleted.
            let public = format!("shared/Work/{}", Level::Folder.public(&name));
            folder.dict.borrow_mut().lose(&public);
            let e = check(&mut folder, &ids).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Store);
            assert!(e.to_string().contains(&ids[0].to_string()), "{e}");
        }
    }

    #[test]
    fn what_the_dict_cannot_say_is_an_error() {
        let (mut folder, ids, _) = folder(|ids| ids[0]);
        folder.dict.borrow_mut().down = true;
        assert_eq!(
            check(&mut folder, &ids).unwrap_err().kind(),
            ErrorKind::Store
        );
    }
}
