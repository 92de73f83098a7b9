//! A folder's keys, and their copies for others, as attributes.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::super::attributes::{Access, Attributes, Change, Level, Scope};
use super::super::filing;
use crate::error::Result;
use crate::hex;
use crate::key::{KeyId, PrivateKey, Protection, StoredKey};

/// Attributes to change, each once, in [`Scope::Shared`].
#[derive(Default)]
pub(super) struct Changes(pub BTreeMap<String, Option<Zeroizing<String>>>);

impl Changes {
    pub(super) fn set(&mut self, name: String, value: Zeroizing<String>) {
        self.0.insert(name, Some(value));
    }

    /// `copy` is what follows [`Level::private_prefix`].
    pub(super) fn unset(&mut self, copy: &str) {
        let name = format!("{}{copy}", Level::Folder.private_prefix());
        self.0.insert(name, None);
    }

    /// What is changed, for the log.
    pub(super) fn summary(&self, mailbox: &str) -> String {
        let all = self.0.len();
        let stored = self.0.values().filter(|value| value.is_some()).count();
        let removed = all - stored;
        format!("mailbox {mailbox}: {stored} shared copies of keys are stored, {removed} removed")
    }

    pub(super) fn into_list(self) -> Vec<Change> {
        let change = |(name, value)| match value {
            Some(value) => Change::set(Scope::Shared, name, value),
            None => Change::unset(Scope::Shared, name),
        };
        self.0.into_iter().map(change).collect()
    }
}

/// The ids of the folder's keys. Only the owner sees the private ones.
pub(super) fn folder_keys(folder: &mut dyn Attributes) -> Result<Vec<KeyId>> {
    let level = Level::Folder;
    match folder.access() {
        Access::Own => filing::ids(folder, Scope::Private, &level.private_prefix()),
        Access::Shared => filing::ids(folder, Scope::Shared, &level.public_prefix()),
        Access::Public => Ok(Vec::new()),
    }
}

/// Which user key each of the users' `copies` is under, as far as that can be told.
pub(super) fn under(
    folder: &mut dyn Attributes,
    copies: &[String],
) -> Result<BTreeMap<String, KeyId>> {
    let mut under = BTreeMap::new();
    for copy in copies.iter().filter(|copy| copy.contains('/')) {
        let name = format!("{}{copy}", Level::Folder.private_prefix());
        let Some(text) = folder.get(Scope::Shared, &name)? else {
            continue;
        };
        if let Ok(Protection::Key(by)) = StoredKey::parse(&text).map(|key| key.protection()) {
            under.insert(copy.clone(), by);
        }
    }
    Ok(under)
}

/// Under which ids a key is shared. A mail may name a key by its new id where the owner keeps it
/// under the old one, and a sharee has no list of keys to look through.
pub(super) fn names<'a>(id: &KeyId, key: &'a PrivateKey) -> Vec<(KeyId, &'a PrivateKey)> {
    let mut ids = vec![(*id, key)];
    if key.id() != *id {
        ids.push((key.id(), key));
    }
    ids
}

/// What the copies for `user` begin with, after [`Level::private_prefix`].
pub(super) fn hex_folder(user: &str) -> String {
    hex::encode(user.as_bytes()) + "/"
}
