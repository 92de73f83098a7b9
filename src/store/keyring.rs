//! What one user's session knows about keys, and how it finds and unlocks the others. The keys that new
//! mail is encrypted to are in [`make`].
#![forbid(unsafe_code)]

mod make;
mod own;
mod password;
mod protect;
mod slots;
mod store;
mod trees;
mod unlock;
mod upkeep;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::attributes::{Access, Attributes, Host, Level, Scope, shared_with_prefix};
use super::filing::{self, Filed, Unsettled};
use super::index_cache;
use super::key_source::Memory;
use super::senders;
use super::settings::{Password, Settings};
use crate::bounded::Bounded;
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::key::trees::TreesKey;
use crate::key::{KeyId, PrivateKey, PublicKey};
use crate::stream::Sender;
use slots::OpenSlots;
use store::NewKey;

pub(super) use password::wrong_password;
pub(super) use protect::{drop_unused_logins, is_login, open_login, user_key_change, user_keys};
pub(super) use slots::MIN_SECRET;
pub(super) use store::{activate, publish};
pub(super) use upkeep::Extend;

/// Private keys remembered in one session: a user's folders, with room for other people's.
const MAX_KEYS: usize = 1024;

/// One user's keys in one session. Never shared between users: a delivery process serves many.
pub struct Keyring {
    settings: Settings,
    private: Bounded<KeyId, PrivateKey>,
    /// What could not be unlocked, by id and stored text: until that changes, trying again would only
    /// cost a key derivation for each mail.
    failed: Bounded<[u8; 32], Error>,
    user_public: Option<PublicKey>,
    /// What the readers of this session remember.
    pub memory: Memory,
    /// What seals the index cache's entries, by folder key.
    cache_secrets: Bounded<KeyId, Secret>,
    warned_unprotected: bool,
    folder_key_made: bool,
    /// User keys that were told of as not opening.
    told_locked: HashSet<KeyId>,
    /// Keys that could not be stored: what the dict says of them may be wrong.
    unstored: HashMap<KeyId, NewKey>,
    /// Keys that lack a place, for [`Keyring::settle`].
    unsettled: Vec<Unsettled>,
    /// Those that could not be filed: trying again for each mail would wait for locks and a failing dict each time.
    unfiled: HashSet<KeyId>,
    warned_unsettled: bool,
    slots: OpenSlots,
    /// User keys whose strings the password opened, and is to be stretched more in.
    outdated: Vec<(KeyId, Zeroizing<String>)>,
    /// User keys that are known to have their escrow copies, or could not get them.
    escrowed: HashSet<KeyId>,
    warned_escrow: bool,
    /// Once it was needed.
    trees: Option<Result<TreesKey>>,
}

impl Keyring {
    /// The keyring of a user with these settings; nothing is looked up yet.
    pub fn new(settings: Settings) -> Self {
        Keyring {
            settings,
            private: Bounded::new(MAX_KEYS),
            failed: Bounded::new(MAX_KEYS),
            user_public: None,
            memory: Memory::new(MAX_KEYS),
            cache_secrets: Bounded::new(MAX_KEYS),
            warned_unprotected: false,
            folder_key_made: false,
            told_locked: HashSet::new(),
            unstored: HashMap::new(),
            unsettled: Vec::new(),
            unfiled: HashSet::new(),
            warned_unsettled: false,
            slots: OpenSlots::default(),
            outdated: Vec::new(),
            escrowed: HashSet::new(),
            warned_escrow: false,
            trees: None,
        }
    }

    /// The user's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes what came with a command in place of the configured password: a secret, or a private key.
    pub fn give(&mut self, secret: Option<&[u8]>, key: Option<PrivateKey>) {
        if let Some(secret) = secret {
            self.settings.password = Some(Password {
                value: Zeroizing::new(secret.to_vec()),
                origin: "given",
            });
        }
        self.slots.given.extend(key);
        self.forget();
    }

    /// The slot that opened a user key last.
    pub(super) fn used_slot(&self) -> Option<&str> {
        self.slots.used.as_deref()
    }

    /// Forgets what was looked up: the keys have just been changed.
    pub fn forget(&mut self) {
        self.private.clear();
        self.failed.clear();
        self.user_public = None;
        self.slots.forget();
        self.told_locked.clear();
        self.outdated.clear();
    }

