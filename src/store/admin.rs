//! What an administrator does with keys: the rules of `doveadm mailbox cryptokey`.
//!
//! A folder's attributes are lent by the caller; the user's keys are those of INBOX. Every change
//! is made under the lock of its level, and the two locks are never held together. Nothing here
//! removes a key but [`delete`], which is asked to.
#![forbid(unsafe_code)]

pub mod check;
mod command;
mod delete;
mod generate;
mod import;
mod needs;
mod password;
mod plan;
mod request;
mod reset;
mod row;
mod slot;
mod user_keys;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use zeroize::Zeroizing;

use super::attributes::{Attributes, Change, Host, Level, Scope, owner};
use super::filing::{self, Filed};
use super::keyring::Keyring;
use super::slots;
use crate::error::{Error, ErrorKind, Result};
use crate::format::slots::Slots;
use crate::key::{KeyId, PublicKey, StoredKey};

pub use command::Command;
pub use plan::{Folders, Step, Task};
pub use request::{Request, Verb};
pub use row::{Column, Layout, Row, columns};
pub use slot::list as list_slots;

pub use delete::KeyDeletion;
pub use generate::{
    Generated, check_new_user_key, check_without_folder, folder_key, rekey_folder, rekey_target,
    rekey_without_folder, user_key,
};
pub use import::{Imported, import};

/// For tests elsewhere: changes the password as [`Command`] does.
#[cfg(test)]
pub(in crate::store) fn change_password(
    ring: &mut Keyring,
    host: &mut dyn Host,
    old: Option<&[u8]>,
    new: &[u8],
) -> Result<()> {
    let secret = |bytes: &[u8]| bytes.iter().copied().collect();
    let request = Request {
        old: old.map(secret),
        new: Some(secret(new)),
        ..Request::default()
    };
    password::password(ring, host, &request).map(|_| ())
}

/// One private key of a mailbox, by the name under which it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the attribute's name: the key's id, or its old id.
    pub name: String,
    /// New data is encrypted to this one.
    pub active: bool,
    /// A user's key that nothing opens, since `reset --abandon`.
    pub locked: bool,
}

/// The private keys of `level` that are stored for the user at `at`, the active one first; none
/// needs to be unlocked.
///
/// # Errors
/// [`ErrorKind::Store`] where the dict can't answer.
pub fn list(level: Level, at: &mut dyn Attributes) -> Result<Vec<Entry>> {
    let active = filing::active(level, at)?.map(|active| active.id.to_string());
    let names = match level {
        Level::User => filing::listed(level, at)?
            .iter()
            .map(KeyId::to_string)
            .collect(),
        Level::Folder => at.list(Scope::Private, &level.private_prefix())?,
    };
    // A dict without a place for slots has none.
    let slots = match level {
        Level::User => slots::read(at).unwrap_or_default(),
        Level::Folder => Slots::default(),
    };
    let entry = |name: String| Entry {
        active: active.as_ref() == Some(&name),
        locked: key_id(&name).is_ok_and(|id| slots.is_locked(&id.0)),
        name,
    };
    let mut entries: Vec<Entry> = names.into_iter().map(entry).collect();
    // Dicts answer in any order.
    entries.sort_by(|a, b| (b.active, &a.name).cmp(&(a.active, &b.name)));
    Ok(entries)
}

/// The private key that is stored under `name`, as unprotected PEM.
///
/// # Errors
/// What unlocking it says; the text names the key.
pub fn export(
    ring: &mut Keyring,
    level: Level,
    at: &mut dyn Attributes,
    host: &mut dyn Host,
    name: &str,
) -> Result<Zeroizing<String>> {
    let id = key_id(name)?;
    let filed = Filed::read(at, Scope::Private, &level.private(&id))?;
    if filed.is_none() {
        return Err(not_there(level, at, host, &id));
    }
    ring.unlock_filed(level, &id, at, &filed, host, 0)?
        .to_pem(None)
}

/// The user's folder keys that no folder has, of which `in_folders` were listed: their folders were deleted, or have got
/// another GUID and nothing has needed the keys since.
///
/// # Errors
/// [`ErrorKind::Store`] where the dict can't answer.
pub fn list_without_folder(
    inbox: &mut dyn Attributes,
    in_folders: &HashSet<KeyId>,
) -> Result<Vec<Entry>> {
    let mut ids = filing::listed_by_id(Level::Folder, inbox)?;
    ids.retain(|id| !in_folders.contains(id));
    ids.sort();
    let entry = |id: KeyId| Entry {
        name: id.to_string(),
        active: false,
        locked: false,
    };
    Ok(ids.into_iter().map(entry).collect())
}

fn key_id(name: &str) -> Result<KeyId> {
    let id = name.parse::<KeyId>();
    id.map_err(|e| e.context(format!("'{}' is no key id", name.escape_default())))
}

fn not_there(level: Level, at: &dyn Attributes, host: &dyn Host, id: &KeyId) -> Error {
    Error::new(
        ErrorKind::NoKey,
        format!("{} has no private key {id}", owner(level, at, host)),
    )
}

/// Commits `changes` and reads them back: better to learn now that the dict lost something than when the
/// old password or key is gone.
fn commit_and_verify(at: &mut dyn Attributes, changes: Vec<Change>) -> Result<()> {
    let expected: Vec<_> = changes
        .iter()
        .map(|c| (c.scope, c.name.clone(), c.value.clone()))
        .collect();
    at.commit(changes)?;
    for (scope, name, value) in expected {
        if at.get(scope, &name)? != value {
            return Err(Error::store(format!(
                "mailbox {}: attribute {name} does not hold what was just stored in it",
                at.mailbox()
            )));
        }
    }
    Ok(())
}

/// The public key that is stored under `id`, or that of the private key under it.
fn public_of(
    ring: &mut Keyring,
    level: Level,
    at: &mut dyn Attributes,
    host: &mut dyn Host,
    id: &KeyId,
) -> Option<PublicKey> {
    if let Ok(Some((key, _))) = filing::public(level, at, id) {
        return Some(key);
    }
    let filed = Filed::read(at, Scope::Private, &level.private(id)).ok()?;
    let key = ring.unlock_filed(level, id, at, &filed, host, 0).ok()?;
    Some(key.public())
}

/// Parses the stored private key `id`.
fn stored_key(id: &KeyId, text: &str) -> Result<StoredKey> {
    StoredKey::parse(text).map_err(|e| e.context(format!("key {id}")))
}
