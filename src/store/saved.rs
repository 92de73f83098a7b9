//! Whether a mail may be stored, and stay: its key may have been replaced, and then deleted, while a client
//! was still sending; and not every storage can keep what is encrypted.
//!
//! Whoever deletes a key takes the public one away first, and then looks at all mails. Whoever saves a
//! mail stores it first, and then looks for the public key. So whatever the two do at the same time, one
//! of them sees the other: the key stays, or the mail is taken back.
#![forbid(unsafe_code)]

use std::iter;

use super::attributes::{Attributes, Level, Scope};
use super::filing;
use super::names::Setting;
use super::settings::{SaveVersion, Settings};
use super::writer::FolderKey;
use crate::error::{Error, Result};
use crate::key::KeyId;

/// The keys of a folder to which one transaction has encrypted mails.
#[derive(Default)]
pub struct Saves {
    keys: Vec<FolderKey>,
    /// When the first was chosen.
    since: i64,
}

impl Saves {
    /// A mail is encrypted to `key`, which was chosen `now`.
    pub fn add(&mut self, key: FolderKey, now: i64) {
        if self.keys.is_empty() {
            self.since = now;
        }
        if self.keys.last() != Some(&key) {
            self.keys.push(key);
        }
    }

    /// Makes sure that the mails may be stored, if it is later than when the first key was chosen. Whoever sends a mail
    /// slowly may find its key deleted in the end. [`Saves::check`] would find that in any case, but then somebody may
    /// have seen the mail.
    ///
    /// # Errors
    /// As [`Saves::check`].
    pub fn check_before(&self, folder: &mut dyn Attributes, now: i64) -> Result<()> {
        if self.since == now {
            return Ok(());
        }
        self.check(folder)
    }

    /// Makes sure that the mails, which others can see by now, may stay.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where a key is gone, or nobody can tell.
    pub fn check(&self, folder: &mut dyn Attributes) -> Result<()> {
        self.keys.iter().try_for_each(|key| {
            let ids: Vec<_> = iter::once(key.id).chain(key.old_id).collect();
            check(folder, &ids)
        })
    }
}

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

    #[test]
    fn keys_are_looked_for_before_mail_is_stored_if_time_has_passed() {
        let (mut folder, ids, name) = folder(|ids| ids[0]);
        let mut saves = Saves::default();
        let key = FolderKey {
            id: ids[0],
            old_id: ids.get(1).copied(),
        };
        saves.add(key, 7);
        saves.add(key, 8);
        assert_eq!(saves.keys, [key]);
        saves.check_before(&mut folder, 9).unwrap();
        saves.check(&mut folder).unwrap();
        let public = format!("shared/Work/{}", Level::Folder.public(&name));
        let active = format!("shared/Work/{}", Level::Folder.active());
        folder.dict.borrow_mut().entries.remove(&active);
        folder.dict.borrow_mut().lose(&public);
        saves.check_before(&mut folder, 7).unwrap();
        assert!(saves.check_before(&mut folder, 8).is_err());
        assert!(saves.check(&mut folder).is_err());
    }

    #[test]
    fn each_key_of_a_transaction_is_looked_for() {
        let (mut folder, ids, _) = folder(|ids| ids[0]);
        let mut saves = Saves::default();
        saves.add(
            FolderKey {
                id: ids[0],
                old_id: None,
            },
            7,
        );
        saves.check(&mut folder).unwrap();
        let id = PrivateKey::generate("prime256v1").unwrap().public().id();
        saves.add(FolderKey { id, old_id: None }, 7);
        assert!(saves.check(&mut folder).is_err());
    }
}
