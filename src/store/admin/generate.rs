//! `cryptokey generate`: new keys, and folder keys under a new user key.
#![forbid(unsafe_code)]

use super::super::attributes::{Access, Attributes, BY_ID, Change, Host, Level, Scope};
use super::super::filing::{self, Filed};
use super::super::keyring::Keyring;
use super::{commit_surely, ids, stored_key};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Protect, Protection, PublicKey};

/// A key that is now active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its id.
    pub id: KeyId,
    /// It has become so just now; else it was there and nothing changed.
    pub fresh: bool,
}

impl Made {
    fn now(key: &PublicKey) -> Self {
        let (id, fresh) = (key.id(), true);
        Made { id, fresh }
    }
}

/// The user's active key, made where there is none; with `force` a new one in any case. Older
/// keys stay: folder keys are under them.
///
/// # Errors
/// [`ErrorKind::Setting`] without a curve, or where the key would have to be protected and can't
/// be; [`ErrorKind::Store`].
pub fn user_key(ring: &mut Keyring, host: &mut dyn Host, force: bool) -> Result<Made> {
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    if !force {
        if let Some(made) = existing(ring, Level::User, inbox.as_mut(), host)? {
            return Ok(made);
        }
    }
    let key = ring.generate_user_key(inbox.as_mut(), host)?;
    ring.forget();
    Ok(Made::now(&key))
}

/// The folder's active key, made where there is none; with `force` a new one in any case. Older
/// keys stay: mail is encrypted to them. Those with whom the folder is shared are the caller's
/// business.
///
/// # Errors
/// As [`user_key`]; [`ErrorKind::Keyless`] for a folder that isn't the user's own.
pub fn folder_key(
    ring: &mut Keyring,
    folder: &mut dyn Attributes,
    host: &mut dyn Host,
    force: bool,
) -> Result<Made> {
    ring.require_own(folder)?;
    let (user, _lock) = ring.user_public_and_lock(folder, host)?;
    if !force {
        if let Some(made) = existing(ring, Level::Folder, folder, host)? {
            return Ok(made);
        }
    }
    let key = ring.generate(Level::Folder, folder, Protect::Key(&user))?;
    Ok(Made::now(&key))
}

/// The active key, or one whose maker died before making it active.
fn existing(
    ring: &mut Keyring,
    level: Level,
    at: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<Option<Made>> {
    if let Some(key) = ring.active_public(level, at, host)? {
        let (id, fresh) = (key.id(), false);
        return Ok(Some(Made { id, fresh }));
    }
    let key = ring.adopt(level, at, host)?;
    Ok(key.map(|key| Made::now(&key)))
}

/// The active user key, once it is sure that its private half can be had: under a key that
/// nobody can unlock the folder keys would be lost.
///
/// # Errors
/// [`ErrorKind::NoKey`] without a user key; what unlocking it says.
pub fn rekey_target(ring: &mut Keyring, host: &mut dyn Host) -> Result<PublicKey> {
    let mut inbox = host.inbox()?;
    let user = host.username().to_owned();
    let Some(public) = ring.active_public(Level::User, inbox.as_mut(), host)? else {
        let text = format!("user {user} has no active key");
        return Err(Error::new(ErrorKind::NoKey, text));
    };
    for id in [Some(public.id()), public.old_id()].into_iter().flatten() {
        let filed = Filed::read(inbox.as_mut(), Scope::Private, &Level::User.private(&id))?;
        if !filed.is_none() {
            ring.unlock_filed(Level::User, &id, inbox.as_ref(), &filed, host, 0)?;
            return Ok(public);
        }
    }
    Err(Error::new(
        ErrorKind::NoKey,
        format!(
            "user {user}: the private half of the active key {} is gone",
            public.id()
        ),
    ))
}

/// Puts all keys of `folder` under `user` (from [`rekey_target`]), in one transaction, and
/// answers their names. What they were under before stays where it is and opens them until
/// then, so it doesn't matter where the work is interrupted: begin again.
///
/// # Errors
/// The folder's keys are then as they were; the text names the one that can't be unlocked.
pub fn rekey_folder(
    ring: &mut Keyring,
    folder: &mut dyn Attributes,
    host: &mut dyn Host,
    user: &PublicKey,
) -> Result<Vec<KeyId>> {
    if folder.access() != Access::Own {
        return Ok(Vec::new());
    }
    let _lock = folder.lock(Level::Folder)?;
    check_target(host, user)?;
    let names = ids(folder, Scope::Private, &Level::Folder.private_prefix())?;
    let mut changes = Vec::new();
    for id in &names {
        changes.extend(rekeyed(ring, folder, host, user, id)?);
    }
    if !changes.is_empty() {
        commit_surely(folder, changes)?;
    }
    Ok(names)
}

/// The same for the folder keys that no folder has. Answers those that were under another key.
///
/// # Errors
/// As [`rekey_folder`]; [`ErrorKind::Store`] where the dict can't list.
pub fn rekey_without_folder(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    user: &PublicKey,
) -> Result<Vec<KeyId>> {
    let _lock = inbox.lock(Level::Folder)?;
    check_target(host, user)?;
    let mut names = Vec::new();
    let mut changes = Vec::new();
    for id in filing::listed_by_id(Level::Folder, inbox)? {
        let mut by_id = inbox.under(&BY_ID);
        if let Some(change) = rekeyed(ring, by_id.as_mut(), host, user, &id)? {
            changes.push(change);
            names.push(id);
        }
    }
    if !changes.is_empty() {
        commit_surely(inbox.under(&BY_ID).as_mut(), changes)?;
    }
    Ok(names)
}

/// The folder key `id` under the key `user`; `None` where it is already.
fn rekeyed(
    ring: &mut Keyring,
    at: &mut dyn Attributes,
    host: &mut dyn Host,
    user: &PublicKey,
    id: &KeyId,
) -> Result<Option<Change>> {
    let name = Level::Folder.private(id);
    let filed = Filed::read(at, Scope::Private, &name)?;
    let mut under = Vec::new();
    for text in filed.texts() {
        under.push(stored_key(id, &text)?.protection());
    }
    if under
        .iter()
        .all(|by| matches!(by, Protection::Key(by) if user.matches(by)))
    {
        return Ok(None);
    }
    let key = ring.unlock_filed(Level::Folder, id, at, &filed, host, 0)?;
    let text = key.to_dovecot(Protect::Key(user))?;
    Ok(Some(Change::set(Scope::Private, name, text)))
}

/// A key that was replaced meanwhile may be deleted next, and nothing may be put under it any more.
fn check_target(host: &mut dyn Host, user: &PublicKey) -> Result<()> {
    match filing::active(Level::User, host.inbox()?.as_mut())? {
        Some(active) if user.matches(&active.id) => Ok(()),
        _ => Err(Error::store(
            "the user's active key was replaced meanwhile: try again",
        )),
    }
}
