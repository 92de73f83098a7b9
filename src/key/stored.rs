//! Private keys as they are stored: perhaps under a password or another key.
#![forbid(unsafe_code)]

use super::private::KeyEncoding;
use super::{KeyId, PrivateKey, as_setting, is_public, jwk, wrap};
use crate::crypto::{Secret, pkcs8};
use crate::error::{Error, ErrorKind, Result};
use crate::format::keystring::{self, Encryption, KeyString, PrivateString};
use crate::format::{base64, keyinfo, pem};

/// A private key that has been parsed, and may still be locked.
pub struct StoredKey(Form);

enum Form {
    String(PrivateString),
    /// PKCS#8 EncryptedPrivateKeyInfo.
    Encrypted(Vec<u8>),
    Ready(PrivateKey),
}

/// What unlocks a stored key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Nothing.
    None,
    /// A password.
    Password,
    /// The private key with this id or old id.
    Key(KeyId),
}

impl StoredKey {
    /// Parses the value of a key attribute, or anything else that
    /// [`PrivateKey::parse_setting`] takes.
    ///
    /// # Errors
    /// Truncated, corrupt or unsupported; a public key is refused as corrupt. No error shows any
    /// of the text.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > keystring::MAX_TEXT {
            return Err(Error::corrupt("key longer than 64 KB"));
        }
        if let Some(form) = parse_direct(text)? {
            return Ok(StoredKey(form));
        }
        let decoded = base64::decode(text).map_err(|_| unknown())?;
        let text = std::str::from_utf8(&decoded).map_err(|_| unknown())?;
        parse_direct(text.trim())?
            .map(StoredKey)
            .ok_or_else(unknown)
    }

    /// The id that it states; none for PEM under a password.
    pub fn id(&self) -> Option<KeyId> {
        match &self.0 {
            Form::String(string) => Some(KeyId(string.id)),
            Form::Encrypted(_) => None,
            Form::Ready(key) => Some(key.id()),
        }
    }

    /// What it takes to unlock it.
    pub fn protection(&self) -> Protection {
        match &self.0 {
            Form::String(string) => match &string.encryption {
                Encryption::None => Protection::None,
                Encryption::Password(_) => Protection::Password,
                Encryption::Key { by, .. } => Protection::Key(KeyId(*by)),
            },
            Form::Encrypted(_) => Protection::Password,
            Form::Ready(_) => Protection::None,
        }
    }

    /// The PBKDF2 rounds that its password is stretched with; `None` where it is under none, for PEM, and for version 1,
    /// whose strings stay what they are: others of that version name this key by its old id.
    pub fn password_rounds(&self) -> Option<u32> {
        match &self.0 {
            Form::String(string) => match &string.encryption {
                Encryption::Password(keystring::Kdf::V2 { rounds, .. }) => Some(*rounds),
                Encryption::Password(keystring::Kdf::V1 { .. })
                | Encryption::None
                | Encryption::Key { .. } => None,
            },
            Form::Encrypted(_) | Form::Ready(_) => None,
        }
    }

    /// Its name in error texts.
    fn name(&self) -> String {
        self.id()
            .map_or_else(|| "key".into(), |id| format!("key {id}"))
    }

    /// The key, if it is not protected.
    ///
    /// # Errors
    /// NoKey if it is; corrupt if the string's id is not the key's; unsupported.
    pub fn unlock(&self) -> Result<PrivateKey> {
        match &self.0 {
            Form::Ready(key) => Ok(key.clone()),
            Form::String(string) if string.encryption == Encryption::None => {
                let algorithm = KeyEncoding::of(&string.algorithm)?;
                let key = PrivateKey::from_string_bytes(&algorithm, &string.key)
                    .map_err(|e| e.context(self.name()))?;
                if key.matches(&KeyId(string.id)) {
                    return Ok(key);
                }
                let (says, is) = (self.name(), key.id());
                Err(Error::corrupt(format!("{says} is really key {is}")))
            }
            _ => Err(self.locked()),
        }
    }

    /// Unlocks the key with its password. An unprotected one needs none.
    ///
    /// # Errors
    /// WrongPassword if the result is not the key that the string names: with this format damage
    /// can't be told from a wrong password. NoKey if it is under another key instead.
    pub fn unlock_with_password(&self, password: &[u8]) -> Result<PrivateKey> {
        let wrong = || {
            let text = format!("wrong password for {}", self.name());
            Error::new(ErrorKind::WrongPassword, text)
        };
        match &self.0 {
            Form::Encrypted(der) => {
                let rounds = keyinfo::kdf_rounds(der)?;
                if rounds > keystring::MAX_ROUNDS.into() {
                    return Err(Error::corrupt(format!(
                        "PEM with {rounds} key derivation rounds (at most {} are allowed)",
                        keystring::MAX_ROUNDS
                    )));
                }
                PrivateKey::from_pkcs8(&pkcs8::decrypt(der, password)?)
            }
            Form::String(string) => match &string.encryption {
                Encryption::Password(kdf) => {
                    let open = wrap::with_password(kdf, &string.key, password);
                    opened(string, open, wrong)
                }
                Encryption::None => self.unlock(),
                Encryption::Key { .. } => Err(self.locked()),
            },
            Form::Ready(_) => self.unlock(),
        }
    }

    /// Unlocks the key with the key it is under. An unprotected one needs none.
    ///
    /// # Errors
    /// NoKey if it is under a password or a key other than `key`; WrongPassword if it does not
    /// unlock with it, which means that the string is damaged.
    pub fn unlock_with_key(&self, key: &PrivateKey) -> Result<PrivateKey> {
        let Form::String(string) = &self.0 else {
            return self.unlock();
        };
        let Encryption::Key { kdf, ephemeral, by } = &string.encryption else {
            return self.unlock();
        };
        let wrong = || {
            let text = format!("key {} does not unlock {}", key.id(), self.name());
            Error::new(ErrorKind::WrongPassword, text)
        };
        let open = wrap::with_key(kdf, ephemeral, KeyId(*by), &string.key, key)
            .map_err(|e| e.context(self.name()));
        opened(string, open, wrong)
    }

    fn locked(&self) -> Error {
        let name = self.name();
        let text = match self.protection() {
            Protection::Key(by) => format!("{name} is under key {by}"),
            _ => format!("{name} is under a password"),
        };
        Error::new(ErrorKind::NoKey, text)
    }
}

