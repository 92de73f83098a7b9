//! Where a key is found: under the GUID of its mailbox, where the packaged plugin looks, and under [`BY_ID`].
//!
//! Dovecot gives a mailbox another GUID whenever it rebuilds an index that it can't read, and takes mails of one
//! GUID for one mail: a key that was only filed under a GUID would be lost with it. Each key is filed in
//! both places by the transaction that stores it. A session that finds a key in one place only files it in
//! the other, as it is, without unlocking it.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::attributes::{Access, Attributes, BY_ID, Change, Host, Level, Scope};
use super::senders;
use crate::error::{Error, Result};
use crate::key::{KeyId, PublicKey};

type Text = Zeroizing<String>;

/// What separates two texts of one key under [`BY_ID`]: see [`settle`].
const SEPARATOR: char = '\n';

/// The stored texts of one private key.
pub struct Filed {
    /// Under the mailbox's GUID.
    here: Option<Text>,
    by_id: Option<Text>,
    /// Whether the session may file it where it is missing.
    own: bool,
}

impl Filed {
    /// Looks `name` up in both places.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where the dict can't say whether there is such a key.
    pub fn read(at: &mut dyn Attributes, scope: Scope, name: &str) -> Result<Self> {
        let here = at.get(scope, name)?;
        let own = at.access() != Access::Shared && scope == Scope::Private;
        let by_id = match at.under(&BY_ID).get(scope, name) {
            Ok(found) => found,
            // What is here is enough for reading.
            Err(_) if here.is_some() => {
                let own = false;
                let by_id = None;
                return Ok(Filed { here, by_id, own });
            }
            Err(e) => return Err(e),
        };
        Ok(Filed { here, by_id, own })
    }

    /// The key's texts, each once. There is more than one after another program has changed the protection in one
    /// place: whichever opens is right.
    pub fn texts(&self) -> impl Iterator<Item = Text> {
        let mut texts: Vec<Text> = Vec::new();
        let both = self.here.iter().chain(&self.by_id);
        for text in both.flat_map(|t| t.split(SEPARATOR)) {
            if texts.iter().all(|t| t.as_str() != text) {
                texts.push(Zeroizing::new(text.to_owned()));
            }
        }
        texts.into_iter()
    }

    /// Where the key is, for the log.
    pub fn place(&self) -> &'static str {
        match (&self.here, &self.by_id) {
            (Some(_), Some(_)) => "by its mailbox's GUID and by its id",
            (Some(_), None) => "by its mailbox's GUID",
            (None, Some(_)) => "by its id",
            (None, None) => "nowhere",
        }
    }

    /// Whether there is no such key.
    pub fn is_none(&self) -> bool {
        self.here.is_none() && self.by_id.is_none()
    }

    /// Whether [`settle`] has something to do, now that the key was opened by `text`.
    pub fn is_unsettled(&self, text: &str) -> bool {
        self.own && !self.is_none() && self.missing(text).is_some()
    }

    fn missing(&self, text: &str) -> Option<Missing> {
        let Some(here) = &self.here else {
            return Some(Missing::Here);
        };
        match &self.by_id {
            None => Some(Missing::ById),
            Some(by_id) if here.as_str() == text && by_id.split(SEPARATOR).all(|t| t != text) => {
                Some(Missing::Text)
            }
            Some(_) => None,
        }
    }
}

/// What a key lacks.
enum Missing {
    /// The mailbox has another GUID than when it was stored.
    Here,
    /// It was never filed by its id.
    ById,
    /// The text that opens it is only here.
    Text,
}

/// A key that lacks one of its places, until [`settle`].
pub struct Unsettled {
    /// Whose it is.
    pub level: Level,
    /// The name under which it is stored.
    pub id: KeyId,
    /// The mailbox through which it was found.
    pub mailbox: String,
    /// The text that opens it, where one was tried.
    pub text: Option<Text>,
}

/// Which key is active.
pub struct Active {
    /// The name under which it is stored.
    pub id: KeyId,
    /// Whether the mailbox says so, or only what is filed under [`BY_ID`].
    pub here: bool,
}

