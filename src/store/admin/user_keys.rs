//! The user's keys as a whole: opened, put under another password, and back.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Change, Host, Level, Scope};
use super::super::filing::{self, Filed};
use super::super::keyring::{Keyring, drop_unused_logins, user_key_change, user_keys};
use super::super::slots;
use super::commit_and_verify;
use crate::crypto::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::keystring::Id;
use crate::format::slots::{Record, Replaced, Slot, Slots};
use crate::key::slot::now;
use crate::key::{KeyId, PrivateKey, Protect, Protection, StoredKey};

/// What the user's keys are to be under.
#[derive(Clone, Copy)]
pub(super) enum NewPassword<'a> {
    /// This password.
    Set(&'a [u8]),
    /// None: the keys become readable for whoever reads the dict.
    Clear,
}

/// The user's keys, as far as they open.
pub(super) struct UserKeys {
    /// By the name under which each is stored.
    pub open: Vec<(KeyId, PrivateKey)>,
    /// Those that are known to be locked.
    pub locked: Vec<KeyId>,
    active: Option<KeyId>,
}

impl UserKeys {
    /// Opens all keys of the user with `open`, but those that are known to be locked.
    ///
    /// # Errors
    /// What `open` says of the first one that doesn't open.
    pub(super) fn read(
        inbox: &mut dyn Attributes,
        slots: &Slots,
        mut open: impl FnMut(&mut dyn Attributes, &KeyId) -> Result<PrivateKey>,
    ) -> Result<Self> {
        let mut keys = UserKeys {
            open: Vec::new(),
            locked: Vec::new(),
            active: filing::active(Level::User, inbox)?.map(|active| active.id),
        };
        for id in all_ids(inbox, slots)? {
            if slots.is_locked(&id.0) {
                keys.locked.push(id);
            } else {
                keys.open.push((id, open(inbox, &id)?));
            }
        }
        Ok(keys)
    }

    /// The active key, which makes seals.
    ///
    /// # Errors
    /// [`ErrorKind::NoKey`] where the user has none.
    pub(super) fn active(&self, user: &str) -> Result<&PrivateKey> {
        let mut open = self.open.iter().map(|(_, key)| key);
        let found = open.find(|key| self.is_active(key));
        found.ok_or_else(|| match self.active {
            Some(id) => Error::new(
                ErrorKind::Locked,
                format!("the active key {id} of user {user} is locked: see reset and reopen"),
            ),
            None => Error::new(ErrorKind::NoKey, format!("user {user} has no key")),
        })
    }

    /// Seals the slot with all keys that open.
    ///
    /// # Errors
    /// As libcrypto.
    pub(super) fn seal(&self, slot: &mut Slot) -> Result<()> {
        self.open.iter().try_for_each(|(_, key)| slot.seal(key))
    }

    /// Whether `key` is the active one.
    pub(super) fn is_active(&self, key: &PrivateKey) -> bool {
        self.active.is_some_and(|active| key.matches(&active))
    }

    /// That some keys were passed over, if there are some.
    pub(super) fn locked_note(&self) -> Option<String> {
        let count = self.locked.len();
        (count > 0).then(|| {
            format!(
                "{count} locked key(s) stay as they are: if what opened them turns up, use reopen"
            )
        })
    }
}

