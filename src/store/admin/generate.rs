//! `cryptokey generate`: new keys, and folder keys under a new user key.
#![forbid(unsafe_code)]

use super::super::attributes::{Access, Attributes, BY_ID, Change, Host, Level, Scope};
use super::super::filing::{self, Filed};
use super::super::keyring::{Extend, Keyring};
use super::super::names::Setting;
use super::super::slots;
use super::user_keys::open_key;
use super::{commit_and_verify, stored_key};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Protect, Protection, PublicKey, StoredKey};

/// A key that is now active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Its id.
    pub id: KeyId,
    /// It became active just now. If not, it already was, and nothing changed.
    pub fresh: bool,
}

impl Generated {
    fn now(key: &PublicKey) -> Self {
        let (id, fresh) = (key.id(), true);
        Generated { id, fresh }
    }
}

/// The user's active key, made where there is none; with `force` a new one in any case. Older
/// keys stay: folder keys are under them.
///
/// # Errors
/// [`ErrorKind::Setting`] without a curve, or where the key would have to be protected and can't
/// be; [`ErrorKind::Store`].
pub fn user_key(ring: &mut Keyring, host: &mut dyn Host, force: bool) -> Result<Generated> {
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    if !force {
        if let Some(made) = existing(ring, Level::User, inbox.as_mut(), host)? {
            return Ok(made);
        }
    }
    // They may have been unlocked before the lock was taken.
    for id in filing::listed(Level::User, inbox.as_mut()).unwrap_or_default() {
        ring.check_still_opens(Level::User, &id, inbox.as_mut(), host)?;
    }
    check_no_slots_secret(ring, inbox.as_mut(), host)?;
    let key = ring.generate_user_key(inbox.as_mut(), host, Extend::All)?;
    warn_of_locked(ring, inbox.as_mut(), host);
    ring.forget();
    Ok(Generated::now(&key))
}

