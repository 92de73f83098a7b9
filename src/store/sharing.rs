//! Sharing a folder's keys as its ACL changes: rights and keys change together or not at all.
//!
//! A user who may read by an entry of their own gets every key of the folder, encrypted to that user's key.
//! Groups, "anyone" and users without a key can only be given the keys as they are: one
//! unencrypted copy, which exists exactly as long as one of them may read.
//!
//! Asking about other users is the caller's business, in between: [`Sharing::wanted`] names them,
//! [`Sharing::answer`] takes what was found. [`AclChange`] says in which order all that is done.
#![forbid(unsafe_code)]

mod change;
mod copies;

use std::collections::{BTreeMap, BTreeSet};

use self::copies::{Changes, folder_keys, hex_folder, names, under};
use super::acl::{self, Entry, Readers, Update, Who};
use super::attributes::{Access, Attributes, BY_ID, Change, Host, Level, Scope, shared_with};
use super::events;
use super::filing::{self, Active};
use super::keyring::Keyring;
use super::names::Setting;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, PrivateKey, Protect, PublicKey};

pub use change::{AclChange, Next};

/// What is known about somebody with whom a folder is shared.
pub enum Sharee {
    /// There is no such user.
    Unknown,
    /// A user, by the name that the user's own sessions have.
    User {
        /// That name.
        name: String,
        /// The user's active public key.
        key: Option<PublicKey>,
    },
}

/// One change of a folder's ACL, or one look at who lacks its keys.
pub struct Sharing {
    owner: String,
    update: Option<Update>,
    before: Readers,
    after: Readers,
    /// Whether the update gives the right to read.
    grants: bool,
    /// The folder's keys.
    keys: Vec<KeyId>,
    /// What there is under [`Level::private_prefix`] in [`Scope::Shared`].
    copies: BTreeSet<String>,
    /// What the users' copies among them are under, where nothing else is changed: users rotate their keys.
    under: BTreeMap<String, KeyId>,
    /// Nothing to share here, now or later.
    idle: bool,
    /// Whom the caller asked about; `None` where it can't be told.
    found: BTreeMap<String, Option<Sharee>>,
    undo: Vec<Change>,
}

impl Sharing {
    /// Begins with the folder's ACL as it is, and what is going to be changed, if anything.
    /// `owner` is the folder's owner, who isn't a sharee.
    ///
    /// One that is going to be applied must be made under the folder's lock, from `entries` that were read
    /// under it.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] where the folder's attributes can't be read.
    pub fn new(
        owner: &str,
        entries: &[Entry],
        update: Option<Update>,
        ring: &Keyring,
        folder: &mut dyn Attributes,
    ) -> Result<Self> {
        let later = match &update {
            Some(update) => acl::updated(entries, update),
            None => entries.to_vec(),
        };
        let keys = folder_keys(folder)?;
        let copies = folder.list(Scope::Shared, &Level::Folder.private_prefix())?;
        let under = match update {
            None => under(folder, &copies)?,
            Some(_) => BTreeMap::new(),
        };
        // Keys of public folders belong to nobody; a global key is shared by configuration.
        let global = ring.settings().is_global() && keys.is_empty();
        Ok(Sharing {
            owner: owner.to_owned(),
            before: acl::readers(entries),
            after: acl::readers(&later),
            grants: update.as_ref().is_some_and(|u| acl::gives(&later, &u.who)),
            update,
            keys,
            copies: BTreeSet::from_iter(copies),
            under,
            idle: global || folder.access() == Access::Public,
            found: BTreeMap::new(),
            undo: Vec::new(),
        })
    }

    /// The same, with what was answered to an earlier look.
    pub fn knowing(mut self, earlier: Self) -> Self {
        self.found = earlier.found;
        let granted = self.updated_user().filter(|_| self.grants);
        if let Some(user) = granted.map(str::to_owned) {
            // The earlier look may have granted nothing, and an unknown user didn't matter then.
            self.found
                .retain(|name, found| *name != user || matches!(found, Some(Sharee::User { .. })));
        }
        self
    }

