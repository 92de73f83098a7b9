//! Reading a stream, phase one: nothing comes out before the whole has been verified.
#![forbid(unsafe_code)]

use super::algorithm::Format;
use super::block::{self, ContentKey};
use super::payload::{check_whole_blocks, tampered, truncated_tag};
use super::secrets::SecretCache;
use super::verified::Verified;
use super::verifier::Verifier;
use crate::crypto::digest::Hmac;
use crate::crypto::{Secret, ct_eq};
use crate::error::{Error, ErrorKind, Result};
use crate::format::stream::{Header, Integrity, header_len};
use crate::key::{KeyId, PrivateKey};

/// Bytes of ciphertext up to which a mail comes out as one buffer, by default.
pub const SMALL: usize = 256 * 1024;

/// Limits of an [`Opener`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A mail of up to so many bytes of ciphertext comes out as one buffer.
    pub small: usize,
    /// A larger one in chunks of so many bytes; a multiple of 64.
    pub chunk: usize,
}

impl Default for Limits {
    /// 256 KiB at once. Chunks of 128 KiB: they stay in the CPU's cache between the check and the
    /// decryption, and little is decrypted in vain where only parts are fetched.
    fn default() -> Self {
        Limits {
            small: SMALL,
            chunk: 128 * 1024,
        }
    }
}

/// What an [`Opener`] wants next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Feed {
    /// More of the file, or its end.
    More,
    /// The private key of one of these recipients (version 1: old ids), through
    /// [`Opener::unlock`].
    NeedKey(Vec<KeyId>),
}

/// The content of a verified mail.
pub enum Body {
    /// All of it.
    Small(Secret),
    /// To be read chunk by chunk.
    Large(Box<Verified>),
}

/// Phase one: takes the whole file, in pieces of any size, and checks it.
///
/// Holds at most `limits.small` bytes of *ciphertext*, or 16 to 32 bytes per chunk; no plaintext
/// exists before [`Self::finish`] has found the tag right (ChaCha20-Poly1305 above the small
/// size can't be checked without decrypting: there it is wiped chunk by chunk).
pub struct Opener {
    limits: Limits,
    start: Vec<u8>,
    header: Option<Header>,
    key: Option<ContentKey>,
    asked: bool,
    payload: u64,
    body: Reading,
    failed: Option<Error>,
}

enum Reading {
    Small(Vec<u8>),
    Large(Box<Verifier>),
}

impl Default for Opener {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Opener {
    /// For one file.
    pub fn new(limits: Limits) -> Self {
        Opener {
            limits: Limits {
                small: limits.small,
                chunk: limits.chunk.max(64).next_multiple_of(64),
            },
            start: Vec::new(),
            header: None,
            key: None,
            asked: false,
            payload: 0,
            body: Reading::Small(Vec::new()),
            failed: None,
        }
    }

    /// Takes the file's next bytes.
    ///
    /// [`Feed::NeedKey`] asks for [`Self::unlock`]. What followed the header in the same piece is
    /// kept, but nothing more is taken before.
    ///
    /// # Errors
    /// Corrupt or unsupported, from the header; the opener then stays at that error.
    pub fn feed(&mut self, ciphertext: &[u8]) -> Result<Feed> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.take(ciphertext);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn take(&mut self, ciphertext: &[u8]) -> Result<Feed> {
        let payload = self.take_header(ciphertext)?;
        let Some(header) = &self.header else {
            return Ok(Feed::More);
        };
        if self.key.is_none() && self.asked && !payload.is_empty() {
            return Err(no_key(header));
        }
        self.payload += payload.len() as u64;
        if self.payload > header.cipher.max_len().saturating_add(64) {
            return Err(Error::corrupt(
                "longer than its cipher may encrypt under one key",
            ));
        }
        if self.key.is_some() {
            self.take_payload(payload)?;
            return Ok(Feed::More);
        }
        self.asked = true;
        if let Reading::Small(kept) = &mut self.body {
            kept.extend_from_slice(payload);
        }
        let ids = header.recipients.iter().map(|to| KeyId(to.id)).collect();
        Ok(Feed::NeedKey(ids))
    }

