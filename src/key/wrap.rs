//! How private keys are protected in key strings.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{KeyId, PrivateKey, PublicKey};
use crate::crypto::cipher::Cipher;
use crate::crypto::digest::Digest;
use crate::crypto::ec::Curve;
use crate::crypto::{self, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::format::der;
use crate::format::keystring::{Encryption, Kdf};
use crate::hex;

/// PBKDF2 rounds for a password, paid once per login: 25 ms on a CPU with SHA instructions, 50 ms
/// when the packaged plugin reads the string. It writes 2048 itself, which lets a guesser try 50
/// times as many passwords.
pub const PASSWORD_ROUNDS: u32 = 100_000;
/// PBKDF2 rounds for a secret that is random already: more would add nothing.
pub(super) const RANDOM_ROUNDS: u32 = 1;
/// Salt size in bytes, as the packaged plugin writes it.
const SALT_LEN: usize = 8;
/// Size of the random secret that is encrypted to an RSA key, in bytes.
const RSA_SECRET_LEN: usize = 32;
/// PBKDF2 rounds of version 1.
const V1_ROUNDS: u32 = 16;

/// The curve with these contents of its DER object identifier.
pub(super) fn curve_by_oid(oid: &[u8]) -> Result<Arc<Curve>> {
    Curve::by_name(&crypto::oid_text(&der::element(der::OID, &[oid])))
}

fn kdf_with(rounds: u32) -> Result<Kdf> {
    let mut salt = vec![0; SALT_LEN];
    crypto::random(&mut salt)?;
    Ok(Kdf::V2 {
        cipher: Cipher::AES_256_CTR.name().to_owned(),
        salt,
        hash: Digest::Sha256.name().to_owned(),
        rounds,
    })
}

/// Encrypts `key` under a password.
pub(super) fn under_password(
    key: &[u8],
    password: &[u8],
    rounds: u32,
) -> Result<(Encryption, Secret)> {
    if password.is_empty() {
        return Err(Error::setting("an empty password protects nothing"));
    }
    let kdf = kdf_with(rounds)?;
    let sealed = KeyCipher::derive(&kdf, KeyMaterial::Password(password))?.encrypt(key)?;
    Ok((Encryption::Password(kdf), sealed))
}

/// Encrypts `key` to another key.
pub(super) fn under_key(key: &[u8], other: &PublicKey) -> Result<(Encryption, Secret)> {
    let (ephemeral, secret) = if other.key_type() == super::KeyType::Rsa {
        let mut secret = Secret::zeroed(RSA_SECRET_LEN);
        crypto::random(&mut secret)?;
        (other.rsa_encrypt(&secret)?, secret)
    } else {
        other.agree_ephemeral()?
    };
    let kdf = kdf_with(RANDOM_ROUNDS)?;
    let sealed = KeyCipher::derive(&kdf, KeyMaterial::Agreed(&secret))?.encrypt(key)?;
    let encryption = Encryption::Key {
        kdf,
        ephemeral,
        by: other.id().0,
    };
    Ok((encryption, sealed))
}

/// Decrypts what is under a password.
///
/// # Errors
/// Corrupt or WrongPassword if the password is wrong, as far as that shows here.
pub(super) fn with_password(kdf: &Kdf, sealed: &[u8], password: &[u8]) -> Result<Secret> {
    KeyCipher::derive(kdf, KeyMaterial::Password(password))?.decrypt(sealed)
}

/// Decrypts what is under `key`.
///
/// # Errors
/// Corrupt if it isn't; NoKey if it is under another one.
pub(super) fn with_key(
    kdf: &Kdf,
    ephemeral: &[u8],
    by: KeyId,
    sealed: &[u8],
    key: &PrivateKey,
) -> Result<Secret> {
    if !key.matches(&by) {
        return Err(Error::new(
            ErrorKind::NoKey,
            format!("it is under key {by}, not under key {}", key.id()),
        ));
    }
    let secret = if key.key_type() == super::KeyType::Rsa {
        key.rsa_decrypt(ephemeral)?
    } else {
        key.agree(ephemeral)?
    };
    KeyCipher::derive(kdf, KeyMaterial::Agreed(&secret))?.decrypt(sealed)
}

/// What a cipher's key is derived from.
enum KeyMaterial<'a> {
    Password(&'a [u8]),
    Agreed(&'a [u8]),
}

/// The cipher that a private key is encrypted with, and its key followed by its IV.
struct KeyCipher {
    cipher: Cipher,
    key_iv: Secret,
}

impl KeyCipher {
    fn derive(kdf: &Kdf, from: KeyMaterial<'_>) -> Result<Self> {
        let (cipher, key_iv) = match kdf {
            Kdf::V1 { salt } => (Cipher::AES_256_CTR, v1_key(salt, from)?),
            Kdf::V2 {
                cipher,
                salt,
                hash,
                rounds,
            } => {
                let cipher = Cipher::from_name(cipher).map_err(in_key_string)?;
                if cipher.is_aead() {
                    // The format has no place for the tag; Dovecot after 2.4.4 may give it one.
                    return Err(in_key_string(Error::unsupported(cipher.name())));
                }
                let hash = Digest::from_name(hash).map_err(in_key_string)?;
                let (KeyMaterial::Password(secret) | KeyMaterial::Agreed(secret)) = from;
                let len = cipher.key_len() + cipher.iv_len();
                (cipher, hash.pbkdf2(secret, salt, *rounds, len)?)
            }
        };
        Ok(KeyCipher { cipher, key_iv })
    }

    fn encrypt(&self, key: &[u8]) -> Result<Secret> {
        let (own, iv) = self.key_iv.split_at(self.cipher.key_len());
        self.cipher.encrypt(own, iv, &[])?.whole(key)
    }

    fn decrypt(&self, sealed: &[u8]) -> Result<Secret> {
        let (own, iv) = self.key_iv.split_at(self.cipher.key_len());
        self.cipher.decrypt(own, iv, &[])?.whole(sealed)
    }
}

fn in_key_string(e: Error) -> Error {
    e.context("key string")
}

/// Version 1's cipher key, followed by its zero IV.
fn v1_key(salt: &[u8], from: KeyMaterial<'_>) -> Result<Secret> {
    let mut key_iv = match from {
        KeyMaterial::Password(password) => {
            let wrong = || Error::new(ErrorKind::WrongPassword, "password that is not hexadecimal");
            let text = std::str::from_utf8(password).map_err(|_| wrong())?;
            let password = hex::decode(text).map_err(|_| wrong())?;
            Digest::Sha256.pbkdf2(&password, salt, V1_ROUNDS, 32)?
        }
        KeyMaterial::Agreed(secret) => Secret::new(Digest::Sha256.hash(&[secret])?),
    };
    key_iv.extend_from_slice(&[0; 16]);
    Ok(key_iv)
}
