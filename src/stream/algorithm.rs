//! What a stream is written with: the fs driver's `algo=` and 2.4's `crypt_write_algorithm`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use crate::crypto::cipher::Cipher;
use crate::crypto::digest::Digest;
use crate::error::{Error, Result};
use crate::format::stream::{Header, Integrity, Version};

use super::sender::ROUNDS;

/// A cipher and a digest that streams are written with. Default: `aes-256-gcm-sha256`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Algorithm {
    cipher: Cipher,
    digest: Digest,
}

impl Algorithm {
    /// The payload's cipher.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The digest for key derivation and HMAC.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The cipher's own tag if it has one, else an HMAC; never none.
    pub fn integrity(&self) -> Integrity {
        if self.cipher.is_aead() {
            Integrity::Aead
        } else {
            Integrity::Hmac
        }
    }

    /// Whether a mail with this header, to a key that isn't RSA, was written as this writes it.
    pub fn writes(&self, header: &Header) -> bool {
        self.writes_payload(header) && header.rounds == ROUNDS && !header.same_cipher
    }

    /// The same, whatever its recipient's key: RSA needs no key derivation.
    pub fn writes_payload(&self, header: &Header) -> bool {
        header.version == Version::V2
            && header.cipher == self.cipher
            && header.digest == self.digest
            && header.integrity == self.integrity()
    }
}

/// What a stream is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Of the header.
    pub version: Version,
    /// Of the payload.
    pub algorithm: Algorithm,
}

impl From<&Header> for Format {
    fn from(header: &Header) -> Self {
        Format {
            version: header.version,
            algorithm: Algorithm {
                cipher: header.cipher,
                digest: header.digest,
            },
        }
    }
}

impl Default for Algorithm {
    fn default() -> Self {
        Algorithm {
            cipher: Cipher::AES_256_GCM,
            digest: Digest::Sha256,
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    /// Parses `CIPHER-DIGEST` in any case.
    ///
    /// # Errors
    /// Setting, if either is unknown, can't be read by the packaged plugin, or is missing from this
    /// libcrypto. This shows when the setting is read, not when mail arrives.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| {
            Error::setting(format!(
                "algorithm '{}': {why} (CIPHER-DIGEST, as in {})",
                text.escape_default(),
                Algorithm::default()
            ))
        };
        let lower = text.to_ascii_lowercase();
        let (cipher, digest) = Digest::all()
            .find_map(|digest| {
                let cipher = lower.strip_suffix(digest.name())?.strip_suffix('-')?;
                Some((cipher, digest))
            })
            .ok_or_else(|| refuse("unknown digest".into()))?;
        // No reader of the packaged plugin knows SHA-224, and MD5 is only there to be read.
        if matches!(digest, Digest::Md5 | Digest::Sha224) {
            return Err(refuse(format!("{digest} isn't written")));
        }
        let cipher = Cipher::from_name(cipher).map_err(|e| refuse(format!("unknown {e}")))?;
        if cipher.oid_der().is_none() {
            return Err(refuse(format!(
                "{cipher} has no object identifier, so a stream can't name it"
            )));
        }
        cipher.available().map_err(|e| refuse(e.to_string()))?;
        Ok(Algorithm { cipher, digest })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.cipher, self.digest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn settings_name_algorithms_in_any_case() {
        for name in [
            "aes-256-gcm-sha256",
            "aes-128-cbc-sha1",
            "camellia-256-cbc-sha512",
            "chacha20-poly1305-sha384",
            "des-ede3-cbc-sha256",
            "aes-256-gcm-sha3-256",
        ] {
            let algorithm: Algorithm = name.parse().unwrap();
            assert_eq!(algorithm.to_string(), name);
            assert_eq!(name.to_uppercase().parse::<Algorithm>().unwrap(), algorithm);
        }
        let default: Algorithm = "AES-256-GCM-SHA256".parse().unwrap();
        assert_eq!(default, Algorithm::default());
        assert_eq!(default.integrity(), Integrity::Aead);
    }

    #[test]
    fn what_cannot_be_written_is_refused_when_the_setting_is_read() {
        for (name, why) in [
            ("", "unknown digest"),
            ("sha256", "unknown digest"),
            ("-sha256", "unknown cipher ''"),
            ("aes-256-gcm", "unknown digest"),
            ("aes-256-ctr-sha256", "no object identifier"),
            ("aes-256-xts-sha256", "unknown cipher"),
            ("aes-256-gcm-md5", "isn't written"),
            ("aes-256-gcm-sha224", "isn't written"),
            ("chacha20-sha256", "unknown cipher"),
            ("aes-256-gcm\nsha256", "unknown digest"),
        ] {
            let error = name.parse::<Algorithm>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Setting);
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains('\n'));
        }
    }
}
