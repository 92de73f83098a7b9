//! Writing a stream.
#![forbid(unsafe_code)]

use super::algorithm::{Algorithm, Format};
use super::block::ContentKey;
use super::sender::Sender;
use crate::crypto::cipher::{Cipher, Crypter};
use crate::crypto::digest::Hmac;
use crate::crypto::{self, Secret};
use crate::error::{Error, Result};
use crate::format::stream::{Header, Integrity, Version};

/// Encrypts one stream.
///
/// An empty plaintext makes an empty file: nothing is written before the first byte.
pub struct Encryptor {
    state: State,
    key: ContentKey,
    header_hash: [u8; 32],
    format: Format,
    left: u64,
}

enum State {
    /// The header waits for the first byte.
    Fresh(Box<(Header, Vec<u8>)>),
    Writing(Box<Writing>),
    /// Ended, or failed.
    Over,
}

struct Writing {
    cipher: Crypter,
    mac: Mac,
}

enum Mac {
    Aead,
    Hmac(Hmac),
    None,
}

impl Encryptor {
    /// A stream for `sender`'s recipient. Version 1 ignores `algorithm`: it has only one.
    ///
    /// # Errors
    /// Crypto if there is no randomness or the recipient's key can't be used, unsupported if
    /// the version doesn't know keys of that type.
    pub fn new(algorithm: &Algorithm, version: Version, sender: &mut Sender) -> Result<Self> {
        let len = match version {
            Version::V1 => Cipher::AES_256_CTR.key_len(),
            Version::V2 => algorithm.cipher().key_len() + algorithm.cipher().iv_len() + 16,
        };
        let mut block = Secret::zeroed(len);
        crypto::random(&mut block)?;
        let key = ContentKey::new(block);
        let header = match version {
            Version::V1 => sender.header_v1(&key)?,
            Version::V2 => sender.header_v2(algorithm, &key)?,
        };
        let bytes = header.write()?;
        Ok(Encryptor {
            header_hash: super::header_hash(&bytes)?,
            format: Format::from(&header),
            left: header.cipher.max_len(),
            state: State::Fresh(Box::new((header, bytes))),
            key,
        })
    }

    /// The stream's content key, for caches.
    pub fn content_key(&self) -> &ContentKey {
        &self.key
    }

    /// What identifies the stream, as [`super::Opener::header_hash`].
    pub fn header_hash(&self) -> [u8; 32] {
        self.header_hash
    }

    /// What the stream is written in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Encrypts `plain` and appends the file's next bytes to `out`.
    ///
    /// # Errors
    /// Unsupported if the plaintext outgrows what the cipher may encrypt under one key (64 GiB
    /// for GCM). After any error the stream is over, and what was written isn't a mail.
    pub fn update(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if plain.is_empty() {
            return Ok(());
        }
        let mut writing = match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh(fresh) => {
                let (header, bytes) = *fresh;
                out.reserve(bytes.len() + plain.len() + 64);
                out.extend_from_slice(&bytes);
                Box::new(Writing::start(&header, &self.key)?)
            }
            State::Writing(writing) => writing,
            State::Over => return Err(over()),
        };
        self.left = self.left.checked_sub(plain.len() as u64).ok_or_else(|| {
            Error::unsupported("more plaintext than the cipher may encrypt under one key")
        })?;
        let start = out.len();
        writing.cipher.update(plain, out)?;
        writing.mac(&out[start..])?;
        self.state = State::Writing(writing);
        Ok(())
    }

    /// Ends the stream and appends its last bytes to `out`: the last block and the tag.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh(_) => Ok(()),
            State::Writing(writing) => writing.finish(out),
            State::Over => Err(over()),
        }
    }
}

fn over() -> Error {
    Error::internal("the stream has already ended or failed")
}

impl Writing {
    fn start(header: &Header, key: &ContentKey) -> Result<Self> {
        let parts = key.parts(header)?;
        let (aad, mac) = match header.integrity {
            Integrity::Aead => (parts.mac, Mac::Aead),
            Integrity::Hmac => (&[][..], Mac::Hmac(Hmac::new(header.digest, parts.mac)?)),
            Integrity::None => (&[][..], Mac::None),
        };
        Ok(Writing {
            cipher: header.cipher.encrypt(parts.key, parts.iv, aad)?,
            mac,
        })
    }

    fn mac(&mut self, ciphertext: &[u8]) -> Result<()> {
        match &mut self.mac {
            Mac::Hmac(hmac) => hmac.update(ciphertext),
            Mac::Aead | Mac::None => Ok(()),
        }
    }

    fn finish(mut self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        self.cipher.finish(out)?;
        self.mac(&out[start..])?;
        match self.mac {
            Mac::Aead => out.extend_from_slice(&self.cipher.tag()?),
            Mac::Hmac(hmac) => out.extend_from_slice(&hmac.finish()?),
            Mac::None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ErrorKind;
    use crate::key::PrivateKey;

    #[test]
    fn no_more_is_encrypted_than_one_key_may() {
        let key = PrivateKey::generate("prime256v1").unwrap();
        let mut sender = Sender::new(key.public());
        let algorithm = Algorithm::default();
        let mut e = Encryptor::new(&algorithm, Version::V2, &mut sender).unwrap();
        assert_eq!(e.left, (1 << 36) - 32);
        e.left = 10;
        let mut out = Vec::new();
        e.update(&[0; 10], &mut out).unwrap();
        let len = out.len();
        let error = e.update(&[0], &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(e.finish(&mut out).is_err());
        assert_eq!(out.len(), len);
    }
}