/// A user key under the secret of a slot would not open with the password, and no password could be changed any more.
///
/// # Errors
/// [`ErrorKind::Refused`], naming the slot.
pub(super) fn check_no_slots_secret(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<()> {
    if !ring.settings().user_key_keys.is_empty() {
        return Ok(());
    }
    if let Some(active) = filing::active(Level::User, inbox)? {
        // Whether it opens is not what is asked here.
        let _ = open_key(ring, inbox, host, &active.id);
    }
    match ring.used_slot() {
        Some(name) => Err(Error::new(
            ErrorKind::Refused,
            format!(
                "the secret of slot {name} can't protect the new key: give the password, or use reset first"
            ),
        )),
        None => Ok(()),
    }
}

/// Names the user keys that stay behind and don't open: what they would open is lost until they do,
/// and no password changes. The new key is made, so this only warns.
fn warn_of_locked(ring: &mut Keyring, inbox: &mut dyn Attributes, host: &mut dyn Host) {
    for id in filing::listed(Level::User, inbox).unwrap_or_default() {
        let filed = Filed::read(inbox, Scope::Private, &Level::User.private(&id));
        let Ok(filed) = filed else { continue };
        if is_locked(host, &id).unwrap_or(false) {
            continue;
        }
        if let Err(e) = ring.unlock_filed(Level::User, &id, inbox, &filed, host, 0) {
            host.warn(&format!(
                "user key {id} stays, and does not open: {e}. No password can be changed until it \
                 does, is deleted, or given up by reset --abandon"
            ));
        }
    }
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
) -> Result<Generated> {
    ring.require_own(folder)?;
    let (user, _lock) = ring.user_public_and_lock(folder, host)?;
    if !force {
        if let Some(made) = existing(ring, Level::Folder, folder, host)? {
            return Ok(made);
        }
    }
    let key = ring.generate(Level::Folder, folder, host, Protect::Key(&user))?;
    Ok(Generated::now(&key))
}

/// The active key, or one whose maker died before making it active.
fn existing(
    ring: &mut Keyring,
    level: Level,
    at: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<Option<Generated>> {
    if let Some(key) = ring.active_public(level, at, host)? {
        let (id, fresh) = (key.id(), false);
        return Ok(Some(Generated { id, fresh }));
    }
    let key = ring.adopt(level, at, host)?;
    Ok(key.map(|key| Generated::now(&key)))
}

/// Makes sure that a new user key does no harm to the keys of `folder`, before it is made: each of
/// them must open, to be put under the new one (`rekey`), or else the user key that it stays under.
/// Otherwise two passwords would be needed from then on, one for older and one for newer keys, and
/// no password could be changed any more. Returns the keys that are there.
///
/// # Errors
/// [`ErrorKind::Refused`], with the key and what to do; [`ErrorKind::Store`].
pub fn check_new_user_key(
    ring: &mut Keyring,
    folder: &mut dyn Attributes,
    host: &mut dyn Host,
    rekey: bool,
) -> Result<Vec<KeyId>> {
    if folder.access() != Access::Own {
        return Ok(Vec::new());
    }
    let names = match filing::ids(folder, Scope::Private, &Level::Folder.private_prefix()) {
        // The dict can't list. The active key is the one that counts.
        Err(_) if !rekey => {
            let active = filing::active(Level::Folder, folder)?;
            active.map(|active| active.id).into_iter().collect()
        }
        names => names?,
    };
    check_each(ring, folder, host, rekey, names)
}

/// The same for the folder keys that no folder has.
///
/// # Errors
/// As [`check_new_user_key`].
pub fn check_without_folder(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    rekey: bool,
) -> Result<Vec<KeyId>> {
    let names = match filing::listed_by_id(Level::Folder, inbox) {
        Err(_) if !rekey => return Ok(Vec::new()),
        names => names?,
    };
    check_each(ring, inbox.under(&BY_ID).as_mut(), host, rekey, names)
}

fn check_each(
    ring: &mut Keyring,
    at: &mut dyn Attributes,
    host: &mut dyn Host,
    rekey: bool,
    names: Vec<KeyId>,
) -> Result<Vec<KeyId>> {
    for id in &names {
        let filed = Filed::read(at, Scope::Private, &Level::Folder.private(id))?;
        if waits_for_reopen(host, &filed)? {
            continue;
        }
        let opened = if rekey {
            let key = ring.unlock_filed(Level::Folder, id, at, &filed, host, 0);
            key.map(|_| ())
        } else {
            user_key_opens(ring, host, id, &filed)
        };
        opened.map_err(|e| left_behind(ring, at, id, &e))?;
    }
    Ok(names)
}

/// Whether the user key that a folder's key `id` is under opens. One that is lost, and a folder key
/// that is damaged, are no worse off with another user key.
fn user_key_opens(
    ring: &mut Keyring,
    host: &mut dyn Host,
    id: &KeyId,
    filed: &Filed,
) -> Result<()> {
    let mut locked = None;
    for text in filed.texts() {
        let by = match StoredKey::parse(&text).map(|key| key.protection()) {
            Ok(Protection::Key(by)) => by,
            Ok(Protection::None | Protection::Password) | Err(_) => return Ok(()),
        };
        let Err(e) = ring.unlocking_key(id, &by, host, 0) else {
            return Ok(());
        };
        let name = Level::User.private(&by);
        let user_key = Filed::read(host.inbox()?.as_mut(), Scope::Private, &name)?;
        if !user_key.is_none() {
            locked = Some(e);
        }
    }
    locked.map_or(Ok(()), Err)
}

/// Whether a folder key is under a user key that is known to be locked: it stays there.
fn waits_for_reopen(host: &mut dyn Host, filed: &Filed) -> Result<bool> {
    for text in filed.texts() {
        let protection = StoredKey::parse(&text).map(|key| key.protection());
        if let Ok(Protection::Key(by)) = protection {
            if is_locked(host, &by)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether the user key `id` is known to be locked: what it opens waits for `reopen`.
fn is_locked(host: &mut dyn Host, id: &KeyId) -> Result<bool> {
    let found = slots::read(host.inbox()?.as_mut()).unwrap_or_default();
    Ok(found.is_locked(&id.0))
}

fn left_behind(ring: &Keyring, folder: &dyn Attributes, id: &KeyId, why: &Error) -> Error {
    if why.kind() == ErrorKind::Store {
        return why.clone();
    }
    let name = |setting| ring.settings().name(setting);
    Error::new(
        ErrorKind::Refused,
        format!(
            "no new user key is made, since key {id} of mailbox {} would be left behind: {why}. Try \
             again with what opens it in {} or {}",
            folder.mailbox(),
            name(Setting::Password),
            name(Setting::UserKeyKey)
        ),
    )
}

/// The active user key, after making sure that its private half can be unlocked: under any other, folder
/// keys would be lost.
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

/// Puts all keys of `folder` under `user` (from [`rekey_target`]), in one transaction, and returns their
/// names. The key that they were under before stays, so the work may be interrupted at any point, and begun
/// again.
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
    let names = filing::ids(folder, Scope::Private, &Level::Folder.private_prefix())?;
    let mut changes = Vec::new();
    for id in &names {
        changes.extend(rekeyed(ring, folder, host, user, id)?);
    }
    if !changes.is_empty() {
        commit_and_verify(folder, changes)?;
    }
    Ok(names)
}

/// The same for the folder keys that no folder has. Returns those that were under another key.
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
        commit_and_verify(inbox.under(&BY_ID).as_mut(), changes)?;
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
    if waits_for_reopen(host, &filed)? {
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