/// The names of the user's keys: those that are stored, and those whose private half only slots have. One without a
/// public half was never in use: whoever made it died before it was stored.
pub(super) fn all_ids(inbox: &mut dyn Attributes, slots: &Slots) -> Result<Vec<KeyId>> {
    let mut ids = match user_keys(inbox) {
        Ok(ids) => ids,
        Err(e) if slots.records.is_empty() => return Err(e),
        Err(_) => Vec::new(),
    };
    for record in &slots.records {
        let Record::Key(key) = record else { continue };
        // A key that is stored by its old id is the same key.
        let Some(id) = key.id().filter(|id| !ids.contains(id)) else {
            continue;
        };
        let Some((public, _)) = filing::public(Level::User, inbox, &id)? else {
            continue;
        };
        if !ids.iter().any(|other| public.matches(other)) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Opens the user key `id` as a session with the same secret would.
///
/// # Errors
/// As [`Keyring::unlock_filed`].
pub(super) fn open_key(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    id: &KeyId,
) -> Result<PrivateKey> {
    let filed = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
    ring.unlock_filed(Level::User, id, inbox, &filed, host, 0)
}

/// Whether what a password change replaces can be brought back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// For a day.
    Old,
    /// Not at all.
    Nothing,
}

/// Puts `keys` under the new password, or none of them. What they were under goes last: killed at any point,
/// the old or the new one opens them.
///
/// # Errors
/// [`ErrorKind::Store`], [`ErrorKind::Setting`].
pub(super) fn put_under(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    keys: &[(KeyId, PrivateKey)],
    new: NewPassword<'_>,
    keep: Keep,
) -> Result<()> {
    let mut changes = Vec::new();
    let mut replaced = Vec::new();
    for (id, key) in keys {
        // Done already, by a command that was interrupted: what it replaced can still be brought back.
        if is_under(ring, inbox, id, new)? {
            continue;
        }
        let text = match new {
            NewPassword::Set(password) => ring.under_password(inbox, key, password)?,
            NewPassword::Clear => key.to_dovecot(Protect::None)?,
        };
        let old = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
        // Whoever protects a key doesn't want it to lie around as it was.
        if let Some(old) = old.texts().next().filter(|old| is_protected(old)) {
            replaced.push(Replaced {
                time: now(),
                id: id.0,
                by: digest(&text)?,
                text: old,
            });
        }
        changes.push(user_key_change(id, text));
    }
    if changes.is_empty() {
        return Ok(());
    }
    // A dict may have no place for it. The password is changed all the same.
    if let Err(e) = remember(inbox, replaced, keep) {
        host.warn(&format!("this change can't be undone: {e}"));
    }
    commit_and_verify(inbox, changes)?;
    if let Err(e) = drop_logins(inbox) {
        host.warn(&format!("a slot of an older password stays: {e}"));
    }
    ring.forget();
    Ok(())
}

fn is_protected(text: &str) -> bool {
    let protection = StoredKey::parse(text).map(|key| key.protection());
    !matches!(protection, Ok(Protection::None))
}

/// Whether the user key `id` is stored as it would be under the new password.
pub(super) fn is_under(
    ring: &Keyring,
    inbox: &mut dyn Attributes,
    id: &KeyId,
    new: NewPassword<'_>,
) -> Result<bool> {
    let filed = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
    let mut texts = filed.texts();
    let (Some(text), None) = (texts.next(), texts.next()) else {
        return Ok(false);
    };
    match new {
        NewPassword::Set(password) => ring.is_under_password(inbox, &text, password),
        NewPassword::Clear => {
            let stored = StoredKey::parse(&text);
            Ok(stored.is_ok_and(|key| key.protection() == Protection::None))
        }
    }
}

fn remember(inbox: &mut dyn Attributes, replaced: Vec<Replaced>, keep: Keep) -> Result<()> {
    let mut found = slots::read(inbox)?;
    let before = found.records.len();
    let these: Vec<Id> = replaced.iter().map(|old| old.id).collect();
    found
        .records
        .retain(|record| !matches!(record, Record::Undo(old) if these.contains(&old.id)));
    let dropped = found.records.len() < before;
    if keep == Keep::Old {
        found.records.extend(replaced.into_iter().map(Record::Undo));
    } else if !dropped {
        return Ok(());
    }
    slots::write(inbox, &mut found)
}

fn drop_logins(inbox: &mut dyn Attributes) -> Result<()> {
    // Nothing is read that isn't there in default mode: no slot, nothing to drop.
    let mut found = match slots::read(inbox) {
        Ok(found) if found.slots().next().is_some() => found,
        _ => return Ok(()),
    };
    let ids = user_keys(inbox)?;
    if drop_unused_logins(inbox, &mut found, &ids)? {
        slots::write(inbox, &mut found)?;
    }
    Ok(())
}

/// Brings back what the last password change replaced. Returns the number of keys.
///
/// # Errors
/// [`ErrorKind::Refused`] where there is nothing, or a key has another string by now.
pub(super) fn undo(ring: &mut Keyring, host: &mut dyn Host) -> Result<usize> {
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    let mut found = slots::read(inbox.as_mut())?;
    slots::forget_replaced(&mut found, now());
    let mut changes = Vec::new();
    for record in &found.records {
        match record {
            // What was given up has no part in later changes.
            Record::Undo(old) if !found.is_locked(&old.id) => {
                changes.extend(undone(inbox.as_mut(), old)?);
            }
            _ => {}
        }
    }
    if changes.is_empty() {
        return Err(Error::new(
            ErrorKind::Refused,
            "nothing to undo: no password was changed within the last day",
        ));
    }
    let ids = user_keys(inbox.as_mut())?;
    check_all_go_back(&found, &ids)?;
    let count = changes.len();
    commit_and_verify(inbox.as_mut(), changes)?;
    found
        .records
        .retain(|record| !matches!(record, Record::Undo(_)));
    drop_unused_logins(inbox.as_mut(), &mut found, &ids)?;
    slots::write(inbox.as_mut(), &mut found)?;
    ring.forget();
    Ok(count)
}

/// Some keys under an older password than others could never be changed together again.
fn check_all_go_back(found: &Slots, ids: &[KeyId]) -> Result<()> {
    let goes_back = |id: &KeyId| {
        let is_its = |record: &Record| matches!(record, Record::Undo(old) if old.id == id.0);
        found.records.iter().any(is_its)
    };
    match ids
        .iter()
        .find(|id| !found.is_locked(&id.0) && !goes_back(id))
    {
        None => Ok(()),
        Some(id) => Err(Error::new(
            ErrorKind::Refused,
            format!(
                "key {id} was made since the password was changed: change it once more instead"
            ),
        )),
    }
}

/// The change that brings `old` back; `None` for one that never took place, or was undone.
fn undone(inbox: &mut dyn Attributes, old: &Replaced) -> Result<Option<Change>> {
    let id = KeyId(old.id);
    let filed = Filed::read(inbox, Scope::Private, &Level::User.private(&id))?;
    let mut found = false;
    for text in filed.texts() {
        if *text == *old.text {
            return Ok(None);
        }
        found |= digest(&text)? == old.by;
    }
    if !found {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("key {id} was changed once more since: its old password is not brought back"),
        ));
    }
    Ok(Some(user_key_change(&id, old.text.clone())))
}

fn digest(text: &Zeroizing<String>) -> Result<Id> {
    let hash = Digest::Sha256.hash(&[text.as_bytes()])?;
    hash.try_into()
        .map_err(|_| Error::internal("SHA-256 has 32 bytes"))
}