    /// To whom new mail in `folder` is encrypted; makes the folder's (and the user's) first key
    /// where there is none.
    ///
    /// # Errors
    /// No mail may then be stored in the folder: never plaintext instead.
    pub fn sender(
        &mut self,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Rc<RefCell<Sender>>> {
        let key = match self.settings.global_public()? {
            Some(key) => {
                host.debug(&|| format!("saving to {}: global key {}", folder.mailbox(), key.id()));
                key.clone()
            }
            None => {
                let key = self.folder_public(folder, host)?;
                host.debug(&|| format!("saving to {}: its key {}", folder.mailbox(), key.id()));
                key
            }
        };
        self.settle(folder, host);
        Ok(senders::sender(key))
    }

    /// Files the keys that were found to lack a place, where `folder` or the user has them. The caller holds no
    /// lock. What can't be filed is used all the same; the log says so once a session.
    pub fn settle(&mut self, folder: &mut dyn Attributes, host: &mut dyn Host) {
        self.upkeep(host);
        for key in std::mem::take(&mut self.unsettled) {
            if let Err(e) = self.settle_one(&key, folder, host) {
                self.unfiled.insert(key.id);
                let text = || {
                    let (id, mailbox) = (&key.id, &key.mailbox);
                    format!(
                        "key {id} of mailbox {mailbox} can't be filed in both of its places: {e}"
                    )
                };
                // Users often may not write where the locks of a public folder are.
                if key.level == Level::Folder && folder.access() == Access::Public {
                    host.debug(&text);
                } else if !std::mem::replace(&mut self.warned_unsettled, true) {
                    host.warn(&text());
                }
            }
        }
    }

    fn settle_one(
        &self,
        key: &Unsettled,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let settled = |host: &dyn Host| {
            host.debug(&|| {
                format!(
                    "filed key {} of mailbox {} in both places",
                    key.id, key.mailbox
                )
            });
        };
        if key.level == Level::User {
            filing::settle(host.inbox()?.as_mut(), key)?;
            settled(host);
            return Ok(());
        }
        // Found by somebody who held a lock, for another folder.
        if key.mailbox != folder.mailbox() {
            return Ok(());
        }
        let never_filed = filing::settle(folder, key)?;
        settled(host);
        // A user who only gets mail has no other occasion.
        if never_filed && folder.access() == Access::Own {
            if let Some(user) = filing::unsettled_user(host)? {
                filing::settle(host.inbox()?.as_mut(), &user)?;
            }
        }
        Ok(())
    }

    /// The secret that seals index cache entries for mails under `key`.
    ///
    /// # Errors
    /// Where libcrypto fails.
    pub fn cache_secret(&mut self, key: &PrivateKey) -> Result<Secret> {
        let id = key.id();
        if let Some(secret) = self.cache_secrets.get(&id) {
            return Ok(secret.clone());
        }
        let secret = index_cache::derive(key)?;
        self.cache_secrets.insert(id, secret.clone());
        Ok(secret)
    }

    /// The private key that one of `ids` names, for a mail in `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::NoKey`] where there is none; what unlocking says where there is one that can't be
    /// used; [`ErrorKind::Store`] where the dict can't answer.
    pub fn private_key(
        &mut self,
        ids: &[KeyId],
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<PrivateKey> {
        self.settings.check()?;
        for id in ids {
            if let Some(key) = self.known_private(id) {
                host.debug(&|| {
                    let global = self.private.get(id).is_none();
                    let kind = if global { "global" } else { "remembered" };
                    format!("reading from {}: {kind} key {id}", folder.mailbox())
                });
                return Ok(key);
            }
        }
        self.settings.check_global(ids)?;
        let mut error = None;
        for id in ids {
            match self.find_folder_private(id, folder, host) {
                Ok(Some(key)) => return Ok(key),
                Ok(None) => {}
                Err(e) => error = Some(e),
            }
        }
        Err(error.unwrap_or_else(|| no_key(ids, folder)))
    }

    /// Keys that need no attribute: the session's, and the settings' global ones.
    fn known_private(&self, id: &KeyId) -> Option<PrivateKey> {
        let global = &self.settings.global_private;
        let found = self.private.get(id);
        found
            .or_else(|| global.iter().find(|key| key.matches(id)))
            .cloned()
    }

    fn find_folder_private(
        &mut self,
        id: &KeyId,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Option<PrivateKey>> {
        for (scope, prefix) in folder_key_places(folder, host) {
            let filed = Filed::read(folder, scope, &format!("{prefix}{id}"))?;
            if !filed.is_none() {
                host.debug(&|| found(folder, id, filed.place()));
                return self
                    .unlock_filed(Level::Folder, id, folder, &filed, host, 0)
                    .map(Some);
            }
        }
        self.find_by_other_id(id, folder, host)
    }

    fn note_unsettled(
        &mut self,
        level: Level,
        id: KeyId,
        at: &dyn Attributes,
        text: Option<Zeroizing<String>>,
    ) {
        if self.unfiled.contains(&id) {
            return;
        }
        let mailbox = at.mailbox();
        self.unsettled.push(Unsettled {
            level,
            id,
            mailbox,
            text,
        });
    }

    /// A key may be stored under its new id and named in a mail by its old one, or the reverse. A last
    /// resort, since it unlocks every key of the folder.
    fn find_by_other_id(
        &mut self,
        id: &KeyId,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Option<PrivateKey>> {
        for (scope, prefix) in folder_key_places(folder, host) {
            for other in filing::ids(folder, scope, &prefix)? {
                let value = folder.get(scope, &format!("{prefix}{other}"))?;
                let Some(value) = value else { continue };
                let Ok(key) = self.unlock(&other, &value, host, 0) else {
                    continue;
                };
                if key.matches(id) {
                    host.debug(&|| found(folder, id, &format!("under its other id {other}")));
                    self.private.insert(*id, key.clone());
                    return Ok(Some(key));
                }
            }
        }
        self.find_by_id_and_other_id(id, folder, host)
    }

    /// The same for a folder whose GUID has changed. The public keys tell which one to unlock.
    fn find_by_id_and_other_id(
        &mut self,
        id: &KeyId,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Option<PrivateKey>> {
        for other in filing::listed_by_id(Level::Folder, folder)? {
            let public = filing::public_text(Level::Folder, folder, &other)?;
            let public = public.and_then(|public| senders::public_key(&public.text).ok());
            if !public.is_some_and(|key| key.matches(id)) {
                continue;
            }
            let filed = Filed::read(folder, Scope::Private, &Level::Folder.private(&other))?;
            host.debug(&|| found(folder, id, &format!("by its other id {other}")));
            let key = self.unlock_filed(Level::Folder, &other, folder, &filed, host, 0)?;
            self.private.insert(*id, key.clone());
            return Ok(Some(key));
        }
        Ok(None)
    }
}

/// Where a folder's private key was found, for the log.
fn found(folder: &dyn Attributes, id: &KeyId, place: &str) -> String {
    format!("reading from {}: key {id}, found {place}", folder.mailbox())
}

/// Where a folder's private keys are for the accessing user: the tree, and what the names there
/// begin with.
fn folder_key_places(folder: &dyn Attributes, host: &dyn Host) -> Vec<(Scope, String)> {
    let prefix = Level::Folder.private_prefix();
    match folder.access() {
        Access::Own => vec![(Scope::Private, prefix)],
        Access::Shared => vec![
            (Scope::Shared, shared_with_prefix(host.username())),
            (Scope::Shared, prefix),
        ],
        // The packaged plugin stores keys of public folders as the saving user's own.
        Access::Public => vec![(Scope::Shared, prefix.clone()), (Scope::Private, prefix)],
    }
}

fn no_key(ids: &[KeyId], folder: &dyn Attributes) -> Error {
    let ids: Vec<String> = ids.iter().map(KeyId::to_string).collect();
    let hint = match folder.access() {
        Access::Shared => " (was it shared with this user?)",
        Access::Own => ", neither under its GUID nor by its id",
        Access::Public => "",
    };
    Error::new(
        ErrorKind::NoKey,
        format!(
            "no private key {} for mailbox {}{hint}",
            ids.join(", "),
            folder.mailbox()
        ),
    )
}

#[cfg(test)]
mod tests;