    /// Takes what belongs to the header and returns the rest.
    fn take_header<'a>(&mut self, mut data: &'a [u8]) -> Result<&'a [u8]> {
        while self.header.is_none() {
            let known = header_len(&self.start)?;
            if known == Some(self.start.len()) {
                self.header = Some(Header::parse(&self.start)?);
                break;
            }
            // Before the length is known: up to the version, then up to the length field.
            let want = known.unwrap_or(match (self.start.len(), self.start.get(9)) {
                (..10, _) => 10,
                (_, Some(1)) => 12,
                _ => 18,
            });
            let missing = want - self.start.len();
            let (now, later) = data.split_at(missing.min(data.len()));
            self.start.extend_from_slice(now);
            data = later;
            if now.len() < missing {
                // As far as it goes, it must be right.
                header_len(&self.start)?;
                break;
            }
        }
        Ok(data)
    }

    fn take_payload(&mut self, data: &[u8]) -> Result<()> {
        let (Some(header), Some(key)) = (&self.header, &self.key) else {
            return Ok(());
        };
        match &mut self.body {
            Reading::Small(kept) => {
                if kept.len() + data.len() <= self.limits.small + header.tag_len() {
                    kept.extend_from_slice(data);
                    return Ok(());
                }
                let mut verifier = Box::new(Verifier::new(header, key, self.limits.chunk)?);
                verifier.feed(kept)?;
                verifier.feed(data)?;
                self.body = Reading::Large(verifier);
                Ok(())
            }
            Reading::Large(verifier) => verifier.feed(data),
        }
    }

    /// Unlocks the stream with a recipient's private key, after [`Feed::NeedKey`].
    ///
    /// # Errors
    /// NoKey if the stream isn't for `key` (another may be tried); tampered or corrupt if the
    /// key block doesn't unwrap; unsupported for an unknown key type.
    pub fn unlock(&mut self, key: &PrivateKey, secrets: &mut SecretCache) -> Result<()> {
        let header = self.header.as_ref().ok_or_else(early)?;
        let to = header
            .recipients
            .iter()
            .find(|to| key.matches(&KeyId(to.id)))
            .ok_or_else(|| no_key(header))?;
        self.key = Some(block::unwrap(header, to, key, secrets)?);
        Ok(())
    }

    /// Unlocks the stream with a key block remembered from an earlier opening.
    ///
    /// # Errors
    /// Tampered if it can't be this stream's: forget the block and use [`Self::unlock`]. If it only
    /// looks right, [`Self::finish`] answers tampered.
    pub fn unlock_with_block(&mut self, block: &ContentKey) -> Result<()> {
        block.check(self.header.as_ref().ok_or_else(early)?)?;
        self.key = Some(block.clone());
        Ok(())
    }

    /// The key block, once unlocked. Not to be remembered before [`Self::finish`] succeeded.
    pub fn content_key(&self) -> Option<&ContentKey> {
        self.key.as_ref()
    }

    /// SHA-256 of the header as it is in the file. It identifies the mail: each has its own random
    /// key block.
    ///
    /// # Errors
    /// Truncated while the header isn't complete.
    pub fn header_hash(&self) -> Result<[u8; 32]> {
        self.header.as_ref().ok_or_else(early)?;
        super::header_hash(&self.start)
    }

    /// What the stream is written in, once the header is known.
    pub fn format(&self) -> Option<Format> {
        self.header.as_ref().map(Format::from)
    }

    /// A large mail that was verified before, by [`Verified::to_record`]; to be unlocked first. Each chunk
    /// is checked when it is served, as after [`Self::finish`]: the record must be known to be genuine,
    /// and for the mail with this [`Self::header_hash`].
    ///
    /// # Errors
    /// NoKey if it isn't unlocked, corrupt if it can't be this mail's record: verify the whole then.
    pub fn recall(&self, record: &[u8]) -> Result<Verified> {
        let header = self.header.as_ref().ok_or_else(early)?;
        let key = self.key.as_ref().ok_or_else(|| no_key(header))?;
        Verified::from_record(header, key, self.start.len() as u64, record)
    }

    /// Verifies the whole, now that the file has ended.
    ///
    /// # Errors
    /// Tampered if the tag doesn't match (a cut payload looks the same);
    /// truncated if the file ends within the header or the tag; NoKey if it wasn't unlocked.
    pub fn finish(mut self) -> Result<Body> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.take_payload(&[])?;
        let Some(header) = self.header else {
            return match self.start.len() {
                0 => Ok(Body::Small(Secret::default())),
                _ => Err(Error::truncated("the file ends within its header")),
            };
        };
        let key = self.key.ok_or_else(|| no_key(&header))?;
        match self.body {
            Reading::Small(sealed) => open_small(&header, &key, &sealed).map(Body::Small),
            Reading::Large(verifier) => {
                let verified = verifier.finish(&header, &key, self.start.len() as u64)?;
                Ok(Body::Large(Box::new(verified)))
            }
        }
    }
}

fn early() -> Error {
    Error::truncated("the header isn't complete yet")
}

fn no_key(header: &Header) -> Error {
    let ids: Vec<String> = header
        .recipients
        .iter()
        .map(|to| KeyId(to.id).to_string())
        .collect();
    let text = format!("no private key for key id {}", ids.join(", "));
    Error::new(ErrorKind::NoKey, text)
}

fn open_small(header: &Header, key: &ContentKey, sealed: &[u8]) -> Result<Secret> {
    let split = sealed
        .len()
        .checked_sub(header.tag_len())
        .ok_or_else(truncated_tag)?;
    let (data, tag) = sealed.split_at(split);
    let parts = key.parts(header)?;
    match header.integrity {
        Integrity::Aead => {
            return header
                .cipher
                .open(parts.key, parts.iv, parts.mac, data, tag);
        }
        Integrity::Hmac => {
            let mut hmac = Hmac::new(header.digest, parts.mac)?;
            hmac.update(data)?;
            if !ct_eq(&hmac.finish()?, tag) {
                return Err(tampered());
            }
        }
        Integrity::None => {}
    }
    check_whole_blocks(header, data.len() as u64)?;
    header.cipher.open_bare(parts.key, parts.iv, data)
}
