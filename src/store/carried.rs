//! Keys that follow a folder whose GUID changes: attributes are filed under it, and would stay
//! behind. They are stored under the new GUID before the folder gets it, so that who dies on the way has
//! them under both; what is under the old one is left there.
#![forbid(unsafe_code)]

use super::attributes::{Attributes, Change, Host, Level, Scope};
use crate::error::{Error, Result};

/// The keys of one folder, those of its user included where it is INBOX.
pub struct Carried(Vec<(Level, Vec<Change>)>);

impl Carried {
    /// All keys that `folder` has.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where they can't be read: the GUID must then not change.
    pub fn take(folder: &mut dyn Attributes, host: &mut dyn Host) -> Result<Self> {
        let names = match listed(folder) {
            Ok(names) => names,
            Err(e) => active(folder, host, &e)?,
        };
        let mut carried = Vec::new();
        for level in [Level::User, Level::Folder] {
            let mut keys = Vec::new();
            for (scope, name) in &names {
                // Dovecot lists the prefix itself, too: it is registered.
                let rest = name.strip_prefix(level.prefix());
                if rest.is_none_or(str::is_empty) {
                    continue;
                }
                if let Some(value) = folder.get(*scope, name)? {
                    keys.push(Change::set(*scope, name.clone(), value));
                }
            }
            carried.push((level, keys));
        }
        Ok(Carried(carried))
    }

    /// Stores them for `folder`, which says by now that it has the new GUID. What is there already stays
    /// as it is: by that GUID it may be a folder that is known elsewhere.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where they can't be stored.
    pub fn put(self, folder: &mut dyn Attributes) -> Result<()> {
        for (level, keys) in self.0 {
            if keys.is_empty() {
                continue;
            }
            let _lock = folder.lock(level)?;
            let mut missing = Vec::new();
            for key in keys {
                if folder.get(key.scope, &key.name)?.is_none() {
                    missing.push(key);
                }
            }
            // Private keys first, as where they are made.
            let (private, shared): (Vec<_>, Vec<_>) = missing
                .into_iter()
                .partition(|key| key.scope == Scope::Private);
            for changes in [private, shared] {
                if !changes.is_empty() {
                    folder.commit(changes)?;
                }
            }
        }
        Ok(())
    }
}

/// The names of all attributes.
fn listed(folder: &mut dyn Attributes) -> Result<Vec<(Scope, String)>> {
    let mut names = Vec::new();
    for scope in [Scope::Private, Scope::Shared] {
        names.extend(folder.list(scope, "")?.into_iter().map(|n| (scope, n)));
    }
    Ok(names)
}

/// The names of the active keys' attributes, for dicts that can't list at all.
fn active(
    folder: &mut dyn Attributes,
    host: &mut dyn Host,
    why: &Error,
) -> Result<Vec<(Scope, String)>> {
    let mut names = Vec::new();
    for level in [Level::User, Level::Folder] {
        let Some(id) = folder.get(Scope::Shared, &level.active())? else {
            continue;
        };
        let id = id.trim();
        names.extend([
            (Scope::Private, format!("{}{id}", level.private_prefix())),
            (Scope::Shared, format!("{}{id}", level.public_prefix())),
            (Scope::Shared, level.active()),
        ]);
    }
    if !names.is_empty() {
        host.warn(&format!(
            "mailbox {} gets another GUID, and only its active keys follow: {why}",
            folder.mailbox()
        ));
    }
    Ok(names)
}
