//! Unlocking keys: by a password, or by the keys that they are under.
#![forbid(unsafe_code)]

use super::super::attributes::{Attributes, Host, Level, Scope};
use super::super::events::{Happened, Way, kind};
use super::super::filing::Filed;
use super::super::names::Setting;
use super::{Keyring, no_key};
use crate::crypto::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, PrivateKey, Protection, StoredKey};

/// A user key under a settings key under a password: nothing real nests deeper.
const MAX_UNLOCK_DEPTH: u32 = 4;

impl Keyring {
    /// Unlocks the key `id` of `level`, stored at `at`, by whichever of its texts opens.
    ///
    /// # Errors
    /// As [`Keyring::unlock`], of the first text.
    pub(in crate::store) fn unlock_filed(
        &mut self,
        level: Level,
        id: &KeyId,
        at: &dyn Attributes,
        filed: &Filed,
        host: &mut dyn Host,
        depth: u32,
    ) -> Result<PrivateKey> {
        if level == Level::Folder {
            return self.unlock_texts(level, id, at, filed, host, depth);
        }
        if let Some(key) = self.private.get(id) {
            return Ok(key.clone());
        }
        self.slots.way = None;
        let unlocked = self.unlock_user_key(id, at, filed, host, depth);
        self.tell_unlocked(id, filed, &unlocked, host);
        unlocked
    }

    fn unlock_user_key(
        &mut self,
        id: &KeyId,
        at: &dyn Attributes,
        filed: &Filed,
        host: &mut dyn Host,
        depth: u32,
    ) -> Result<PrivateKey> {
        let level = Level::User;
        let code = self.secret_is_code();
        if code {
            if let Ok(Some(key)) = self.unlock_by_slot(id, host) {
                self.slots.user_keys.insert(*id);
                return Ok(key);
            }
        }
        let key = match self.unlock_texts(level, id, at, filed, host, depth) {
            Err(e) if !code => match self.unlock_by_slot(id, host) {
                Ok(Some(key)) => Ok(key),
                Ok(None) => Err(e),
                Err(of_slot) => {
                    host.debug(&|| of_slot.to_string());
                    Err(e)
                }
            },
            unlocked => unlocked,
        }?;
        self.slots.user_keys.insert(*id);
        Ok(key)
    }

    /// Tells of each key once, unless it opens later: every mail asks for it.
    fn tell_unlocked(
        &mut self,
        id: &KeyId,
        filed: &Filed,
        unlocked: &Result<PrivateKey>,
        host: &dyn Host,
    ) {
        if unlocked.is_err() && !self.told_locked.insert(*id) {
            return;
        }
        let as_stored = || {
            let text = filed.texts().next()?;
            let stored = StoredKey::parse(&text).ok()?;
            Some(Way::string(&stored.protection()))
        };
        let way = self.slots.way.or_else(as_stored);
        let way = way.unwrap_or(Way::string(&Protection::None));
        host.events().emit(Happened::unlocked(way, kind(unlocked)));
    }

    fn unlock_texts(
        &mut self,
        level: Level,
        id: &KeyId,
        at: &dyn Attributes,
        filed: &Filed,
        host: &mut dyn Host,
        depth: u32,
    ) -> Result<PrivateKey> {
        let mut error = None;
        for text in filed.texts() {
            match self.unlock(id, &text, host, depth) {
                Ok(key) => {
                    if filed.is_unsettled(&text) {
                        self.note_unsettled(level, *id, at, Some(text.clone()));
                    }
                    if level == Level::User && self.is_outdated(&text) {
                        self.outdated.push((*id, text));
                    }
                    return Ok(key);
                }
                Err(e) => error = error.or(Some(e)),
            }
        }
        Err(error.unwrap_or_else(|| no_key(&[*id], at)))
    }

    /// Makes sure that the key `id` of `level`, if this session has opened it, also opens as it is stored
    /// now: its password may have changed since.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] where it doesn't; what asking for it says.
    pub(in crate::store) fn check_still_opens(
        &mut self,
        level: Level,
        id: &KeyId,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        if self.private.get(id).is_none() {
            return Ok(());
        }
        self.private.remove(id);
        let filed = Filed::read(at, Scope::Private, &level.private(id))?;
        let opened = self.unlock_filed(level, id, at, &filed, host, 0);
        opened.map(|_| ()).map_err(|e| {
            Error::store(format!(
                "the password was just changed, and nothing was done: {e}"
            ))
        })
    }