/// The active key of `level`: the mailbox's or, where INBOX has got another GUID, the user's.
///
/// # Errors
/// [`crate::ErrorKind::Store`]; corrupt for what is no id.
pub fn active(level: Level, at: &mut dyn Attributes) -> Result<Option<Active>> {
    let mut active = at.get(Scope::Shared, &level.active())?;
    let here = active.is_some();
    if !here && level == Level::User && at.access() == Access::Own {
        active = at
            .under(&BY_ID)
            .get(Scope::Private, &level.active_by_id())?;
    }
    let Some(active) = active else {
        return Ok(None);
    };
    let id = active.trim().parse().map_err(|_| {
        let mailbox = at.mailbox();
        Error::corrupt(format!(
            "mailbox {mailbox}: the active key's id is malformed"
        ))
    })?;
    Ok(Some(Active { id, here }))
}

/// The text of a public key, as it is stored.
pub struct PublicText {
    /// The text.
    pub text: Text,
    /// Whether it is filed by its id.
    pub by_id: bool,
}

/// The text of the public key `id`.
///
/// # Errors
/// [`crate::ErrorKind::Store`].
pub fn public_text(
    level: Level,
    at: &mut dyn Attributes,
    id: &KeyId,
) -> Result<Option<PublicText>> {
    let name = level.public(id);
    // By its id first: this also tells, at no extra cost, whether it is filed there.
    let found = at.under(&BY_ID).get(Scope::Shared, &name);
    let (text, by_id) = match found {
        Ok(Some(text)) => (Some(text), true),
        Ok(None) => (at.get(Scope::Shared, &name)?, false),
        // No reason to try to file it.
        Err(_) => (at.get(Scope::Shared, &name)?, true),
    };
    Ok(text.map(|text| PublicText { text, by_id }))
}

/// The public key `id`, and whether it is filed by its id.
///
/// # Errors
/// [`crate::ErrorKind::Store`]; corrupt where it can't be parsed, or is another key.
pub fn public(
    level: Level,
    at: &mut dyn Attributes,
    id: &KeyId,
) -> Result<Option<(PublicKey, bool)>> {
    let Some(PublicText { text, by_id }) = public_text(level, at, id)? else {
        return Ok(None);
    };
    let key = senders::public_key(&text).map_err(|e| e.context(format!("public key {id}")))?;
    if !key.matches(id) {
        return Err(Error::corrupt(format!(
            "public key {id}: another key is stored under this id"
        )));
    }
    Ok(Some((key, by_id)))
}

/// The keys whose names are `prefix` and their id, whatever else is there.
///
/// # Errors
/// [`crate::ErrorKind::Store`] where the dict can't list.
pub fn ids(at: &mut dyn Attributes, scope: Scope, prefix: &str) -> Result<Vec<KeyId>> {
    let names = at.list(scope, prefix)?;
    Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
}

/// The user's private keys of `level` that are filed by their ids.
///
/// # Errors
/// As [`ids`].
pub fn listed_by_id(level: Level, at: &mut dyn Attributes) -> Result<Vec<KeyId>> {
    if at.access() != Access::Own {
        return Ok(Vec::new());
    }
    let mut by_id = at.under(&BY_ID);
    ids(by_id.as_mut(), Scope::Private, &level.private_prefix())
}

