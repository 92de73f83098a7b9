//! Keys that follow a folder whose GUID is about to change: they are filed under the new GUID before the folder has
//! it. Each would be found by its id anyway; this keeps the active key active, and lets the packaged plugin read.
#![forbid(unsafe_code)]

use super::attributes::{Attributes, BY_ID, Change, Guid, Host, Level, Scope};
use crate::error::{Error, Result};

/// Files all keys that `folder` has, those of its user included where it is INBOX, under `guid` as well. What is
/// there already stays as it is: a folder with that GUID may be known elsewhere.
///
/// # Errors
/// [`crate::ErrorKind::Store`]: the GUID must then not change.
pub fn carry(folder: &mut dyn Attributes, guid: &Guid, host: &mut dyn Host) -> Result<()> {
    for level in [Level::User, Level::Folder] {
        if names(level, folder, host)?.is_empty() {
            continue;
        }
        let _lock = folder.lock(level)?;
        let mut missing = Vec::new();
        for (scope, name) in names(level, folder, host)? {
            let Some(value) = folder.get(scope, &name)? else {
                continue;
            };
            let there = folder.under(guid).get(scope, &name)?;
            // The same value is stored again: a file dict remembers what it could not write.
            if there.is_none_or(|there| there == value) {
                missing.push(as_filed(folder, Change::set(scope, name, value))?);
            }
        }
        // Private keys first, as where they are made.
        let (private, shared): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|key| key.scope == Scope::Private);
        host.debug(&|| {
            let count = private.len();
            format!(
                "{count} private key(s) of {} follow to its new GUID",
                folder.mailbox()
            )
        });
        for changes in [private, shared] {
            if !changes.is_empty() {
                folder.under(guid).commit(changes)?;
            }
        }
    }
    Ok(())
}

/// What is already filed by its id stays as it is: it may be newer, and under another password.
fn as_filed(folder: &mut dyn Attributes, mut change: Change) -> Result<Change> {
    if let Some((scope, name)) = change.filed_by_id() {
        change.only_here = folder.under(&BY_ID).get(scope, &name)?.is_some();
    }
    Ok(change)
}

/// The names of all keys' attributes.
fn names(
    level: Level,
    folder: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<Vec<(Scope, String)>> {
    let mut names = Vec::new();
    for scope in [Scope::Private, Scope::Shared] {
        match folder.list(scope, level.prefix()) {
            Ok(found) => names.extend(
                found
                    .iter()
                    // Dovecot lists the prefix itself, too: it is registered.
                    .filter(|rest| !rest.is_empty())
                    .map(|rest| (scope, format!("{}{rest}", level.prefix()))),
            ),
            Err(e) => return active(level, folder, host, &e),
        }
    }
    Ok(names)
}

/// The names of the active key's attributes, for dicts that can't list at all. All others are found by their ids.
fn active(
    level: Level,
    folder: &mut dyn Attributes,
    host: &mut dyn Host,
    why: &Error,
) -> Result<Vec<(Scope, String)>> {
    let Some(id) = folder.get(Scope::Shared, &level.active())? else {
        return Ok(Vec::new());
    };
    let id = id.trim();
    if level == Level::Folder {
        host.warn(&format!(
            "mailbox {} gets another GUID, and only its active keys follow: {why}",
            folder.mailbox()
        ));
    }
    Ok(vec![
        (Scope::Private, format!("{}{id}", level.private_prefix())),
        (Scope::Shared, format!("{}{id}", level.public_prefix())),
        (Scope::Shared, level.active()),
    ])
}

#[cfg(test)]
mod tests;
