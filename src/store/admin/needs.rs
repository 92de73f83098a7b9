//! What is under the user's older keys: they have to stay as long as something is.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::super::attributes::{Access, Attributes, BY_ID, Host, Level, Scope, shared_with_prefix};
use super::super::filing::{self, Filed};
use super::super::slots;
use crate::error::Result;
use crate::key::{KeyId, Protection, StoredKey};

/// Where keys are that are under each user key.
#[derive(Default)]
pub(super) struct Needs {
    by: BTreeMap<KeyId, Vec<String>>,
}

impl Needs {
    /// Looks at the keys that a folder has for the user.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`].
    pub(super) fn of_folder(
        &mut self,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let (scope, prefix) = match folder.access() {
            Access::Own => (Scope::Private, Level::Folder.private_prefix()),
            Access::Shared | Access::Public => (Scope::Shared, shared_with_prefix(host.username())),
        };
        for id in filing::ids(folder, scope, &prefix)? {
            let filed = Filed::read(folder, scope, &format!("{prefix}{id}"))?;
            self.add(&filed, &format!("mailbox {}", folder.mailbox()));
        }
        Ok(())
    }

    /// Looks at the keys that no folder has, and says what each of the older user keys is needed for.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`].
    pub(super) fn of_user(&mut self, inbox: &mut dyn Attributes) -> Result<Vec<String>> {
        for id in filing::listed_by_id(Level::Folder, inbox)? {
            let mut by_id = inbox.under(&BY_ID);
            let name = Level::Folder.private(&id);
            let filed = Filed::read(by_id.as_mut(), Scope::Private, &name)?;
            drop(by_id);
            self.add(&filed, "folder keys that are found by their id");
        }
        let active = filing::active(Level::User, inbox)?.map(|active| active.id);
        let found = slots::read(inbox).unwrap_or_default();
        let older = filing::listed(Level::User, inbox)?;
        let older = older.into_iter().filter(|id| Some(*id) != active);
        Ok(older
            .map(|id| {
                let locked = if found.is_locked(&id.0) {
                    ", which is locked,"
                } else {
                    ""
                };
                match self.by.get(&id) {
                    Some(places) => {
                        format!("user key {id}{locked} is needed by {}", places.join(", "))
                    }
                    None => {
                        format!("user key {id}{locked} is needed by nothing: it can be deleted")
                    }
                }
            })
            .collect())
    }

    fn add(&mut self, filed: &Filed, place: &str) {
        for text in filed.texts() {
            let protection = StoredKey::parse(&text).map(|key| key.protection());
            if let Ok(Protection::Key(by)) = protection {
                let places = self.by.entry(by).or_default();
                if !places.iter().any(|known| known == place) {
                    places.push(place.to_owned());
                }
            }
        }
    }
}
