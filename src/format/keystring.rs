//! Dovecot's key strings, versions 1 (fields joined by TAB) and 2 (by a colon): the values of
//! key attributes, also taken in settings. docs/format.md has them field by field.
//!
//! Only the text is dealt with here: fields, numbers, hexadecimal digits and their limits. The
//! rules are those of the public implementation (`lib-dcrypt`), which splits at both separators
//! but writes only its own, so that only that one is read here.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use crate::crypto::{Secret, SecretText};
use crate::error::{Error, Result};
use crate::hex;

/// The longest text that is parsed, in bytes. The largest that makes sense, an RSA key of 16384
/// bits wrapped by another, has 25 KB.
pub const MAX_TEXT: usize = 64 * 1024;
/// The most bytes of a private key: PKCS#1 of an RSA key of 16384 bits has 9.3 KB.
const MAX_KEY: usize = 12 * 1024;
/// The most bytes of a wrapping secret: one RSA block of 16384 bits.
const MAX_EPHEMERAL: usize = 2048;
/// Salts have 8 bytes, from Dovecot 2.4.2 on 16.
const MAX_SALT: usize = 64;
/// The most PBKDF2 rounds that are accepted: twenty times what we write, more than any
/// recommendation, and at most a few seconds with the slowest digest. Without a limit a planted
/// key string would keep a process busy for hours.
pub const MAX_ROUNDS: u32 = 2_000_000;

/// The key id that ends every key string, see [`crate::key::KeyId`].
pub type Id = [u8; 32];

/// How a string names its curve or RSA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AlgorithmName {
    /// Version 1: OpenSSL's number of the curve.
    Nid(u32),
    /// Version 2: dotted text, or any other name that OpenSSL knows the same thing by.
    Oid(String),
}

/// A public key string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublicString {
    /// Version 1.
    V1 {
        /// OpenSSL's number of the curve.
        nid: u32,
        /// The point, as a rule compressed.
        point: Vec<u8>,
        /// The old key id.
        id: Id,
    },
    /// Version 2.
    V2 {
        /// DER SubjectPublicKeyInfo.
        spki: Vec<u8>,
        /// The key id.
        id: Id,
    },
}

/// How the wrapping secret becomes cipher key and IV.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kdf {
    /// Version 1: AES-256-CTR with a zero IV. A password (hexadecimal text, decoded first) is
    /// stretched by 16 rounds of PBKDF2-HMAC-SHA256 with this salt; an ECDH secret is hashed once.
    V1 {
        /// Empty for an ECDH secret.
        salt: Vec<u8>,
    },
    /// Version 2: PBKDF2 of the secret gives cipher key and IV.
    V2 {
        /// OpenSSL's name of the cipher, in lower case.
        cipher: String,
        /// Salt of PBKDF2.
        salt: Vec<u8>,
        /// Name of the digest, in lower case.
        hash: String,
        /// Rounds of PBKDF2, within 1..=[`MAX_ROUNDS`].
        rounds: u32,
    },
}

/// What a private key string is protected by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Encryption {
    /// Nothing.
    None,
    /// A password.
    Password(Kdf),
    /// Another key.
    Key {
        /// How the secret becomes the cipher's key.
        kdf: Kdf,
        /// EC, X25519, X448: the ephemeral public key; RSA: the encrypted secret.
        ephemeral: Vec<u8>,
        /// The other key's id, version 1: old id.
        by: Id,
    },
}

/// A private key string.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateString {
    /// Curve or RSA.
    pub algorithm: AlgorithmName,
    /// Protection.
    pub encryption: Encryption,
    /// The key, encrypted unless `encryption` is [`Encryption::None`]. Version 1: the big-endian number;
    /// version 2: MPI, PKCS#1 or raw.
    pub key: Secret,
    /// The id that the key must have.
    pub id: Id,
}

/// Any key string.
pub enum KeyString {
    /// A public key.
    Public(PublicString),
    /// A private key.
    Private(PrivateString),
}

