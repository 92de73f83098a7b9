//! `cryptokey delete`: a key that nothing needs any more.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::super::attributes::{
    Access, Attributes, BY_ID, Change, Host, Level, Scope, shared_with_prefix,
};
use super::super::filing::{self, Filed, Unsettled};
use super::super::keyring::Keyring;
use super::super::slots;
use super::{key_id, not_there, owner, public_of, stored_key};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Protection, PublicKey};

/// The deletion of a key: first everything that might need the key is checked, then the key is deleted.
#[derive(Clone)]
pub struct KeyDeletion {
    level: Level,
    name: KeyId,
    /// Both ids come from here; where nothing is left to read it from, only `name` is known.
    public: Option<PublicKey>,
    /// What [`KeyDeletion::retire`] took away.
    retired: Option<Zeroizing<String>>,
}

impl KeyDeletion {
    /// The key of `level` that is stored at `at` under `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NoKey`] where there is none; [`ErrorKind::Refused`] for the active key and for
    /// a user key that another user key is under, unless `force`.
    pub fn find(
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
        name: &str,
        force: bool,
    ) -> Result<Self> {
        let name = key_id(name)?;
        if level == Level::Folder && at.access() == Access::Shared {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("mailbox {} and its keys are another user's", at.mailbox()),
            ));
        }
        let private = Filed::read(at, Scope::Private, &level.private(&name))?;
        if private.is_none() && filing::public_text(level, at, &name)?.is_none() {
            return Err(not_there(level, at, host, &name));
        }
        let public = public_of(ring, level, at, host, &name);
        let deletion = KeyDeletion {
            level,
            name,
            public,
            retired: None,
        };
        if !force {
            deletion.check_active(at, host)?;
            if level == Level::User {
                deletion.check_keys(at, Scope::Private, &level.private_prefix())?;
            }
        }
        Ok(deletion)
    }

    /// The name under which it is stored.
    pub fn name(&self) -> &KeyId {
        &self.name
    }

    /// Whether `id` is one of its ids.
    fn is(&self, id: &KeyId) -> bool {
        self.name == *id || self.public.as_ref().is_some_and(|key| key.matches(id))
    }

    fn check_active(&self, at: &mut dyn Attributes, host: &dyn Host) -> Result<()> {
        match filing::active(self.level, at)? {
            Some(active) if self.is(&active.id) => Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "key {} is the active key of {}: generate another one first",
                    self.name,
                    owner(self.level, at, host)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Takes the public key away, before everything that might need the key is looked at. Whoever
    /// has begun to encrypt a mail to it notices, and doesn't store that mail behind our back.
    ///
    /// # Errors
    /// [`ErrorKind::Store`].
    pub fn retire(&mut self, at: &mut dyn Attributes) -> Result<()> {
        let _lock = at.lock(self.level)?;
        let public = self.level.public(&self.name);
        self.retired = filing::public_text(self.level, at, &self.name)?.map(|public| public.text);
        match &self.retired {
            Some(_) => at.commit(vec![Change::unset(Scope::Shared, public)]),
            None => Ok(()),
        }
    }

    /// Takes [`KeyDeletion::retire`] back.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]: the key still opens what was encrypted to it.
    pub fn undo(&mut self, at: &mut dyn Attributes) -> Result<()> {
        match self.retired.take() {
            Some(text) => {
                let _lock = at.lock(self.level)?;
                let public = self.level.public(&self.name);
                at.commit(vec![Change::set(Scope::Shared, public, text)])
            }
            None => Ok(()),
        }
    }

    /// Checks a mail, by the keys that it is encrypted to.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] where it needs this key.
    pub fn check_mail(&self, uid: u32, recipients: &[KeyId]) -> Result<()> {
        if recipients.iter().any(|id| self.is(id)) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "key {} is still needed by the mail with UID {uid}",
                    self.name
                ),
            ));
        }
        Ok(())
    }

    /// For a user key: checks the keys that are stored for the user in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] where one of them is under this key.
    pub fn check_folder(&self, folder: &mut dyn Attributes, host: &dyn Host) -> Result<()> {
        // Whoever is about to put a folder key under it has seen, under this lock, that it is active.
        let _lock = match folder.access() {
            Access::Own => Some(folder.lock(Level::Folder)?),
            Access::Shared | Access::Public => None,
        };
        let own = Level::Folder.private_prefix();
        let shared = shared_with_prefix(host.username());
        match folder.access() {
            Access::Own => self.check_keys(folder, Scope::Private, &own),
            Access::Shared => self.check_keys(folder, Scope::Shared, &shared),
            Access::Public => {
                self.check_keys(folder, Scope::Private, &own)?;
                self.check_keys(folder, Scope::Shared, &shared)
            }
        }
    }

    fn check_keys(&self, at: &mut dyn Attributes, scope: Scope, prefix: &str) -> Result<()> {
        for id in filing::ids(at, scope, prefix)? {
            let Some(text) = at.get(scope, &format!("{prefix}{id}"))? else {
                continue;
            };
            // A key that can't be read can't be ruled out either.
            let by = stored_key(&id, &text)?.protection();
            if matches!(by, Protection::Key(by) if self.is(&by)) {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!(
                        "key {} is still needed: key {id} of mailbox {} is under it",
                        self.name,
                        at.mailbox()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Checks the folder keys that are filed by their ids, whether a folder has them or not.
    fn check_keys_without_folder(&self, inbox: &mut dyn Attributes) -> Result<()> {
        for id in filing::listed_by_id(Level::Folder, inbox)? {
            let name = Level::Folder.private(&id);
            let filed = Filed::read(inbox.under(&BY_ID).as_mut(), Scope::Private, &name)?;
            let mut needs = true;
            for text in filed.texts() {
                let by = stored_key(&id, &text)?.protection();
                needs &= matches!(by, Protection::Key(by) if self.is(&by));
            }
            if needs {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!(
                        "key {} is still needed: the folder key {id} is under it",
                        self.name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Deletes it, with every copy for others.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]; [`ErrorKind::Refused`] where it has become active meanwhile, or a folder key that no
    /// folder has is under it, unless `force`.
    pub fn delete(
        &self,
        ring: &mut Keyring,
        at: &mut dyn Attributes,
        host: &dyn Host,
        force: bool,
    ) -> Result<()> {
        if self.level == Level::User && !force {
            // As in `check_folder`.
            drop(at.lock(Level::Folder)?);
        }
        if self.level == Level::User {
            // Filed by its id, another key may still be active: this one, if another program made the new one.
            settle_active_key(at)?;
        }
        let _lock = at.lock(self.level)?;
        let active = self.check_active(at, host);
        let is_active = active.is_err();
        if !force {
            active?;
            if self.level == Level::User {
                self.check_keys_without_folder(at)?;
            }
        }
        let mut changes = Vec::new();
        if is_active {
            changes.push(Change::unset(Scope::Shared, self.level.active()));
        }
        changes.push(Change::unset(Scope::Shared, self.level.public(&self.name)));
        for copy in self.copies(at)? {
            changes.push(Change::unset(Scope::Shared, copy));
        }
        // The private key last, and alone: dicts apply a transaction in parts, private ones first,
        // and nothing may be encrypted to a key that is half gone.
        at.commit(changes)?;
        let private = self.level.private(&self.name);
        at.commit(vec![Change::unset(Scope::Private, private)])?;
        if self.level == Level::User {
            self.forget_in_slots(at)?;
        }
        ring.forget();
        Ok(())
    }

    /// Without this, a slot would still open the key.
    fn forget_in_slots(&self, inbox: &mut dyn Attributes) -> Result<()> {
        // A dict without a place for slots has none.
        let Ok(mut found) = slots::read(inbox) else {
            return Ok(());
        };
        let id = self.public.as_ref().map_or(self.name, PublicKey::id);
        if slots::forget_key(&mut found, &id) {
            slots::write(inbox, &mut found)?;
        }
        Ok(())
    }

    /// The attributes that hold it for others. They stay filed by id when the folder gets another GUID.
    fn copies(&self, at: &mut dyn Attributes) -> Result<Vec<String>> {
        let prefix = self.level.private_prefix();
        let name = self.name.to_string();
        let mut names = BTreeSet::from_iter(at.list(Scope::Shared, &prefix)?);
        names.extend(at.under(&BY_ID).list(Scope::Shared, &prefix)?);
        let copies = names
            .into_iter()
            .filter(|n| n.rsplit('/').next().is_some_and(|last| last == name));
        let mut copies: Vec<String> = copies.map(|n| format!("{prefix}{n}")).collect();
        // An unencrypted one may be left by its id alone.
        if !copies.contains(&self.level.private(&self.name)) {
            copies.push(self.level.private(&self.name));
        }
        Ok(copies)
    }
}

/// Files the active user key in both of its places.
fn settle_active_key(inbox: &mut dyn Attributes) -> Result<()> {
    let level = Level::User;
    let Some(active) = filing::active(level, inbox)? else {
        return Ok(());
    };
    let key = Unsettled {
        level,
        id: active.id,
        mailbox: inbox.mailbox(),
        text: None,
    };
    filing::settle(inbox, &key).map(|_| ())
}
