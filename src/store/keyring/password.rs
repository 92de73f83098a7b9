//! Keys that are under a password.
#![forbid(unsafe_code)]

use super::super::attributes::Host;
use super::super::names::Setting;
use super::super::settings::NOT_A_PASSWORD;
use super::Keyring;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, PrivateKey, StoredKey};

impl Keyring {
    /// Unlocks `stored`, the key `id`, with [`Setting::Password`].
    pub(super) fn unlock_with_password(
        &self,
        id: &KeyId,
        stored: &StoredKey,
        host: &mut dyn Host,
    ) -> Result<PrivateKey> {
        let setting = self.settings.name(Setting::Password);
        let user = host.username().to_owned();
        let Some(password) = &self.settings.password else {
            let text = format!("key {id} of user {user} needs a password: {setting} is not set");
            let error = Error::new(ErrorKind::Locked, text);
            return Err(naming_yes(error, stored, id, &user, setting));
        };
        if !password.value.is_empty() {
            let tried = format!("{setting}, as {},", password.origin);
            return stored
                .unlock_with_password(&password.value)
                .map_err(|e| wrong_password(e, stored, id, &user, (&tried, setting)));
        }
        // The packaged plugin reads it, and so can anybody with the dict.
        let key = stored.unlock_with_password(NOT_A_PASSWORD);
        if key.is_ok() {
            host.warn(&under_yes(id, &user, setting));
        }
        key.map_err(|e| match e.kind() {
            ErrorKind::WrongPassword => Error::new(
                ErrorKind::WrongPassword,
                format!("key {id} of user {user} needs a password: {setting} is empty"),
            ),
            _ => e,
        })
    }
}

/// Adds to an error about a wrong password whose key it is and which password was tried. Other errors
/// stay as they are.
pub(in crate::store) fn wrong_password(
    error: Error,
    stored: &StoredKey,
    id: &KeyId,
    user: &str,
    (tried, setting): (&str, &str),
) -> Error {
    if error.kind() != ErrorKind::WrongPassword {
        return error;
    }
    let text = format!("wrong password for key {id} of user {user}: {tried} doesn't open it");
    let error = Error::new(ErrorKind::WrongPassword, text);
    naming_yes(error, stored, id, user, setting)
}

/// Adds how to mend a key that is under what was never meant to be a password.
fn naming_yes(error: Error, stored: &StoredKey, id: &KeyId, user: &str, setting: &str) -> Error {
    if stored.unlock_with_password(NOT_A_PASSWORD).is_err() {
        return error;
    }
    let text = format!("{error}. {}", under_yes(id, user, setting));
    Error::new(error.kind(), text)
}

fn under_yes(id: &KeyId, user: &str, setting: &str) -> String {
    format!(
        "key {id} of user {user} is under the password 'yes', which Dovecot 2.3 makes of an empty \
         {setting}: to change that, run doveadm mailbox cryptokey password -u {user} -o yes -N"
    )
}
