//! Public and private keys: ids, key strings, wrapping.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::string_slice)]

mod jwk;
mod private;
mod public;
mod public_text;
pub mod slot;
mod stored;
pub mod trees;
mod wrap;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::format::keystring;
use crate::hex;

pub use private::{PrivateKey, Protect, check_curve};
pub use public::PublicKey;
pub use stored::{Protection, StoredKey};
pub use wrap::PASSWORD_ROUNDS;

/// The name of a key: SHA-256 over its DER SubjectPublicKeyInfo with a compressed point.
///
/// Keys made by very old versions are named by their *old id* instead, SHA-256 over the
/// upper-case hexadecimal text of the compressed point. A file or an attribute may name either.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for KeyId {
    type Err = Error;

    /// 64 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self> {
        keystring::id(text).map(KeyId)
    }
}

/// The type of a key.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeyType {
    /// A named curve in Weierstrass form, e.g. prime256v1.
    Ec,
    /// RFC 7748, written by Dovecot 2.4.
    X25519,
    /// RFC 7748, written by Dovecot 2.4.
    X448,
    /// RSA: used where given, never generated.
    Rsa,
}

/// Turns an error about a key into one about the setting that holds it. A wrong password stays what
/// it is, and libcrypto's failures say nothing about the value.
fn as_setting(e: Error) -> Error {
    match e.kind() {
        ErrorKind::WrongPassword | ErrorKind::Crypto | ErrorKind::Internal | ErrorKind::Setting => {
            e
        }
        _ => Error::setting(e.to_string()),
    }
}

fn is_private() -> Error {
    Error::corrupt("a private key where a public key belongs")
}

fn is_public() -> Error {
    Error::corrupt("a public key where a private key belongs")
}

#[cfg(test)]
mod tests;
