//! `cryptokey import`: a key from a backup.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Change, Host, Level, Scope};
use super::super::filing;
use super::super::keyring::{Extend, Keyring, activate, publish};
use super::super::names::Setting;
use super::super::slots;
use super::generate::check_no_slots_secret;
use super::reset::unlock_marks;
use super::{commit_and_verify, owner};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, PrivateKey, Protect, Protection, StoredKey};

/// What became of an imported key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The name under which it is stored.
    pub id: KeyId,
    /// New data is encrypted to it.
    pub active: bool,
}

/// Stores the private key in `text` (PEM or a key string) at `at`, in place of any that is
/// there under its id, protected as a new one would be. It becomes active only where no key is.
///
/// # Errors
/// [`ErrorKind::Refused`] for a key whose id isn't known there, unless `force`; what parsing and unlocking
/// say. No error shows any of the text.
pub fn import(
    ring: &mut Keyring,
    level: Level,
    at: &mut dyn Attributes,
    host: &mut dyn Host,
    text: &str,
    force: bool,
) -> Result<Imported> {
    let key = read(ring, host, text)?;
    if level == Level::Folder {
        ring.require_own(at)?;
    }
    let (text, _lock) = match level {
        Level::User => {
            let lock = at.lock(level)?;
            check_no_slots_secret(ring, at, host)?;
            (ring.protected_user_key(at, host, &key)?, lock)
        }
        Level::Folder => {
            let (user, lock) = ring.user_public_and_lock(at, host)?;
            (key.to_dovecot(Protect::Key(&user))?, lock)
        }
    };
    let imported = store(level, at, host, &key, text, force)?;
    if level == Level::User {
        // A code that doesn't open all of the user's keys can set no new password.
        if let Err(e) = put_under_slots(ring, at, host, &imported.id, &key) {
            host.warn(&format!(
                "the user's slots don't open key {}: {e}",
                imported.id
            ));
        }
    }
    ring.forget();
    Ok(imported)
}

/// Puts the user key `id` under the user's slots. One that was locked isn't any more.
fn put_under_slots(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    id: &KeyId,
    key: &PrivateKey,
) -> Result<()> {
    if !slots::read(inbox).unwrap_or_default().is_locked(&id.0) {
        return ring.extend_slots(inbox, host, key, Extend::All);
    }
    unlock_marks(inbox, &[(*id, key.clone())])
}

fn store(
    level: Level,
    at: &mut dyn Attributes,
    host: &dyn Host,
    key: &PrivateKey,
    text: Zeroizing<String>,
    force: bool,
) -> Result<Imported> {
    let active = filing::active(level, at)?.map(|active| active.id);
    let id = match (known_as(level, at, active, key)?, force) {
        (Some(id), _) => id,
        (None, true) => key.id(),
        (None, false) => return Err(unknown(level, at, host, key)),
    };
    let is_active = active.is_none_or(|a| a == id);
    let private = Change::set(Scope::Private, level.private(&id), text);
    // The private key first, and alone: see `Keyring::generate`.
    commit_and_verify(at, vec![private])?;
    match active {
        Some(_) => publish(level, at, &id, &key.public())?,
        None => activate(level, at, &id, &key.public())?,
    }
    let active = is_active;
    Ok(Imported { id, active })
}

/// Unlocks the key with what the settings and the user's own keys offer.
fn read(ring: &mut Keyring, host: &mut dyn Host, text: &str) -> Result<PrivateKey> {
    let stored = StoredKey::parse(text).map_err(|e| e.context("the key to import"))?;
    let key = match stored.protection() {
        Protection::None => stored.unlock(),
        Protection::Password => match &ring.settings().password {
            Some(password) if !password.value.is_empty() => {
                stored.unlock_with_password(&password.value)
            }
            none => Err(Error::new(
                ErrorKind::NoKey,
                format!(
                    "it is under a password, and {} is {}",
                    ring.settings().name(Setting::Password),
                    if none.is_some() { "empty" } else { "not set" }
                ),
            )),
        },
        Protection::Key(by) => {
            let id = stored.id().unwrap_or(by);
            let by = ring.unlocking_key(&id, &by, host, 0)?;
            stored.unlock_with_key(&by)
        }
    };
    key.map_err(|e| e.context("the key to import"))
}

/// The name by which the attributes know `key` already.
fn known_as(
    level: Level,
    at: &mut dyn Attributes,
    active: Option<KeyId>,
    key: &PrivateKey,
) -> Result<Option<KeyId>> {
    let mut names: Vec<KeyId> = active.into_iter().collect();
    names.extend(filing::listed(level, at)?);
    names.extend(filing::ids(at, Scope::Shared, &level.public_prefix())?);
    Ok(names.into_iter().find(|id| key.matches(id)))
}

fn unknown(level: Level, at: &dyn Attributes, host: &dyn Host, key: &PrivateKey) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "{} knows no key {}: use -f to add it all the same",
            owner(level, at, host),
            key.id()
        ),
    )
}
