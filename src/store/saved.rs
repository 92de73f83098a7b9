//! Whether a mail may be stored: its key may have been replaced, and then deleted, while a client was
//! still sending; and not every storage can keep what is encrypted.
#![forbid(unsafe_code)]

use super::attributes::{Attributes, Level, Scope};
use super::filing;
use super::names::Setting;
use super::settings::{SaveVersion, Settings};
use crate::error::{Error, Result};
use crate::key::{KeyId, PublicKey};

/// Sees to it that `folder` still has the public key `id`, to which a mail was encrypted.
///
/// # Errors
/// [`crate::ErrorKind::Store`] where it hasn't, or nobody can tell: the mail must not be stored, and
/// trying again takes another key.
pub fn check(folder: &mut dyn Attributes, id: &KeyId) -> Result<()> {
    let active = folder.get(Scope::Shared, &Level::Folder.active())?;
    if active.is_some_and(|a| a.trim() == id.to_string()) {
        return Ok(());
    }
    // The folder may have got another GUID meanwhile.
    if filing::public(Level::Folder, folder, id)?.is_some() {
        return Ok(());
    }
    // It may be there by its old id.
    let prefix = Level::Folder.public_prefix();
    for name in folder.list(Scope::Shared, &prefix)? {
        let text = folder.get(Scope::Shared, &format!("{prefix}{name}"))?;
        let key = text.and_then(|text| PublicKey::parse(&text).ok());
        if key.is_some_and(|key| key.matches(id)) {
            return Ok(());
        }
    }
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
    if settings.save_version == SaveVersion::ReadOnly {
        return Ok(());
    }
    Err(Error::setting(format!(
        "mailbox {mailbox}: {driver} can't keep encrypted mail: use maildir, sdbox or mdbox, or set \
         {} so that none is encrypted",
        settings.name(Setting::Write)
    )))
}
