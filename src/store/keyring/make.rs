//! The keys that new mail is encrypted to: which one is active, and how the first one is made or
//! taken up.

use std::any::Any;

use zeroize::Zeroizing;

use super::super::attributes::{Access, Attributes, Host, Level, Scope, owner};
use super::super::events::{Happened, kind};
use super::super::filing::{self, Active, Filed};
use super::super::names::Setting;
use super::super::settings::SaveVersion;
use super::Extend;
use super::Keyring;
use super::store::NewKey;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{PrivateKey, Protect, Protection, PublicKey, StoredKey};

/// How often the user key may be replaced while the folder's lock is waited for; even once is rare.
const MAX_REPLACED: u32 = 5;

impl Keyring {
    /// The folder's active public key, made where there is none.
    pub(super) fn folder_public(
        &mut self,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<PublicKey> {
        if let Some(key) = self.active_public(Level::Folder, folder, host)? {
            return Ok(key);
        }
        self.require_own(folder)?;
        if self.settings.writing()?.version == SaveVersion::V1 {
            // A stream of version 1 names its key by the old id, and the packaged plugin looks
            // keys up by the name that they are stored under: it couldn't read such mail.
            return Err(Error::setting(format!(
                "mailbox {} has no key, and {} = 1 makes none: use 2",
                folder.mailbox(),
                self.settings.name(Setting::Write)
            )));
        }
        let (user, _lock) = self.user_public_and_lock(folder, host)?;
        if let Some(key) = self.active_public(Level::Folder, folder, host)? {
            return Ok(key);
        }
        let key = match self.adopt(Level::Folder, folder, host)? {
            Some(key) => key,
            None => self.generate(Level::Folder, folder, host, Protect::Key(&user))?,
        };
        self.folder_key_made = true;
        Ok(key)
    }

    /// The user's active public key, and the folder's lock, under which a folder key may be put
    /// under it. The two locks are never held together.
    ///
    /// # Errors
    /// As [`Keyring::sender`].
    pub(in crate::store) fn user_public_and_lock(
        &mut self,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<(PublicKey, Box<dyn Any>)> {
        for _ in 0..MAX_REPLACED {
            let user = self.user_public(host)?;
            let lock = folder.lock(Level::Folder)?;
            self.check_user_public(host)?;
            if self.user_public.is_some() {
                return Ok((user, lock));
            }
        }
        Err(Error::store("the user's key is replaced over and over"))
    }

    /// Whether a folder got its first key since the last call: those with whom the folder is
    /// shared don't have it yet.
    pub fn take_folder_key_made(&mut self) -> bool {
        std::mem::take(&mut self.folder_key_made)
    }

    /// A key made by anybody but the owner could never be read by the owner.
    pub(in crate::store) fn require_own(&self, folder: &dyn Attributes) -> Result<()> {
        let reason = match folder.access() {
            Access::Own => return Ok(()),
            Access::Shared => "its owner has to store a mail there first".to_owned(),
            Access::Public => format!(
                "nobody owns it: use {}",
                self.settings.name(Setting::GlobalPublic)
            ),
        };
        Err(Error::new(
            ErrorKind::Keyless,
            format!("mailbox {} has no key, and {reason}", folder.mailbox()),
        ))
    }

    /// The user's active public key, made where there is none.
    ///
    /// # Errors
    /// As [`Keyring::sender`].
    pub fn user_public(&mut self, host: &mut dyn Host) -> Result<PublicKey> {
        if let Some(key) = &self.user_public {
            return Ok(key.clone());
        }
        let mut inbox = host.inbox()?;
        let key = match self.active_public(Level::User, inbox.as_mut(), host)? {
            Some(key) => key,
            None => self.make_user_key(inbox.as_mut(), host)?,
        };
        self.user_public = Some(key.clone());
        Ok(key)
    }

    /// Forgets the user key if it is no longer the active one: a session may be old, and a key
    /// that was replaced and deleted meanwhile must not get new keys under it.
    fn check_user_public(&mut self, host: &mut dyn Host) -> Result<()> {
        let Some(key) = &self.user_public else {
            return Ok(());
        };
        let active = filing::active(Level::User, host.inbox()?.as_mut())?;
        if !active.is_some_and(|active| key.matches(&active.id)) {
            self.user_public = None;
        }
        Ok(())
    }

    fn make_user_key(
        &mut self,
        inbox: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<PublicKey> {
        let _lock = inbox.lock(Level::User)?;
        if let Some(key) = self.active_public(Level::User, inbox, host)? {
            return Ok(key);
        }
        if let Some(key) = self.adopt(Level::User, inbox, host)? {
            return Ok(key);
        }
        self.generate_user_key(inbox, host, Extend::All)
    }

    /// Makes a new user key under the protection that the settings ask for and makes it active.
    /// The caller holds the lock.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where the key would be unprotected and must not be.
    pub(in crate::store) fn generate_user_key(
        &mut self,
        inbox: &mut dyn Attributes,
        host: &mut dyn Host,
        extend: Extend,
    ) -> Result<PublicKey> {
        let key = self.new_key(inbox)?;
        let text = self
            .protected_user_key(inbox, host, &key)
            .inspect_err(|e| {
                let failed = Happened::created(Level::User, false, Some(e.kind()));
                host.events().emit(failed);
            })?;
        self.extend_slots(inbox, host, &key, extend)?;
        self.store_made(Level::User, inbox, host, key, text)
    }

    /// Warns once in a session that a new user key is unprotected.
    pub(in crate::store) fn warn_unprotected(&mut self, host: &mut dyn Host) {
        if !std::mem::replace(&mut self.warned_unprotected, true) {
            let name = |setting| self.settings.name(setting);
            let text = format!(
                "the new user key of {} is unprotected: neither {} nor {} is set",
                host.username(),
                name(Setting::Password),
                name(Setting::UserKeyKey)
            );
            host.warn(&text);
        }
    }

    /// The key that the attributes name as active, or `None` where they name none.
    pub(in crate::store) fn active_public(
        &mut self,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Option<PublicKey>> {
        let mut gone = None;
        for _ in 0..MAX_REPLACED {
            let Some(active) = filing::active(level, at)? else {
                return Ok(None);
            };
            if gone == Some(active.id) {
                break;
            }
            self.store_again(&active.id, at)?;
            if let Some(key) = self.stored_public(level, &active, at, host)? {
                return Ok(Some(key));
            }
            // Or was it replaced and deleted between one look and the next?
            gone = Some(active.id);
        }
        let id = gone.map(|id| id.to_string()).unwrap_or_default();
        Err(Error::new(
            ErrorKind::Keyless,
            format!("mailbox {}: its active key {id} is gone", at.mailbox()),
        ))
    }

    /// The active public key, or `None` where neither half of it is there.
    fn stored_public(
        &mut self,
        level: Level,
        active: &Active,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Option<PublicKey>> {
        let Active { id, here } = *active;
        if let Some((key, by_id)) = filing::public(level, at, &id)? {
            if !(here && by_id) && at.access() == Access::Own {
                self.note_unsettled(level, id, at, None);
            }
            return Ok(Some(key));
        }
        // The public key is lost; the private one still has it.
        let filed = Filed::read(at, Scope::Private, &level.private(&id))?;
        if filed.is_none() {
            return Ok(None);
        }
        let key = self.unlock_filed(level, &id, at, &filed, host, 0)?;
        Ok(Some(key.public()))
    }

    /// Makes a private key active that a process stored before it died.
    /// The caller holds the lock.
    pub(in crate::store) fn adopt(
        &mut self,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Option<PublicKey>> {
        // Dovecot's Redis dict can't list at all. Nothing is lost without: where no key is active,
        // nothing was encrypted to the one that would have been found, and it stays where it is.
        let ids = match level {
            Level::User => filing::listed(level, at).unwrap_or_default(),
            Level::Folder => {
                filing::ids(at, Scope::Private, &level.private_prefix()).unwrap_or_default()
            }
        };
        for id in ids {
            let filed = Filed::read(at, Scope::Private, &level.private(&id))?;
            // One that can't be unlocked is of no use for new mail; it stays where it is.
            if let Ok(key) = self.unlock_filed(level, &id, at, &filed, host, 0) {
                let public = key.public();
                let stored = || NewKey {
                    level,
                    id,
                    public: public.clone(),
                    private: None,
                };
                let new = self.take_unstored(&id, at)?.unwrap_or_else(stored);
                self.store(at, new)?;
                host.debug(&|| format!("made key {id} of {} active again", owner(level, at, host)));
                return Ok(Some(public));
            }
        }
        Ok(None)
    }

    /// Makes a key pair, stores it and makes it active. The caller holds the lock.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] without a curve, [`ErrorKind::Store`] where storing failed.
    pub fn generate(
        &mut self,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
        protect: Protect<'_>,
    ) -> Result<PublicKey> {
        let key = self.new_key(at)?;
        let text = key.to_dovecot(protect)?;
        self.store_made(level, at, host, key, text)
    }

    fn new_key(&self, at: &dyn Attributes) -> Result<PrivateKey> {
        let Some(curve) = self.settings.curve()? else {
            return Err(Error::setting(format!(
                "mailbox {} has no key, and {} is not set to make one",
                at.mailbox(),
                self.settings.name(Setting::Curve)
            )));
        };
        PrivateKey::generate(curve)
    }

    fn store_made(
        &mut self,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
        key: PrivateKey,
        text: Zeroizing<String>,
    ) -> Result<PublicKey> {
        let (id, public) = (key.id(), key.public());
        let stored = StoredKey::parse(&text);
        let protected = stored.is_ok_and(|key| key.protection() != Protection::None);
        let private = Some(text);
        let new = NewKey {
            level,
            id,
            public: public.clone(),
            private,
        };
        let done = self.store(at, new);
        host.events()
            .emit(Happened::created(level, protected, kind(&done)));
        done?;
        host.debug(&|| format!("made key {id} of {}", owner(level, at, host)));
        self.private.insert(id, key);
        Ok(public)
    }
}