impl PrivateKey {
    /// The key in a setting's value: PEM (`PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`,
    /// `EC PRIVATE KEY`, `RSA PRIVATE KEY`), a key string of version 1 or 2 (plain or under the
    /// password), a JSON Web Key, or any of these in base64 on one line. The password is ignored
    /// where none is needed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongPassword`] for a password that doesn't fit, else
    /// [`crate::ErrorKind::Setting`]: the value can't be parsed, is a public key, or needs a
    /// password. No error shows any of the value.
    pub fn parse_setting(text: &str, password: Option<&[u8]>) -> Result<Self> {
        let parse = || {
            let stored = StoredKey::parse(text)?;
            match password {
                Some(password) => stored.unlock_with_password(password),
                None => stored.unlock(),
            }
        };
        parse().map_err(as_setting)
    }
}

/// The key in the decrypted bytes, if it is the one that the string names. There is no MAC: a wrong
/// password shows by another key, or none at all.
fn opened(
    string: &PrivateString,
    bytes: Result<Secret>,
    wrong: impl Fn() -> Error,
) -> Result<PrivateKey> {
    // First, so that an unknown type of key doesn't look like a wrong password.
    let algorithm = KeyEncoding::of(&string.algorithm)?;
    let key = bytes.and_then(|bytes| PrivateKey::from_string_bytes(&algorithm, &bytes));
    match key {
        Ok(key) if key.matches(&KeyId(string.id)) => Ok(key),
        Ok(_) => Err(wrong()),
        Err(e) => match e.kind() {
            ErrorKind::Corrupt | ErrorKind::Truncated | ErrorKind::WrongPassword => Err(wrong()),
            _ => Err(e),
        },
    }
}

fn parse_direct(text: &str) -> Result<Option<Form>> {
    if text.starts_with(pem::BEGIN) {
        return parse_pem(text).map(Some);
    }
    if jwk::looks_like(text) {
        return jwk::parse_private(text).map(|key| Some(Form::Ready(key)));
    }
    if !keystring::looks_like(text) {
        return Ok(None);
    }
    match keystring::parse(text)? {
        KeyString::Private(string) => Ok(Some(Form::String(string))),
        KeyString::Public(_) => Err(is_public()),
    }
}

fn parse_pem(text: &str) -> Result<Form> {
    // `openssl ecparam -genkey` writes the parameters first.
    let block = pem::first(text, &["EC PARAMETERS"])?;
    let key = match block.label {
        "PRIVATE KEY" => PrivateKey::from_pkcs8(&block.data)?,
        "EC PRIVATE KEY" => PrivateKey::from_sec1(&block.data)?,
        "RSA PRIVATE KEY" => PrivateKey::from_pkcs1(&block.data)?,
        "ENCRYPTED PRIVATE KEY" => return Ok(Form::Encrypted(block.data.to_vec())),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(is_public()),
        _ => {
            return Err(Error::unsupported(
                "PEM that is not a PRIVATE KEY (convert it with 'openssl pkey')",
            ));
        }
    };
    Ok(Form::Ready(key))
}

fn unknown() -> Error {
    Error::corrupt("not a private key in any known format")
}
