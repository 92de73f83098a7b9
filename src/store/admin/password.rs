//! `cryptokey password`: the password of the user's keys.
#![forbid(unsafe_code)]

use super::super::attributes::{Attributes, Host, Level, Scope};
use super::super::filing::Filed;
use super::super::keyring::{Keyring, open_login, wrong_password};
use super::super::names::Setting;
use super::super::settings::PasswordKdf;
use super::super::slots;
use super::request::Request;
use super::row::Row;
use super::stored_key;
use super::user_keys::{self, Keep, NewPassword, UserKeys, put_under};
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::format::slots::Slots;
use crate::key::{KeyId, PrivateKey, Protection, StoredKey};

/// Puts all keys of the user under the new password, or none: each must open with the old one (without
/// it: with [`Setting::Password`]) or the new one first, and all are stored in one transaction.
///
/// # Errors
/// [`ErrorKind::WrongPassword`], naming the key; [`ErrorKind::NoKey`] where a password is needed
/// and none is there; [`ErrorKind::Usage`] for an empty password; [`ErrorKind::Setting`]
/// where [`Setting::RequireEncrypted`] forbids clearing it; [`ErrorKind::Refused`] for a key
/// that is under another key: it has no password to change.
pub(super) fn password(
    ring: &mut Keyring,
    host: &mut dyn Host,
    request: &Request,
) -> Result<Vec<Row>> {
    if request.undo {
        let count = user_keys::undo(ring, host)?;
        return Ok(vec![Row::of([&format!(
            "Old password is back for {count} key(s)"
        )])]);
    }
    let chosen = new_password(ring, request)?;
    let new = chosen
        .as_ref()
        .map_or(NewPassword::Clear, |new| NewPassword::Set(new));
    check_new(ring, new)?;
    if request.compat {
        check_compat(ring)?;
    }
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    // A dict without a place for slots has none.
    let slots = slots::read(inbox.as_mut()).unwrap_or_default();
    let opener = Opener {
        ring,
        slots: &slots,
        user: host.username(),
        old: request.old.as_deref(),
        new,
    };
    let keys = UserKeys::read(inbox.as_mut(), &slots, |inbox, id| opener.open(inbox, id))?;
    if !keys.locked.is_empty() {
        // Where the active one is passed over, nothing would open with the new password.
        keys.active(host.username())?;
    }
    let keep = if request.no_undo {
        Keep::Nothing
    } else {
        Keep::Old
    };
    put_under(ring, inbox.as_mut(), host, &keys.open, new, keep)?;
    ring.forget();
    let count = keys.open.len();
    let mut row = Row::of([&format!("Changed password for {count} key(s)")]);
    row.note = keys.locked_note();
    Ok(vec![row])
}

/// The new password; `None`: the keys are to be under none.
fn new_password(ring: &Keyring, request: &Request) -> Result<Option<Secret>> {
    let configured = ring.settings().password.as_ref();
    match (&request.new, request.clear, request.compat) {
        (Some(new), false, _) => Ok(Some(new.clone())),
        (None, true, false) => Ok(None),
        // The same password, in another form.
        (None, false, true) => match (&request.old, configured) {
            (Some(old), _) => Ok(Some(old.clone())),
            (None, Some(password)) => Ok(Some(password.value.iter().copied().collect())),
            (None, None) => Err(Error::usage("give the password with -o or -O")),
        },
        _ => Err(Error::usage("either a new password or none")),
    }
}

fn check_new(ring: &Keyring, new: NewPassword<'_>) -> Result<()> {
    match new {
        NewPassword::Set([]) => Err(Error::usage("the new password is empty")),
        NewPassword::Clear if ring.settings().require_encrypted_user_key => {
            Err(Error::setting(format!(
                "{} is set: the password can't be cleared",
                ring.settings().name(Setting::RequireEncrypted)
            )))
        }
        NewPassword::Set(_) | NewPassword::Clear => Ok(()),
    }
}

