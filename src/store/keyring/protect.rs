//! What protects a user key: another key, a password, or nothing.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Change, Host, Level, Scope};
use super::super::filing::{self, Filed};
use super::super::settings::PasswordKdf;
use super::super::slots;
use super::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::format::slots::{Record, Slot, SlotType, Slots, Stretch};
use crate::key::slot::SlotOpener;
use crate::key::{KeyId, PrivateKey, Protect, Protection, StoredKey};

impl Keyring {
    /// The string of the new user key `key`, as the settings want it protected. The caller holds the lock.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] where it would be unprotected and must not be.
    pub(in crate::store) fn protected_user_key(
        &mut self,
        inbox: &mut dyn Attributes,
        host: &mut dyn Host,
        key: &PrivateKey,
    ) -> Result<Zeroizing<String>> {
        if let Some(above) = self.settings.user_key_keys.first().map(PrivateKey::public) {
            return key.to_dovecot(Protect::Key(&above));
        }
        if let Some(password) = self.settings.new_key_password()? {
            return self.under_password(inbox, key, &password);
        }
        self.settings.check_unprotected()?;
        self.warn_unprotected(host);
        key.to_dovecot(Protect::None)
    }

    /// The string of a user key under `password`. With Argon2id the slot that it is under is stored first. The caller
    /// holds the lock.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] for settings that can't be used, [`crate::ErrorKind::Store`].
    pub(in crate::store) fn under_password(
        &mut self,
        inbox: &mut dyn Attributes,
        key: &PrivateKey,
        password: &[u8],
    ) -> Result<Zeroizing<String>> {
        let kdf = match self.settings.password_kdf()? {
            PasswordKdf::Pbkdf2 => {
                let rounds = self.settings.password_rounds()?;
                return key.to_dovecot(Protect::Password { password, rounds });
            }
            PasswordKdf::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => (memory_kib, passes, lanes),
        };
        let mut found = slots::read(inbox)?;
        let slot = match login_slot(&found, kdf, password)? {
            Some(slot) => slot,
            None => {
                let stretch = Stretch::argon2id(kdf)?;
                let stretched = stretch.stretch(password)?;
                let name = slots::free_name(&found, slots::LOGIN);
                let about = (name.as_str(), SlotType::Password, "");
                let mut slot = Slot::new(about, SlotOpener::Secret(&stretch, &stretched))?;
                slot.seal(key)?;
                found.records.push(Record::Slot(slot.clone()));
                slots::write(inbox, &mut found)?;
                slot
            }
        };
        Ok(slot.wrap(key)?.text)
    }

    /// Whether `password` opens a user key's string, and the settings want it no other way.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`], where it takes a slot.
    pub(in crate::store) fn is_under_password(
        &self,
        inbox: &mut dyn Attributes,
        text: &str,
        password: &[u8],
    ) -> Result<bool> {
        let Ok(stored) = StoredKey::parse(text) else {
            return Ok(false);
        };
        let wanted = self.settings.password_kdf()? != PasswordKdf::Pbkdf2;
        match stored.protection() {
            Protection::Password if !wanted && !self.is_outdated(text) => {
                Ok(stored.unlock_with_password(password).is_ok())
            }
            Protection::Key(by) if wanted => {
                let login = open_login(&slots::read(inbox)?, &by, [password].into_iter());
                Ok(matches!(login, Some(Ok(_))))
            }
            _ => Ok(false),
        }
    }

    /// Whether a user key's string, which the password opens, is weaker than the settings want it.
    pub(super) fn is_outdated(&self, text: &str) -> bool {
        let Ok(stored) = StoredKey::parse(text) else {
            return false;
        };
        let Some(rounds) = stored.password_rounds() else {
            return false;
        };
        match self.settings.password_kdf() {
            Ok(PasswordKdf::Pbkdf2) => {
                matches!(self.settings.password_rounds(), Ok(wanted) if rounds < wanted)
            }
            Ok(PasswordKdf::Argon2id { .. }) => true,
            Err(_) => false,
        }
    }
}

/// The slot of the password with these parameters of Argon2id. Who can make a slot that the password opens knows the
/// password: no seal has to say so.
fn login_slot(found: &Slots, kdf: (u32, u32, u32), password: &[u8]) -> Result<Option<Slot>> {
    for slot in found.slots().filter(|slot| is_login(&slot.name)) {
        let fits = matches!(&slot.stretch, Stretch::Argon2id { memory, passes, lanes, .. }
            if (*memory, *passes, *lanes) == kdf);
        if fits && slot.open(&slot.stretch.stretch(password)?).is_ok() {
            return Ok(Some(slot.clone()));
        }
    }
    Ok(None)
}

/// The key of the password's slot whose public key is `by`, opened by one of `passwords`; `None`: there is no such slot.
pub(in crate::store) fn open_login<'a>(
    found: &Slots,
    by: &KeyId,
    passwords: impl Iterator<Item = &'a [u8]>,
) -> Option<Result<PrivateKey>> {
    let is_it =
        |slot: &&Slot| is_login(&slot.name) && slot.public_key().is_ok_and(|key| key.matches(by));
    let slot = found.slots().find(is_it)?;
    let mut error = Error::new(ErrorKind::NoKey, "it is under a password: give the old one");
    for password in passwords {
        match slot
            .stretch
            .stretch(password)
            .and_then(|secret| slot.open(&secret))
        {
            Ok(key) => return Some(Ok(key)),
            Err(e) => error = e,
        }
    }
    Some(Err(error))
}

/// Whether it is a slot that only [`Keyring::under_password`] makes.
pub(in crate::store) fn is_login(name: &str) -> bool {
    let rest = name.strip_prefix(slots::LOGIN);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Removes the slots of passwords that no user key is under any more, nor any text that may still be undone to.
/// Returns whether there were some.
///
/// # Errors
/// [`crate::ErrorKind::Store`].
pub(in crate::store) fn drop_unused_logins(
    inbox: &mut dyn Attributes,
    slots: &mut Slots,
    ids: &[KeyId],
) -> Result<bool> {
    let mut needed = Vec::new();
    let mut need = |text: &str| {
        if let Ok(Protection::Key(by)) = StoredKey::parse(text).map(|key| key.protection()) {
            needed.push(by);
        }
    };
    for id in ids {
        let filed = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
        filed.texts().for_each(|text| need(&text));
    }
    for record in &slots.records {
        if let Record::Undo(old) = record {
            need(&old.text);
        }
    }
    let unused = |slot: &&Slot| {
        let key = slot.public_key();
        is_login(&slot.name) && !key.is_ok_and(|key| needed.iter().any(|id| key.matches(id)))
    };
    let names: Vec<String> = slots
        .slots()
        .filter(unused)
        .map(|s| s.name.clone())
        .collect();
    for name in &names {
        slots::remove(slots, name);
    }
    Ok(!names.is_empty())
}

/// The ids of the user's keys.
///
/// # Errors
/// [`crate::ErrorKind::Store`]. Where the dict can't list, the active one is the one that is known.
pub(in crate::store) fn user_keys(inbox: &mut dyn Attributes) -> Result<Vec<KeyId>> {
    match filing::listed(Level::User, inbox) {
        Ok(ids) => Ok(ids),
        Err(e) => match filing::active(Level::User, inbox)? {
            Some(active) => Ok(vec![active.id]),
            None => Err(e),
        },
    }
}

/// Sets the user key `id` to `text`.
pub(in crate::store) fn user_key_change(id: &KeyId, text: Zeroizing<String>) -> Change {
    Change::set(Scope::Private, Level::User.private(id), text)
}