    /// The next user whom the caller has to look up, for [`Sharing::answer`].
    pub fn wanted(&self) -> Option<String> {
        if self.idle {
            return None;
        }
        let mut names = Vec::new();
        if let Some(user) = self.updated_user() {
            // A user who can read no more may have copies under a name that isn't the ACL's.
            let gone = self.before.users.contains(user) && !self.has_copies(user);
            if self.grants || gone {
                names.push(user);
            }
        }
        let may_be_older = |user: &str| self.update.is_none() && self.has_copies(user);
        let lacking = |user: &&str| *user != self.owner && (self.lacks(user) || may_be_older(user));
        names.extend(self.after.users.iter().map(String::as_str).filter(lacking));
        let new = names.into_iter().find(|n| !self.found.contains_key(*n));
        new.map(str::to_owned)
    }

    /// Takes what was found out about `name`, or why nothing could be.
    ///
    /// # Errors
    /// Where the update would let that user read, but without the keys.
    pub fn answer(&mut self, name: &str, found: Result<Sharee>) -> Result<()> {
        let granted = self.grants && self.updated_user() == Some(name);
        let found = match found {
            Ok(Sharee::Unknown) if granted => Err(Error::new(
                ErrorKind::NoKey,
                format!("there is no user {name} to share the folder's keys with"),
            )),
            Err(e) if granted => Err(e.context(format!("the key of user {name}"))),
            found => Ok(found.ok()),
        };
        self.found.insert(name.to_owned(), found?);
        Ok(())
    }

    /// Stores and removes the copies that the change asks for. Every check comes before the first
    /// change, and a change that fails is undone.
    ///
    /// # Errors
    /// The rights must then not change. [`ErrorKind::Setting`] where an unencrypted copy would be
    /// needed and isn't allowed; what unlocking says where a key can't be shared.
    pub fn apply(
        &mut self,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        if self.idle {
            return Ok(());
        }
        let done = self.change_copies(ring, folder, host);
        events::tell(events::Change::Shared, &done, host);
        done.map(|_| ())
    }

