//! The settings of one user.
#![forbid(unsafe_code)]

mod ask;
mod fields;
mod trees;
mod user_keys;

use zeroize::Zeroizing;

use self::ask::Ask;
pub(super) use self::ask::{global_keys, private_keys, public_key, writing};
pub use self::trees::Trees;
pub use self::user_keys::PasswordKdf;
use self::user_keys::UserKeys;
use super::names::{Line, Setting};
use crate::error::{Error, Result};
use crate::key::{KeyId, PrivateKey, PublicKey};
use crate::stream::Algorithm;

/// `mail_crypt_save_version`; under 2.4 an empty `crypt_write_algorithm` is 0, any other 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveVersion {
    /// 0: read what is encrypted, write plaintext.
    ReadOnly,
    /// 1: the legacy stream without integrity.
    V1,
    /// 2: today's stream.
    V2,
}

/// What is written.
#[derive(Clone, Copy)]
pub struct Writing {
    /// The kind of stream, if any.
    pub version: SaveVersion,
    /// What a version 2 stream is written with; under 2.3 always the default.
    pub algorithm: Algorithm,
}

/// What Dovecot 2.3 makes of a userdb field without a value: the packaged plugin has put user keys
/// under it as under a password.
pub const NOT_A_PASSWORD: &[u8] = b"yes";

/// The password of the user's key.
#[derive(Clone)]
pub struct Password {
    /// Empty where the setting is.
    pub value: Value,
    /// Where it comes from, as in "the password, as configured,".
    pub origin: &'static str,
}

/// One user's settings, checked and with every key loaded. A mistake in what only writing needs is an
/// error of writing; reading goes on.
pub struct Settings {
    /// Whose words the administrator uses, for errors.
    pub line: Line,
    /// The password of the user's key.
    pub password: Option<Password>,
    /// Keys that the user's key may be encrypted to; the first one is used for new user keys.
    pub user_key_keys: Vec<PrivateKey>,
    /// Refuse to make a user key without protection.
    pub require_encrypted_user_key: bool,
    /// Never store a shared folder key without protection.
    pub require_secure_sharing: bool,
    /// Global mode: what decrypts.
    pub global_private: Vec<PrivateKey>,
    /// Serve mail that is stored in plaintext.
    pub read_plain: bool,
    /// What opens mail of TREES.
    pub trees: Trees,
    writing: Result<Writing>,
    curve: Result<Option<String>>,
    global_public: Result<Option<PublicKey>>,
    user_keys: UserKeys,
    /// Who has logged in as this user.
    master_user: Option<String>,
    /// A userdb field that was perhaps meant to protect the user's key.
    ignored_field: Option<Error>,
    unusable: Option<Error>,
}

/// Looks a setting up by its 2.3 name, whatever the line; `None` where it isn't set, empty where it
/// is set to nothing. Dovecot 2.3's "yes" for a userdb field without a value must not be answered.
///
/// Also asked for: [`MASTER_USER`], [`GIVEN`] and [`FIELD`]. On a 2.4 host also [`FAILED`], [`FAILED_READ`], [`FAILED_KEYS`], [`FAILED_TREES`],
/// `crypt_write_algorithm`, and for each key `.._name`, the block that the administrator wrote, and
/// `.._file`, the file that it is in.
pub type Lookup<'a> = dyn FnMut(&str) -> Option<Value> + 'a;

/// A setting's value. What is a text is UTF-8; passwords are whatever a user's client sends.
pub type Value = Zeroizing<Vec<u8>>;

/// Who has logged in as this user with a password of their own, if anybody.
const MASTER_USER: &str = "session_*master";

/// Whether [`Setting::Password`] was given on the command line.
const GIVEN: &str = "session_*given";

/// Why the settings can't be read.
const FAILED: &str = "error";

/// Why the settings that the packaged plugin doesn't have can't be read: those for reading.
const FAILED_READ: &str = "error_own_read";

/// And those for making user keys.
const FAILED_KEYS: &str = "error_own_keys";

/// And those for reading mail of TREES.
const FAILED_TREES: &str = "error_own_trees";

/// Followed by a number from 1: the name of a userdb field that could be meant for us. A field without a
/// value has `=` at its end.
const FIELD: &str = "userdb_*";

