//! How private keys are protected in key strings.
#![forbid(unsafe_code)]

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{KeyId, PrivateKey, PublicKey};
use crate::crypto::cipher::Cipher;
use crate::crypto::digest::Digest;
use crate::crypto::ec::Curve;
use crate::crypto::{self, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::format::der;
use crate::format::keystring::{Lock, Stretch};
use crate::hex;

/// PBKDF2 rounds for a password. They are paid once per login by whoever reads with a password:
/// 25 ms on a CPU with SHA instructions, 50 ms when the packaged plugin reads the string, which
/// honours the field. It writes 2048 itself: 2048 rounds let a guesser try 50 times as much.
pub const PASSWORD_ROUNDS: u32 = 100_000;
/// PBKDF2 rounds for a secret that is random already: stretching it adds nothing.
const RANDOM_ROUNDS: u32 = 1;
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

fn stretch_by(rounds: u32) -> Result<Stretch> {
    let mut salt = vec![0; SALT_LEN];
    crypto::random(&mut salt)?;
    Ok(Stretch::V2 {
        cipher: Cipher::AES_256_CTR.name().to_owned(),
        salt,
        hash: Digest::Sha256.name().to_owned(),
        rounds,
    })
}

/// Encrypts `key` under a password.
pub(super) fn under_password(key: &[u8], password: &[u8]) -> Result<(Lock, Secret)> {
    if password.is_empty() {
        return Err(Error::setting("an empty password protects nothing"));
    }
    let stretch = stretch_by(PASSWORD_ROUNDS)?;
    let sealed = run(&stretch, Source::Password(password), key, Way::Encrypt)?;
    Ok((Lock::Password(stretch), sealed))
}

/// Encrypts `key` to another key.
pub(super) fn under_key(key: &[u8], other: &PublicKey) -> Result<(Lock, Secret)> {
    let (ephemeral, secret) = if other.key_type() == super::KeyType::Rsa {
        let mut secret = Zeroizing::new(vec![0; RSA_SECRET_LEN]);
        crypto::random(&mut secret)?;
        (other.rsa_encrypt(&secret)?, secret)
    } else {
        other.agree_ephemeral()?
    };
    let stretch = stretch_by(RANDOM_ROUNDS)?;
    let sealed = run(&stretch, Source::Agreed(&secret), key, Way::Encrypt)?;
    let lock = Lock::Key {
        stretch,
        ephemeral,
        by: other.id().0,
    };
    Ok((lock, sealed))
}

/// Decrypts what is under a password.
///
/// # Errors
/// Corrupt or WrongPassword if the password doesn't fit, as far as that shows here.
pub(super) fn with_password(stretch: &Stretch, sealed: &[u8], password: &[u8]) -> Result<Secret> {
    run(stretch, Source::Password(password), sealed, Way::Decrypt)
}

/// Decrypts what is under `key`.
///
/// # Errors
/// Corrupt if it isn't; NoKey if it is under another one.
pub(super) fn with_key(
    stretch: &Stretch,
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
    run(stretch, Source::Agreed(&secret), sealed, Way::Decrypt)
}

enum Source<'a> {
    Password(&'a [u8]),
    Agreed(&'a [u8]),
}

enum Way {
    Encrypt,
    Decrypt,
}

fn run(stretch: &Stretch, source: Source<'_>, data: &[u8], way: Way) -> Result<Secret> {
    let (cipher, key_iv) = match stretch {
        Stretch::V1 { salt } => (Cipher::AES_256_CTR, v1_key(salt, source)?),
        Stretch::V2 {
            cipher,
            salt,
            hash,
            rounds,
        } => {
            let cipher = Cipher::from_name(cipher).map_err(in_key_string)?;
            if cipher.is_aead() {
                // Nobody has said where the tag would stand; Dovecot after 2.4.4 might.
                return Err(in_key_string(Error::unsupported(cipher.name())));
            }
            let hash = Digest::from_name(hash).map_err(in_key_string)?;
            let (Source::Password(secret) | Source::Agreed(secret)) = source;
            let len = cipher.key_len() + cipher.iv_len();
            (cipher, hash.pbkdf2(secret, salt, *rounds, len)?)
        }
    };
    let (key, iv) = key_iv.split_at(cipher.key_len());
    let mut stream = match way {
        Way::Encrypt => cipher.encrypt(key, iv, &[])?,
        Way::Decrypt => cipher.decrypt(key, iv, &[])?,
    };
    // Room for padding and libcrypto's scratch block: a Vec that grows leaves copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(data.len() + 64));
    stream.update(data, &mut out)?;
    stream.finish(&mut out)?;
    Ok(out)
}

fn in_key_string(e: Error) -> Error {
    e.context("key string")
}

/// Version 1's cipher key, followed by its zero IV.
fn v1_key(salt: &[u8], source: Source<'_>) -> Result<Secret> {
    let key = match source {
        Source::Password(password) => {
            let wrong = || Error::new(ErrorKind::WrongPassword, "password that is not hexadecimal");
            let text = std::str::from_utf8(password).map_err(|_| wrong())?;
            let password = hex::decode(text).map_err(|_| wrong())?;
            Digest::Sha256.pbkdf2(&password, salt, V1_ROUNDS, 32)?
        }
        Source::Agreed(secret) => Zeroizing::new(Digest::Sha256.hash(&[secret])?),
    };
    let mut key_iv = Zeroizing::new(vec![0; 48]);
    key_iv[..32].copy_from_slice(&key);
    Ok(key_iv)
}