    /// Returns whether there was something to change.
    fn change_copies(
        &mut self,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<bool> {
        let mut changes = Changes::default();
        let open = self.open_wanted(ring, folder, host)?;
        self.unshare(folder, &mut changes)?;
        let keys = self.unlock(open, ring, folder, host)?;
        self.share(&keys, &mut changes)?;
        self.share_open(open, &keys, folder, &mut changes)?;
        if changes.0.is_empty() {
            return Ok(false);
        }
        host.debug(&|| changes.summary(&folder.mailbox()));
        self.store(changes, folder)?;
        Ok(true)
    }

    /// Takes back what [`Sharing::apply`] did, because the rights could not be changed.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]: then keys and rights differ.
    pub fn undo(&mut self, folder: &mut dyn Attributes) -> Result<()> {
        match std::mem::take(&mut self.undo) {
            undo if undo.is_empty() => Ok(()),
            undo => folder.commit(undo),
        }
    }

    fn updated_user(&self) -> Option<&str> {
        match self.update.as_ref().map(|u| &u.who) {
            Some(Who::User(name)) if *name != self.owner => Some(name),
            _ => None,
        }
    }

    fn sharee(&self, asked: &str) -> Option<&Sharee> {
        self.found.get(asked).and_then(Option::as_ref)
    }

    fn has_copies(&self, user: &str) -> bool {
        let folder = hex_folder(user);
        self.copies.iter().any(|c| c.starts_with(&folder))
    }

    fn lacks(&self, user: &str) -> bool {
        let folder = hex_folder(user);
        let has = |id: &KeyId| self.copies.contains(&format!("{folder}{id}"));
        !self.keys.iter().all(has)
    }

    /// What is to happen to the unencrypted copy.
    fn open_wanted(
        &self,
        ring: &Keyring,
        folder: &dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Open> {
        let readers = self.after.users.iter().filter(|u| **u != self.owner);
        let mut wanted = self.after.others;
        let mut unsure = false;
        for user in readers {
            match self.found.get(user) {
                Some(Some(Sharee::User { key: None, .. })) => wanted = true,
                Some(None) => unsure = true,
                _ => {}
            }
        }
        if wanted && ring.settings().require_secure_sharing {
            let why = format!(
                "it can only be shared unencrypted, and {} is set",
                ring.settings().name(Setting::RequireSecureSharing)
            );
            if self.grants && self.needs_open() {
                return Err(Error::setting(why));
            }
            if self.update.is_none() {
                host.warn(&format!("key of mailbox {}: {why}", folder.mailbox()));
            }
            // Older copies stay as long as their readers.
            return Ok(Open::Leave);
        }
        Ok(match (wanted, unsure) {
            (true, _) => Open::Store,
            (false, true) => Open::Leave,
            (false, false) => Open::Remove,
        })
    }

    /// Whether those whom the update is about depend on the unencrypted copy.
    fn needs_open(&self) -> bool {
        match self.updated_user() {
            Some(user) => matches!(self.sharee(user), Some(Sharee::User { key: None, .. })),
            None => !matches!(
                self.update.as_ref().map(|u| &u.who),
                Some(Who::User(_) | Who::Owner)
            ),
        }
    }

    /// Removes the copies of the user who can read no more, and what no reader could find.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] where the dict can't tell what is filed by id: the folder may have got another GUID.
    fn unshare(&self, folder: &mut dyn Attributes, changes: &mut Changes) -> Result<()> {
        let mut gone = Vec::new();
        if let Some(user) = self.updated_user() {
            if !self.after.users.contains(user) {
                gone.push(hex_folder(user));
                if let Some(Sharee::User { name, .. }) = self.sharee(user) {
                    gone.push(hex_folder(name));
                }
            }
        }
        for copy in &self.copies {
            let id = copy.rsplit('/').next().unwrap_or_default();
            if gone.iter().any(|g| copy.starts_with(g)) || id.parse::<KeyId>().is_err() {
                changes.unset(copy);
            }
        }
        for copy in gone
            .iter()
            .flat_map(|g| self.keys.iter().map(move |id| format!("{g}{id}")))
        {
            self.unset_by_id(&copy, folder, changes)?;
        }
        Ok(())
    }

    /// Removes the copy `copy` if it is filed by its id.
    fn unset_by_id(
        &self,
        copy: &str,
        folder: &mut dyn Attributes,
        changes: &mut Changes,
    ) -> Result<()> {
        let name = format!("{}{copy}", Level::Folder.private_prefix());
        if folder.under(&BY_ID).get(Scope::Shared, &name)?.is_some() {
            changes.unset(copy);
        }
        Ok(())
    }

    /// The keys that have to be stored anew for somebody, by the id under which they are kept.
    fn unlock(
        &self,
        open: Open,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Vec<(KeyId, PrivateKey)>> {
        let mut keys = Vec::new();
        for id in self.keys.iter().filter(|id| self.is_missing(id, open)) {
            match ring.private_key(&[*id], folder, host) {
                Ok(key) => keys.push((*id, key)),
                Err(e) if self.grants => return Err(e.context("a key of the folder")),
                Err(e) => host.warn(&format!(
                    "mailbox {}: a key can't be shared: {e}",
                    folder.mailbox()
                )),
            }
        }
        Ok(keys)
    }

    fn is_missing(&self, id: &KeyId, open: Open) -> bool {
        let has = |user: &str| self.copies.contains(&format!("{}{id}", hex_folder(user)));
        (open == Open::Store && !self.copies.contains(&id.to_string()))
            || self.recipients().any(|r| r.anew || !has(r.name))
    }

    /// Of the users that were looked up: those with a key who are to read.
    fn recipients(&self) -> impl Iterator<Item = Recipient<'_>> {
        self.found.iter().filter_map(|(asked, found)| match found {
            Some(Sharee::User { name, key }) if self.after.users.contains(asked) => {
                let key = key.as_ref()?;
                let granted = self.grants && self.updated_user() == Some(asked);
                Some(Recipient {
                    name,
                    key,
                    anew: granted || self.is_older(name, key),
                })
            }
            _ => None,
        })
    }

    /// Whether a copy of that user is under another key than the active one.
    fn is_older(&self, user: &str, key: &PublicKey) -> bool {
        let folder = hex_folder(user);
        let mut copies = self
            .under
            .iter()
            .filter(|(copy, _)| copy.starts_with(&folder));
        copies.any(|(_, by)| !key.matches(by))
    }

    /// Encrypts `keys` to the users who lack them.
    fn share(&self, keys: &[(KeyId, PrivateKey)], changes: &mut Changes) -> Result<()> {
        for to in self.recipients() {
            for (id, key) in keys.iter().flat_map(|(id, key)| names(id, key)) {
                let copy = format!("{}{id}", hex_folder(to.name));
                if to.anew || !self.copies.contains(&copy) {
                    let value = key.to_dovecot(Protect::Key(to.key))?;
                    changes.set(shared_with(to.name, &id), value);
                }
            }
        }
        Ok(())
    }

    fn share_open(
        &self,
        open: Open,
        keys: &[(KeyId, PrivateKey)],
        folder: &mut dyn Attributes,
        changes: &mut Changes,
    ) -> Result<()> {
        let is_there = |id: &KeyId| self.copies.contains(&id.to_string());
        match open {
            Open::Leave => {}
            Open::Remove => {
                for copy in self.copies.iter().filter(|c| !c.contains('/')) {
                    changes.unset(copy);
                }
                for id in &self.keys {
                    self.unset_by_id(&id.to_string(), folder, changes)?;
                }
            }
            Open::Store => {
                for (id, key) in keys.iter().flat_map(|(id, key)| names(id, key)) {
                    if !is_there(&id) {
                        let value = key.to_dovecot(Protect::None)?;
                        changes.set(Level::Folder.private(&id), value);
                    }
                }
            }
        }
        Ok(())
    }

    fn store(&mut self, changes: Changes, folder: &mut dyn Attributes) -> Result<()> {
        let prefix = Level::Folder.private_prefix();
        for name in changes.0.keys() {
            let is_there = |copy| self.copies.contains(copy);
            let value = if name.strip_prefix(&prefix).is_some_and(is_there) {
                folder.get(Scope::Shared, name)?
            } else {
                None
            };
            let (scope, name) = (Scope::Shared, name.clone());
            self.undo.push(match value {
                Some(value) => Change::set(scope, name, value),
                None => Change::unset(scope, name),
            });
        }
        folder.commit(changes.into_list()).inspect_err(|_| {
            // Some dicts may have applied a part. The first error says what is wrong.
            let _ = self.undo(folder);
        })
    }
}

/// Somebody to whom keys are encrypted.
struct Recipient<'a> {
    name: &'a str,
    key: &'a PublicKey,
    /// Also what is there already: it may be for a key that the user lost.
    anew: bool,
}

/// What happens to the unencrypted copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Store,
    Remove,
    Leave,
}

/// The active key of the user whose INBOX is `inbox`; `None` for a user without keys.
///
/// # Errors
/// [`ErrorKind::Store`] where the dict can't answer; corrupt where it is no usable key.
pub fn active_key(inbox: &mut dyn Attributes) -> Result<Option<PublicKey>> {
    let Some(Active { id, .. }) = filing::active(Level::User, inbox)? else {
        return Ok(None);
    };
    match filing::public(Level::User, inbox, &id)? {
        Some((key, _)) => Ok(Some(key)),
        None => Err(Error::corrupt(format!("public key {id} is gone"))),
    }
}

#[cfg(test)]
mod tests;