impl Settings {
    /// Reads and checks the settings that `lookup` answers.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] or [`crate::ErrorKind::WrongPassword`], where not even reading is
    /// possible; the text names the setting as in `line` and never its value, where that is a secret.
    pub fn load(line: Line, lookup: &mut Lookup<'_>) -> Result<Self> {
        let fields = fields::Fields::read(line, lookup);
        if line == Line::V2_4 {
            fields.check_names()?;
            if let Some(why) = lookup(FAILED) {
                return Err(Error::setting(ask::text(&why).as_str().to_owned()));
            }
            fields.check_blocks(lookup)?;
        }
        let mut ask = Ask::new(line, lookup);
        let global_public = match fields.empty(Setting::GlobalPublic) {
            Some(e) => Err(e),
            None => ask.public_key(Setting::GlobalPublic),
        };
        Ok(Settings {
            line,
            password: password(&mut ask, &fields),
            user_key_keys: ask.private_keys(Setting::UserKeyKey)?,
            require_encrypted_user_key: ask.boolean(Setting::RequireEncrypted),
            require_secure_sharing: ask.boolean(Setting::RequireSecureSharing),
            global_private: ask.private_keys(Setting::GlobalPrivate)?,
            read_plain: read_plain(&mut ask, &fields)?,
            trees: ask.trees(),
            writing: ask.writing(),
            curve: ask.curve(),
            global_public,
            user_keys: UserKeys::load(&mut ask, &fields),
            master_user: ask.text_at(MASTER_USER).map(|name| name.to_string()),
            ignored_field: fields.ignored(),
            unusable: None,
        })
    }

    /// Settings that nothing can be read or written with, because of `error`.
    pub fn unusable(line: Line, error: Error) -> Self {
        Settings {
            writing: Err(error.clone()),
            curve: Err(error.clone()),
            global_public: Err(error.clone()),
            user_keys: UserKeys::unusable(&error),
            unusable: Some(error),
            ..Self::reading(line)
        }
    }

    /// Empty settings, for reading only.
    pub fn reading(line: Line) -> Self {
        Settings {
            line,
            password: None,
            user_key_keys: Vec::new(),
            require_encrypted_user_key: true,
            require_secure_sharing: true,
            global_private: Vec::new(),
            read_plain: true,
            trees: Trees::none(),
            writing: Ok(Writing {
                version: SaveVersion::ReadOnly,
                algorithm: Algorithm::default(),
            }),
            curve: Ok(None),
            global_public: Ok(None),
            user_keys: UserKeys::default(),
            master_user: None,
            ignored_field: None,
            unusable: None,
        }
    }