    /// Unlocks `text`, the stored private key `id`, with whatever its protection asks for.
    ///
    /// # Errors
    /// The text names the key and the setting that would help.
    pub fn unlock(
        &mut self,
        id: &KeyId,
        text: &str,
        host: &mut dyn Host,
        depth: u32,
    ) -> Result<PrivateKey> {
        if let Some(key) = self.private.get(id) {
            return Ok(key.clone());
        }
        let fingerprint = fingerprint(id, text)?;
        if let Some(error) = self.failed.get(&fingerprint) {
            return Err(error.clone());
        }
        let key = self.unlock_now(id, text, host, depth)?;
        self.private.insert(*id, key.clone());
        Ok(key)
    }

    fn unlock_now(
        &mut self,
        id: &KeyId,
        text: &str,
        host: &mut dyn Host,
        depth: u32,
    ) -> Result<PrivateKey> {
        let stored = StoredKey::parse(text).map_err(|e| e.context(format!("key {id}")))?;
        let protection = stored.protection();
        let unlocked = match &protection {
            Protection::None => stored.unlock(),
            Protection::Password => self.unlock_with_password(id, &stored, host),
            Protection::Key(other) => {
                // A failure of the other key is remembered with that one, and may be mended.
                let other = self.unlocking_key(id, other, host, depth)?;
                stored.unlock_with_key(&other)
            }
        };
        let checked = unlocked.map_err(|e| naming(e, id)).and_then(|key| {
            if key.matches(id) {
                return Ok(key);
            }
            let text = format!("key {id}: another key is stored under this id");
            Err(Error::corrupt(text))
        });
        host.debug(&|| match (&checked, &protection) {
            (Err(e), _) => format!("key {id} can't be unlocked: {e}"),
            (Ok(_), Protection::None) => format!("key {id} is not protected"),
            (Ok(_), Protection::Password) => {
                let setting = self.settings.name(Setting::Password);
                format!("unlocked key {id} with {setting}")
            }
            (Ok(_), Protection::Key(by)) => format!("unlocked key {id} with key {by}"),
        });
        if checked.is_ok() {
            let slot = match &protection {
                Protection::Key(by) => self.way_of_slot(by),
                Protection::Password | Protection::None => None,
            };
            self.slots.way = slot.or(Some(Way::string(&protection)));
        }
        let fingerprint = fingerprint(id, text)?;
        checked.inspect_err(|e| self.failed.insert(fingerprint, e.clone()))
    }

    /// The key `other`, under which the key `id` is stored: the user's, or one from the settings.
    pub(in crate::store) fn unlocking_key(
        &mut self,
        id: &KeyId,
        other: &KeyId,
        host: &mut dyn Host,
        depth: u32,
    ) -> Result<PrivateKey> {
        if depth >= MAX_UNLOCK_DEPTH {
            return Err(Error::corrupt(format!(
                "key {id}: keys under keys, nested too deeply"
            )));
        }
        let known = self
            .settings
            .user_key_keys
            .iter()
            .find(|k| k.matches(other));
        if let Some(key) = known {
            return Ok(key.clone());
        }
        if let Some(key) = self.known_private(other) {
            return Ok(key);
        }
        let mut inbox = host.inbox()?;
        let filed = Filed::read(inbox.as_mut(), Scope::Private, &Level::User.private(other))?;
        if filed.is_none() {
            if let Some(key) = self.unlock_by_slot(other, host)? {
                self.slots.user_keys.insert(*other);
                return Ok(key);
            }
            if let Some(key) = self.slot_private(other, host)? {
                return Ok(key);
            }
            return Err(Error::new(
                ErrorKind::Locked,
                format!(
                    "key {id} is encrypted to key {other}, which is neither a user key nor a {}",
                    self.settings.name(Setting::UserKeyKey)
                ),
            ));
        }
        self.unlock_filed(Level::User, other, inbox.as_ref(), &filed, host, depth + 1)
    }
}

/// What a stored key is remembered by.
fn fingerprint(id: &KeyId, text: &str) -> Result<[u8; 32]> {
    let hash = Digest::Sha256.hash(&[&id.0, text.as_bytes()])?;
    hash.try_into()
        .map_err(|_| Error::internal("SHA-256 has 32 bytes"))
}

/// What is wrong inside a stored key says nothing about where it is stored.
fn naming(error: Error, id: &KeyId) -> Error {
    if error.to_string().contains(&id.to_string()) {
        return error;
    }
    error.context(format!("key {id}"))
}