/// Whether `text` looks like a key string of one of the two versions.
pub fn looks_like(text: &str) -> bool {
    ["1\t", "2:", "1:", "2\t"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Parses a key string.
///
/// # Errors
/// Corrupt for anything that does not fit the format or exceeds a limit; unsupported for another
/// version or kind of protection. No error shows any of the text.
pub fn parse(text: &str) -> Result<KeyString> {
    if text.len() > MAX_TEXT {
        return Err(Error::corrupt("key string longer than 64 KB"));
    }
    if let Some(rest) = text.strip_prefix("1\t") {
        return parse_v1(&fields(rest, '\t'));
    }
    if let Some(rest) = text.strip_prefix("2:") {
        return parse_v2(&fields(rest, ':'));
    }
    if looks_like(text) {
        return Err(Error::corrupt(
            "key string with the wrong separator (version 1 has tabs, version 2 colons)",
        ));
    }
    Err(Error::unsupported("not a key string of version 1 or 2"))
}

/// At most 11 fields: that many are too many already.
fn fields(text: &str, separator: char) -> Vec<&str> {
    text.split(separator).take(11).collect()
}

fn parse_v1(fields: &[&str]) -> Result<KeyString> {
    if let &[nid, point, key_id] = fields {
        return Ok(KeyString::Public(PublicString::V1 {
            nid: number(nid, "curve number", i32::MAX as u32)?,
            point: bytes(point, "public key", MAX_EPHEMERAL)?.to_vec(),
            id: id(key_id)?,
        }));
    }
    let (nid, key, encryption, key_id) = match *fields {
        [nid, "0", key, key_id] => (nid, key, Encryption::None, key_id),
        [nid, "2", key, salt, key_id] => {
            let salt = bytes(salt, "salt", MAX_SALT)?.to_vec();
            (nid, key, Encryption::Password(Kdf::V1 { salt }), key_id)
        }
        [nid, "1", key, ephemeral, by, key_id] => {
            let encryption = Encryption::Key {
                kdf: Kdf::V1 { salt: Vec::new() },
                ephemeral: bytes(ephemeral, "ephemeral key", MAX_EPHEMERAL)?.to_vec(),
                by: id(by)?,
            };
            (nid, key, encryption, key_id)
        }
        _ => return Err(wrong_fields(fields)),
    };
    Ok(KeyString::Private(PrivateString {
        algorithm: AlgorithmName::Nid(number(nid, "curve number", i32::MAX as u32)?),
        encryption,
        key: bytes(key, "private key", MAX_KEY)?,
        id: id(key_id)?,
    }))
}

fn parse_v2(fields: &[&str]) -> Result<KeyString> {
    if let &[spki, key_id] = fields {
        return Ok(KeyString::Public(PublicString::V2 {
            spki: bytes(spki, "public key", MAX_KEY)?.to_vec(),
            id: id(key_id)?,
        }));
    }
    let (oid, key, encryption, key_id) = match *fields {
        [oid, "0", key, key_id] => (oid, key, Encryption::None, key_id),
        [oid, "2", cipher, salt, hash, rounds, key, key_id] => {
            let encryption = Encryption::Password(kdf(cipher, salt, hash, rounds)?);
            (oid, key, encryption, key_id)
        }
        [
            oid,
            "1",
            cipher,
            salt,
            hash,
            rounds,
            key,
            ephemeral,
            by,
            key_id,
        ] => {
            let encryption = Encryption::Key {
                kdf: kdf(cipher, salt, hash, rounds)?,
                ephemeral: bytes(ephemeral, "ephemeral key", MAX_EPHEMERAL)?.to_vec(),
                by: id(by)?,
            };
            (oid, key, encryption, key_id)
        }
        _ => return Err(wrong_fields(fields)),
    };
    Ok(KeyString::Private(PrivateString {
        algorithm: AlgorithmName::Oid(name(oid, "algorithm", 80)?),
        encryption,
        key: bytes(key, "private key", MAX_KEY)?,
        id: id(key_id)?,
    }))
}

fn wrong_fields(fields: &[&str]) -> Error {
    match fields.get(1) {
        Some(&("0" | "1" | "2")) => Error::corrupt("key string with a wrong number of fields"),
        Some(kind) if fields.len() > 3 && kind.len() < 4 && number(kind, "", 999).is_ok() => {
            Error::unsupported(format!("key string with protection of unknown type {kind}"))
        }
        _ => Error::corrupt("key string with a wrong number of fields"),
    }
}

fn kdf(cipher: &str, salt: &str, hash: &str, rounds: &str) -> Result<Kdf> {
    Ok(Kdf::V2 {
        cipher: name(cipher, "cipher", 32)?.to_ascii_lowercase(),
        salt: bytes(salt, "salt", MAX_SALT)?.to_vec(),
        hash: name(hash, "digest", 32)?.to_ascii_lowercase(),
        rounds: match number(rounds, "number of rounds", u32::MAX)? {
            n @ 1..=MAX_ROUNDS => n,
            n => {
                return Err(Error::corrupt(format!(
                    "key string with {n} rounds (allowed are 1 to {MAX_ROUNDS})"
                )));
            }
        },
    })
}

fn number(text: &str, what: &str, max: u32) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match text.parse() {
        Ok(n) if digits && n <= max => Ok(n),
        _ => Err(Error::corrupt(format!("key string with a bad {what}"))),
    }
}

/// A name that can be repeated in an error: letters, digits, dots and dashes.
fn name(text: &str, what: &str, max: usize) -> Result<String> {
    let good = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.' || c == b'_';
    if text.is_empty() || text.len() > max || !text.bytes().all(good) {
        return Err(Error::corrupt(format!("key string with a bad {what}")));
    }
    Ok(text.to_owned())
}

/// 1 to `max` bytes in hexadecimal digits.
fn bytes(text: &str, what: &str, max: usize) -> Result<Secret> {
    if text.is_empty() || text.len() > 2 * max {
        return Err(Error::corrupt(format!(
            "key string with {} bytes of {what} (allowed are 1 to {max})",
            text.len() / 2
        )));
    }
    hex::decode(text).map_err(|e| e.context(format_args!("key string, {what}")))
}

/// A key id: 64 hexadecimal digits.
///
/// # Errors
/// Corrupt for anything else.
pub fn id(text: &str) -> Result<Id> {
    let bytes = hex::decode(text).map_err(|e| e.context("key id"))?;
    Id::try_from(&*bytes)
        .map_err(|_| Error::corrupt(format!("key id of {} bytes instead of 32", bytes.len())))
}

/// A version 2 public key string.
pub fn write_public(spki: &[u8], id: &Id) -> String {
    format!("2:{}:{}", hex::encode(spki), hex::encode(id))
}

/// A version 2 private key string. `key` is encrypted already if `encryption` says so.
///
/// # Errors
/// Unsupported for what only version 1 can say: that version is read, never written.
pub fn write_private(
    oid: &str,
    encryption: &Encryption,
    key: &[u8],
    id: &Id,
) -> Result<Zeroizing<String>> {
    let (kind, kdf, ephemeral) = match encryption {
        Encryption::None => ("0", None, None),
        Encryption::Password(kdf) => ("2", Some(kdf), None),
        Encryption::Key { kdf, ephemeral, by } => ("1", Some(kdf), Some((ephemeral, by))),
    };
    let ephemeral_len = ephemeral.map_or(0, |(e, _)| e.len());
    let len = 2 * (key.len() + ephemeral_len + MAX_SALT) + oid.len() + 256;
    let mut out = SecretText::with_capacity(len);
    for part in ["2:", oid, ":", kind, ":"] {
        out.push_str(part);
    }
    match kdf {
        None => {}
        Some(Kdf::V1 { .. }) => {
            return Err(Error::unsupported("writing a key string of version 1"));
        }
        Some(Kdf::V2 {
            cipher,
            salt,
            hash,
            rounds,
        }) => {
            let salt = hex::encode(salt);
            out.push_str(&format!("{cipher}:{salt}:{hash}:{rounds}:"));
        }
    }
    hex::push(&mut out, key);
    out.push_str(":");
    if let Some((ephemeral, by)) = ephemeral {
        for data in [ephemeral.as_slice(), by] {
            hex::push(&mut out, data);
            out.push_str(":");
        }
    }
    hex::push(&mut out, id);
    Ok(out.finish())
}