/// The user's private keys of `level` in both places, each once.
///
/// # Errors
/// As [`ids`].
pub fn listed(level: Level, at: &mut dyn Attributes) -> Result<Vec<KeyId>> {
    let mut ids = ids(at, Scope::Private, &level.private_prefix())?;
    for id in listed_by_id(level, at)? {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Files a key where it is missing, under the lock of its level, and with it all others that were never filed by
/// their ids. Returns whether this one never was. Nothing stored is lost: another text of the key is kept behind
/// the new one.
///
/// # Errors
/// [`crate::ErrorKind::Store`]: the key is then where it was.
pub fn settle(at: &mut dyn Attributes, key: &Unsettled) -> Result<bool> {
    let level = key.level;
    let _lock = at.lock(level)?;
    let private = level.private(&key.id);
    let filed = Filed::read(at, Scope::Private, &private)?;
    let text = key.text.as_ref().map_or("", |t| t.as_str());
    let mut all = false;
    let changes = match filed.missing(text) {
        Some(Missing::Text) => {
            let old = filed.by_id.as_ref().and_then(|t| t.split(SEPARATOR).next());
            let both = Zeroizing::new(format!("{text}{SEPARATOR}{}", old.unwrap_or_default()));
            let change = Change::set_only_here(Scope::Private, private, both);
            at.under(&BY_ID).commit(vec![change])?;
            Vec::new()
        }
        Some(Missing::Here) if filed.by_id.is_some() => {
            let text = filed.texts().find(|t| t.as_str() == text);
            let text = text.or_else(|| filed.texts().next()).unwrap_or_default();
            let mut changes = vec![Change::set_only_here(Scope::Private, private, text)];
            changes.extend(public_here(at, level, &key.id)?);
            changes
        }
        // A public key may be all that there is.
        Some(Missing::ById | Missing::Here) => {
            all = true;
            never_filed(at, level, &key.id)?
        }
        None => Vec::from_iter(public_here(at, level, &key.id)?),
    };
    if !changes.is_empty() {
        at.commit(changes)?;
    }
    settle_active(level, at)?;
    Ok(all)
}

/// The public key `id`, if it is in only one of its places.
fn public_here(at: &mut dyn Attributes, level: Level, id: &KeyId) -> Result<Option<Change>> {
    let name = level.public(id);
    let here = at.get(Scope::Shared, &name)?;
    let by_id = at.under(&BY_ID).get(Scope::Shared, &name)?;
    let text = match (here, by_id) {
        (Some(_), Some(_)) | (None, None) => return Ok(None),
        (Some(text), None) | (None, Some(text)) => text,
    };
    Ok(Some(Change::set(Scope::Shared, name, text)))
}

/// Makes the user's active key active in both places.
fn settle_active(level: Level, at: &mut dyn Attributes) -> Result<()> {
    if level != Level::User || at.access() != Access::Own {
        return Ok(());
    }
    let here = at.get(Scope::Shared, &level.active())?;
    let by_id = at
        .under(&BY_ID)
        .get(Scope::Private, &level.active_by_id())?;
    let change = match (here, by_id) {
        (Some(here), Some(by_id)) if here == by_id => return Ok(()),
        (Some(here), _) => here,
        (None, Some(by_id)) => by_id,
        (None, None) => return Ok(()),
    };
    at.commit(vec![Change::set(Scope::Shared, level.active(), change)])
}

/// The keys of `at` that are not filed by their ids; where the dict can't list, the key `id` alone.
fn never_filed(at: &mut dyn Attributes, level: Level, id: &KeyId) -> Result<Vec<Change>> {
    let scopes: &[Scope] = match at.access() {
        Access::Own => &[Scope::Private, Scope::Shared],
        Access::Public => &[Scope::Private],
        Access::Shared => &[],
    };
    let mut changes = Vec::new();
    for scope in scopes {
        let names = match at.list(*scope, level.prefix()) {
            Ok(names) => names
                .iter()
                .map(|n| format!("{}{n}", level.prefix()))
                .collect(),
            Err(_) => vec![level.private(id), level.public(id)],
        };
        for name in names {
            let Some(value) = at.get(*scope, &name)? else {
                continue;
            };
            let change = Change::set(*scope, name, value);
            let Some((by_id_scope, by_id_name)) = change.filed_by_id() else {
                continue;
            };
            if at.under(&BY_ID).get(by_id_scope, &by_id_name)?.is_none() {
                changes.push(change);
            }
        }
    }
    Ok(changes)
}

/// The active user key, if it lacks a place.
///
/// # Errors
/// [`crate::ErrorKind::Store`] where INBOX can't be asked.
pub fn unsettled_user(host: &mut dyn Host) -> Result<Option<Unsettled>> {
    let mut inbox = host.inbox()?;
    let level = Level::User;
    let Some(Active { id, .. }) = active(level, inbox.as_mut())? else {
        return Ok(None);
    };
    let filed = Filed::read(inbox.as_mut(), Scope::Private, &level.private(&id))?;
    Ok(filed.is_unsettled("").then(|| Unsettled {
        level,
        id,
        mailbox: inbox.mailbox(),
        text: None,
    }))
}

#[cfg(test)]
mod tests;
