//! The only user of libcrypto: random bytes, digests, ciphers and public-key operations. Argon2, SHA-256 and libsodium's
//! boxes come from crates.
//!
//! Nothing here knows a file format.
#![forbid(unsafe_code)]

mod argon2id;
pub mod cipher;
pub mod digest;
pub mod ec;

pub mod gcm;
mod gf128;
mod lookup;
pub mod pkcs8;
pub mod rsa;
mod secret;
mod sha256;
#[cfg_attr(not(feature = "trees"), path = "crypto/no_sodium.rs")]
pub mod sodium;
pub mod xdh;

#[cfg(test)]
mod vectors;

pub use argon2id::{argon2i, argon2id};
pub use secret::{Secret, SecretText, SecretVec};

use crate::error::{Error, ErrorKind, Result};
use crate::hex;

impl From<openssl::error::ErrorStack> for Error {
    fn from(stack: openssl::error::ErrorStack) -> Self {
        // On its own this tells an administrator nothing ("bignum routines: encoding error"): callers
        // add what they were doing.
        let text = format!("libcrypto refused the operation{}", reasons(&stack));
        Error::new(ErrorKind::Crypto, text)
    }
}

/// libcrypto's reasons in parentheses, the first cause first; empty if it gives none.
///
/// The texts come from its tables. The data attached to an error may quote the input, and is left out.
fn reasons(stack: &openssl::error::ErrorStack) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in stack.errors() {
        let parts: Vec<&str> = error.library().into_iter().chain(error.reason()).collect();
        let text = if parts.is_empty() {
            format!("error {:#x}", error.code())
        } else {
            parts.join(": ")
        };
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        return String::new();
    }
    format!(" ({})", texts.join("; "))
}

/// Fills `buf` with bytes from libcrypto's random generator.
///
/// # Errors
/// [`ErrorKind::Crypto`] if the generator can't be seeded: nothing may be encrypted then.
pub fn random(buf: &mut [u8]) -> Result<()> {
    openssl::rand::rand_bytes(buf).map_err(|e| Error::from(e).context("random generator"))
}

/// A time in seconds since 1970 for people, in UTC.
///
/// # Errors
/// As libcrypto, for a time that it can't show.
pub fn date(seconds: u64) -> Result<String> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Ok(openssl::asn1::Asn1Time::from_unix(seconds)?.to_string())
}

/// Whether `a` and `b` are equal, in a time that depends on their lengths only.
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// A big-endian number without its leading zeros.
pub fn without_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}

/// A DER object identifier in dotted form for error texts; hex if it isn't one.
pub fn oid_text(der: &[u8]) -> String {
    let hex = || format!("0x{}", hex::encode(der));
    let [6, len, body @ ..] = der else {
        return hex();
    };
    if usize::from(*len) != body.len() || body.is_empty() {
        return hex();
    }
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for &byte in body {
        if arc >> 57 != 0 {
            return hex();
        }
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first);
                arc -= first * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    let arcs: Vec<String> = arcs.iter().map(u64::to_string).collect();
    arcs.join(".")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn object_identifiers_are_shown_dotted() {
        let text = |der: &[u8]| oid_text(der);
        assert_eq!(
            text(&[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 46]),
            "2.16.840.1.101.3.4.1.46"
        );
        assert_eq!(text(&[6, 5, 0x2b, 0x0e, 3, 2, 0x1a]), "1.3.14.3.2.26");
        assert_eq!(text(&[6, 3, 0x2a]), "0x06032a");
        assert_eq!(
            text(&[6, 11, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).get(..2),
            Some("0x")
        );
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "for its error, which needs no password"
    )]
    fn an_error_of_libcrypto_carries_its_reason_and_none_of_the_data() {
        let stack = openssl::pkey::PKey::private_key_from_pem(b"hunter2").unwrap_err();
        let text = Error::from(stack).to_string();
        let refused = "libcrypto refused the operation (";
        assert!(text.starts_with(refused) && text.ends_with(')'), "{text}");
        assert!(text.len() > refused.len() + 10, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        // It may not say.
        let text = Error::from(openssl::error::ErrorStack::get()).to_string();
        assert_eq!(text, "libcrypto refused the operation");
    }

    #[test]
    fn constant_time_comparison_compares() {
        assert!(ct_eq(b"", b""));
        assert!(ct_eq(b"abc", b"abc"));
        assert!(!ct_eq(b"abc", b"abd"));
        assert!(!ct_eq(b"abc", b"ab"));
    }
}
