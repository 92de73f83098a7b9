//! `cryptokey password`: the password of the user's keys.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Change, Host, Level, Scope};
use super::super::filing::{self, Filed};
use super::super::keyring::{Keyring, wrong_password};
use super::super::names::Setting;
use super::{commit_and_verify, stored_key};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, PrivateKey, Protect, Protection, StoredKey};

/// What the user's keys are to be under.
#[derive(Clone, Copy)]
pub enum NewPassword<'a> {
    /// This password.
    Set(&'a [u8]),
    /// None: the keys become readable for whoever reads the dict.
    Clear,
}

/// Puts all keys of the user under the new password, or none: each must open with `old` (without
/// it: with [`Setting::Password`]) or the new one first, and all are stored in one transaction.
/// Returns their number.
///
/// # Errors
/// [`ErrorKind::WrongPassword`], naming the key; [`ErrorKind::NoKey`] where a password is needed
/// and none is there; [`ErrorKind::Setting`] for an empty password, or where
/// [`Setting::RequireEncrypted`] forbids clearing it; [`ErrorKind::Refused`] for a key
/// that is under another key: it has no password to change.
pub fn password(
    ring: &mut Keyring,
    host: &mut dyn Host,
    old: Option<&[u8]>,
    new: NewPassword<'_>,
) -> Result<usize> {
    check_new(ring, new)?;
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    let names = filing::listed(Level::User, inbox.as_mut())?;
    let mut keys = Vec::new();
    for id in &names {
        keys.extend(open(ring, inbox.as_mut(), host.username(), id, (old, new))?);
    }
    let mut changes = Vec::new();
    for (id, key) in &keys {
        let text = protect(key, new)?;
        changes.push(Change::set(Scope::Private, Level::User.private(id), text));
    }
    if !changes.is_empty() {
        commit_and_verify(inbox.as_mut(), changes)?;
    }
    ring.forget();
    Ok(keys.len())
}

fn check_new(ring: &Keyring, new: NewPassword<'_>) -> Result<()> {
    match new {
        NewPassword::Set([]) => Err(Error::setting("the new password is empty")),
        NewPassword::Clear if ring.settings().require_encrypted_user_key => {
            Err(Error::setting(format!(
                "{} is set: the password can't be cleared",
                ring.settings().name(Setting::RequireEncrypted)
            )))
        }
        NewPassword::Set(_) | NewPassword::Clear => Ok(()),
    }
}

fn open(
    ring: &Keyring,
    inbox: &mut dyn Attributes,
    user: &str,
    id: &KeyId,
    (old, new): (Option<&[u8]>, NewPassword<'_>),
) -> Result<Option<(KeyId, PrivateKey)>> {
    let filed = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
    let mut error = None;
    for text in filed.texts() {
        match open_text(ring, user, id, &text, (old, new)) {
            Ok(key) => return Ok(Some((*id, key))),
            Err(e) => error = error.or(Some(e)),
        }
    }
    error.map_or(Ok(None), Err)
}

fn open_text(
    ring: &Keyring,
    user: &str,
    id: &KeyId,
    text: &str,
    (old, new): (Option<&[u8]>, NewPassword<'_>),
) -> Result<PrivateKey> {
    let stored = stored_key(id, text)?;
    let setting = ring.settings().name(Setting::Password);
    let configured = ring.settings().password.as_ref();
    let configured = configured.map(|p| p.value.as_slice());
    let key = match stored.protection() {
        Protection::None => stored.unlock(),
        Protection::Password => match old.or(configured) {
            Some(password) => with_either(&stored, password, new).map_err(|e| {
                let tried = match (old, password) {
                    (Some(_), _) => "the old password that was given".to_owned(),
                    (None, []) => format!("{setting}, which is empty,"),
                    (None, _) => format!("{setting} (no old password was given)"),
                };
                wrong_password(e, &stored, id, user, (&tried, setting))
            }),
            None => Err(Error::new(
                ErrorKind::NoKey,
                format!("key {id} of user {user} is under a password: give the old one"),
            )),
        },
        Protection::Key(by) => Err(Error::new(
            ErrorKind::Refused,
            format!(
                "key {id} is not under a password but under key {by} ({})",
                ring.settings().name(Setting::UserKeyKey)
            ),
        )),
    }?;
    if !key.matches(id) {
        let text = format!("key {id}: another key is stored under this id");
        return Err(Error::corrupt(text));
    }
    Ok(key)
}

/// A dict that can't store all keys at once may have been interrupted, and have some under the new
/// password already. Changing it again is what mends that.
fn with_either(stored: &StoredKey, old: &[u8], new: NewPassword<'_>) -> Result<PrivateKey> {
    stored.unlock_with_password(old).or_else(|e| match new {
        NewPassword::Set(new) => stored.unlock_with_password(new).map_err(|_| e),
        NewPassword::Clear => Err(e),
    })
}

fn protect(key: &PrivateKey, new: NewPassword<'_>) -> Result<Zeroizing<String>> {
    key.to_dovecot(match new {
        NewPassword::Set(password) => Protect::password(password),
        NewPassword::Clear => Protect::None,
    })
}