/// The next login would undo it.
fn check_compat(ring: &Keyring) -> Result<()> {
    match ring.settings().password_kdf()? {
        PasswordKdf::Pbkdf2 => Ok(()),
        PasswordKdf::Argon2id { .. } => Err(Error::setting(format!(
            "{} is still argon2id: set it to pbkdf2 first",
            ring.settings().name(Setting::PasswordKdf)
        ))),
    }
}

/// What opens the user's keys when their password is changed: the old password or, after an interruption, the new one.
struct Opener<'a> {
    ring: &'a Keyring,
    slots: &'a Slots,
    user: &'a str,
    old: Option<&'a [u8]>,
    new: NewPassword<'a>,
}

impl Opener<'_> {
    fn open(&self, inbox: &mut dyn Attributes, id: &KeyId) -> Result<PrivateKey> {
        let filed = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
        let mut error = None;
        for text in filed.texts() {
            match self.open_text(id, &text) {
                Ok(key) => return Ok(key),
                Err(e) => error = error.or(Some(e)),
            }
        }
        Err(error.unwrap_or_else(|| {
            let user = self.user;
            let text = format!("user {user} has no private key {id} but in slots: use reset");
            Error::new(ErrorKind::NoKey, text)
        }))
    }

    fn open_text(&self, id: &KeyId, text: &str) -> Result<PrivateKey> {
        let stored = stored_key(id, text)?;
        let key = match stored.protection() {
            Protection::None => stored.unlock(),
            Protection::Password => self.with_password(id, &stored),
            Protection::Key(by) => self.with_key(id, &stored, &by),
        }?;
        if !key.matches(id) {
            let text = format!("key {id}: another key is stored under this id");
            return Err(Error::corrupt(text));
        }
        Ok(key)
    }

    fn setting(&self) -> &'static str {
        self.ring.settings().name(Setting::Password)
    }

    fn password(&self) -> Option<&[u8]> {
        let configured = self.ring.settings().password.as_ref();
        self.old.or(configured.map(|p| p.value.as_slice()))
    }

    fn with_password(&self, id: &KeyId, stored: &StoredKey) -> Result<PrivateKey> {
        let (user, setting) = (self.user, self.setting());
        let Some(password) = self.password() else {
            return Err(Error::new(
                ErrorKind::NoKey,
                format!("key {id} of user {user} is under a password: give the old one"),
            ));
        };
        with_either(stored, password, self.new).map_err(|e| {
            let tried = match (self.old, password) {
                (Some(_), _) => "the old password that was given".to_owned(),
                (None, []) => format!("{setting}, which is empty,"),
                (None, _) => format!("{setting} (no old password was given)"),
            };
            wrong_password(e, stored, id, user, (&tried, setting))
        })
    }

    /// The key `by` may be that of the slot that Argon2id needs.
    fn with_key(&self, id: &KeyId, stored: &StoredKey, by: &KeyId) -> Result<PrivateKey> {
        let new = match self.new {
            NewPassword::Set(new) => Some(new),
            NewPassword::Clear => None,
        };
        let passwords = self.password().into_iter().chain(new);
        match open_login(self.slots, by, passwords) {
            Some(key) => stored.unlock_with_key(&key?),
            None => Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "key {id} is not under a password but under key {by} ({})",
                    self.ring.settings().name(Setting::UserKeyKey)
                ),
            )),
        }
    }
}

/// A dict that can't store all keys at once may have been interrupted, and have some under the new
/// password already. Changing it again is what mends that.
fn with_either(stored: &StoredKey, old: &[u8], new: NewPassword<'_>) -> Result<PrivateKey> {
    stored.unlock_with_password(old).or_else(|e| match new {
        NewPassword::Set(new) => stored.unlock_with_password(new).map_err(|_| e),
        NewPassword::Clear => Err(e),
    })
}