    /// Whether anything can be read or written at all.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn check(&self) -> Result<()> {
        self.unusable.clone().map_or(Ok(()), Err)
    }

    /// What is written.
    ///
    /// # Errors
    /// As [`Settings::load`]; nothing may then be stored.
    pub fn writing(&self) -> Result<Writing> {
        self.writing.clone()
    }

    /// The curve of generated keys; without one none are generated.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn curve(&self) -> Result<Option<&str>> {
        match &self.curve {
            Ok(curve) => Ok(curve.as_deref()),
            Err(e) => Err(e.clone()),
        }
    }

    /// Global mode: everything is encrypted to this key.
    ///
    /// # Errors
    /// As [`Settings::load`]; nothing may then be stored, not even to another key.
    pub fn global_public(&self) -> Result<Option<&PublicKey>> {
        match &self.global_public {
            Ok(key) => Ok(key.as_ref()),
            Err(e) => Err(e.clone()),
        }
    }

    /// PBKDF2 rounds that the password of a user's key is stretched with, where one is put under it.
    ///
    /// # Errors
    /// As [`Settings::load`]; no user key may then be written.
    pub fn password_rounds(&self) -> Result<u32> {
        self.user_keys.rounds.clone()
    }

    /// What the password of a user's key is stretched with, where one is put under it.
    ///
    /// # Errors
    /// As [`Settings::load`]; no user key may then be written.
    pub fn password_kdf(&self) -> Result<PasswordKdf> {
        self.user_keys.kdf.clone()
    }

    /// Public keys that get a copy of each user's key.
    ///
    /// # Errors
    /// As [`Settings::load`]; no user key may then be made.
    pub fn escrow(&self) -> Result<&[PublicKey]> {
        match &self.user_keys.escrow {
            Ok(keys) => Ok(keys),
            Err(e) => Err(e.clone()),
        }
    }

    /// Whether mail is encrypted to a global key, and not to folders' keys.
    pub fn is_global(&self) -> bool {
        !matches!(self.global_public, Ok(None))
    }

    /// Whether a mail may be served that is stored in plaintext.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Tampered`], with what to do: somebody may have planted it.
    pub fn check_plain(&self) -> Result<()> {
        if self.read_plain {
            return Ok(());
        }
        Err(Error::new(
            crate::ErrorKind::Tampered,
            format!(
                "it is stored in plaintext, and {} = no: if it is the user's own, from before, set {0} = yes for this user",
                self.name(Setting::ReadPlain)
            ),
        ))
    }

    /// Why the private key of one of `ids` isn't there, where that is the global key.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoKey`]. The caller has looked among [`Settings::global_private`].
    pub fn check_global(&self, ids: &[KeyId]) -> Result<()> {
        let Ok(Some(global)) = &self.global_public else {
            return Ok(());
        };
        if !ids.iter().all(|id| global.matches(id)) {
            return Ok(());
        }
        let (public, private) = (
            self.name(Setting::GlobalPublic),
            self.name(Setting::GlobalPrivate),
        );
        let which = if self.global_private.is_empty() {
            format!("{private} is not set, so mail can be stored here, but not read")
        } else {
            format!("no {private} belongs to it")
        };
        Err(Error::new(
            crate::ErrorKind::NoKey,
            format!(
                "no private key {}, which is that of {public}: {which}",
                global.id()
            ),
        ))
    }

    /// What protects a new user key, if there is a password.
    ///
    /// # Errors
    /// For an empty password, which protects nothing, and one that may be somebody else's.
    pub fn new_key_password(&self) -> Result<Option<Value>> {
        let Some(password) = &self.password else {
            return Ok(None);
        };
        if password.value.is_empty() {
            return Err(Error::setting(format!(
                "no user key is made: {} is empty. Set it to the user's password, or leave it out \
                 wherever that isn't known",
                self.name(Setting::Password)
            )));
        }
        if let Some(master) = &self.master_user {
            return Err(Error::setting(format!(
                "no user key is made while '{}' is logged in as this user: {} may be theirs, and \
                 the user couldn't read a mail. Let the user log in, or use doveadm mailbox \
                 cryptokey generate -U",
                master.escape_default(),
                self.name(Setting::Password)
            )));
        }
        Ok(Some(password.value.clone()))
    }

    /// Whether a new user key may be made without protection.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`], with what forbids it, or was meant to protect the key.
    pub fn check_unprotected(&self) -> Result<()> {
        let (password, key) = (self.name(Setting::Password), self.name(Setting::UserKeyKey));
        if self.require_encrypted_user_key {
            return Err(Error::setting(format!(
                "{} is set, and neither {password} nor {key} is there to protect a new user key",
                self.name(Setting::RequireEncrypted)
            )));
        }
        self.ignored_field.clone().map_or(Ok(()), Err)
    }

    /// What the administrator calls `setting`.
    pub fn name(&self, setting: Setting) -> &'static str {
        self.line.name(setting)
    }
}

fn password(ask: &mut Ask<'_, '_>, fields: &fields::Fields) -> Option<Password> {
    let value = ask.value(Setting::Password);
    let empty = || fields.empty(Setting::Password).map(|_| Value::default());
    let value = value.or_else(empty)?;
    let origin = match ask.text_at(GIVEN) {
        Some(_) => "given with -o",
        None => "configured",
    };
    Some(Password { value, origin })
}

/// Whether mail in plaintext is served. Where that can't be told, nothing is.
fn read_plain(ask: &mut Ask<'_, '_>, fields: &fields::Fields) -> Result<bool> {
    if let Some(why) = ask.failed(FAILED_READ) {
        return Err(Error::setting(why));
    }
    if ask.value(Setting::ReadPlain).is_none() {
        fields.check_heard(Line::V2_3.name(Setting::ReadPlain))?;
    }
    Ok(ask.boolean_or_true(Setting::ReadPlain))
}

#[cfg(test)]
mod tests;
