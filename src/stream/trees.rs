//! Reading mail that TREES wrote: docs/format.md, "TREES". As with [`super::Opener`], nothing comes out before all of it has
//! been checked.
//!
//! What is checked is each chunk by itself. A chunk that was left out, repeated or moved isn't noticed, nor one that
//! somebody sealed who knows the user's public key: docs/security.md.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use super::open::{Body, SMALL};
use super::payload::tampered;
use super::verified::{ChunkCipher, Verified};
use crate::crypto::digest::Digest;
use crate::crypto::{Secret, SecretVec, ct_eq};
use crate::error::{Error, Result};
use crate::format::trees::{CHUNK, HEADER, SEAL, SEALED_CHUNK, check_header, chunks};
use crate::key::trees::TreesKey;

/// Chunks that a large mail is read by at once: some 128 KiB, as other large mail.
pub const AT_ONCE: usize = 16;

/// What [`TreesOpener`] wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreesFeed {
    /// More of the file, or its end.
    More,
    /// The user's key, through [`TreesOpener::unlock`].
    NeedKey,
}

/// Bytes in which no two files are the same: the header, and the first chunk's ephemeral key and tag.
const START: usize = HEADER + SEAL;

/// Phase one: takes the whole file, in pieces of any size, and opens each chunk.
///
/// Holds at most [`SMALL`] bytes of plaintext, and what is read at once of the file; of a larger mail 16 bytes for that.
pub struct TreesOpener {
    small: usize,
    at_once: usize,
    start: Vec<u8>,
    key: Option<TreesKey>,
    /// What isn't opened yet of the file, without its header.
    sealed: Vec<u8>,
    /// All of the plaintext, as long as it is small.
    plain: Option<Secret>,
    /// Of each group of chunks.
    tags: SecretVec<[u8; 16]>,
    size: u64,
    failed: Option<Error>,
}

impl Default for TreesOpener {
    fn default() -> Self {
        Self::new(SMALL, AT_ONCE)
    }
}

impl TreesOpener {
    /// For one file. Up to `small` bytes of plaintext come out as one buffer, a larger mail is read `at_once` chunks at a
    /// time.
    pub fn new(small: usize, at_once: usize) -> Self {
        TreesOpener {
            small,
            at_once: at_once.max(1),
            start: Vec::new(),
            key: None,
            sealed: Vec::new(),
            plain: Some(Secret::default()),
            tags: SecretVec::default(),
            size: 0,
            failed: None,
        }
    }

    /// Takes the file's next bytes. Without a key, what is given is kept, and nothing more may be given.
    ///
    /// # Errors
    /// Truncated, corrupt, unsupported or tampered; the opener then stays at that error.
    pub fn feed(&mut self, file: &[u8]) -> Result<TreesFeed> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.take(file);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.plain = None;
        }
        result
    }

    fn take(&mut self, file: &[u8]) -> Result<TreesFeed> {
        if self.start.len() == START && self.key.is_none() && !file.is_empty() {
            return Err(locked());
        }
        self.size += file.len() as u64;
        let missing = START - self.start.len();
        let begin = file.get(..missing.min(file.len())).unwrap_or_default();
        let header_before = self.start.len().min(HEADER);
        self.start.extend_from_slice(begin);
        let header = self.start.len().min(HEADER) - header_before;
        if header_before < HEADER && self.start.len() >= HEADER {
            check_header(&self.start)?;
        }
        let payload = file.get(header..).unwrap_or_default();
        if self.key.is_none() {
            self.sealed.extend_from_slice(payload);
            return match self.start.len() {
                START => Ok(TreesFeed::NeedKey),
                _ => Ok(TreesFeed::More),
            };
        }
        self.take_sealed(payload)?;
        Ok(TreesFeed::More)
    }

    /// Opens what is complete.
    fn take_sealed(&mut self, mut payload: &[u8]) -> Result<()> {
        let group = self.at_once * SEALED_CHUNK;
        loop {
            // What was given before there was a key may be more than a group.
            let room = group.saturating_sub(self.sealed.len());
            let (now, later) = payload.split_at(room.min(payload.len()));
            self.sealed.extend_from_slice(now);
            payload = later;
            if self.sealed.len() < group {
                return Ok(());
            }
            let rest = self.sealed.split_off(group);
            let full = std::mem::replace(&mut self.sealed, rest);
            self.open_group(&full)?;
        }
    }

    fn open_group(&mut self, sealed: &[u8]) -> Result<()> {
        let key = self.key.as_ref().ok_or_else(locked)?;
        let first = self.tags.len() * self.at_once;
        for (number, chunk) in sealed.chunks(SEALED_CHUNK).enumerate() {
            let plain = open_chunk(key, first + number, chunk)?;
            let Some(all) = &mut self.plain else { continue };
            if all.len() + plain.len() <= self.small {
                all.extend_from_slice(&plain);
            } else {
                self.plain = None;
            }
        }
        self.tags.push(tag(sealed)?);
        Ok(())
    }

    /// SHA-256 of the file's beginning, which identifies it.
    ///
    /// # Errors
    /// Truncated, before [`TreesFeed::NeedKey`].
    pub fn id(&self) -> Result<[u8; 32]> {
        match self.start.len() {
            START => super::header_hash(&self.start),
            _ => Err(Error::truncated("the first chunk isn't there yet")),
        }
    }

    /// Goes on with the user's key, after [`TreesFeed::NeedKey`].
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn unlock(&mut self, key: TreesKey) -> Result<()> {
        self.key = Some(key);
        // Counted already.
        let result = self.take_sealed(&[]);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.plain = None;
        }
        result
    }

    /// Checks the whole, now that the file has ended.
    ///
    /// # Errors
    /// Truncated if it doesn't end with a short chunk, tampered if that one doesn't open, and as [`Self::feed`].
    pub fn finish(mut self) -> Result<Body> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (whole, last) = chunks(self.size)?;
        let sealed = std::mem::take(&mut self.sealed);
        self.open_group(&sealed)?;
        if let Some(plain) = self.plain {
            return Ok(Body::Small(plain));
        }
        let key = self.key.ok_or_else(locked)?;
        self.tags.shrink();
        Ok(Body::Large(Box::new(Verified {
            cipher: RefCell::new(ChunkCipher::Trees(key)),
            chain_len: 0,
            chunk: self.at_once * CHUNK,
            sealed_chunk: self.at_once * SEALED_CHUNK,
            payload_at: HEADER as u64,
            payload_len: self.size - HEADER as u64,
            plain_size: whole * CHUNK as u64 + last as u64,
            tags: self.tags,
            previous: SecretVec::default(),
        })))
    }
}

fn locked() -> Error {
    Error::internal("the mail's key was never given")
}

fn open_chunk(key: &TreesKey, number: usize, chunk: &[u8]) -> Result<Secret> {
    key.open(chunk)
        .ok_or_else(|| tampered().context(format_args!("chunk {}", number + 1)))
}

/// By which a group of chunks is recognised later. Nobody finds another one with the same.
fn tag(sealed: &[u8]) -> Result<[u8; 16]> {
    let hash = Digest::Sha256.hash(&[sealed])?;
    let tag = hash.first_chunk().copied();
    tag.ok_or_else(|| Error::internal("SHA-256 has 32 bytes"))
}

/// Decrypts a group of chunks into `out`, if it is the one that was checked. Returns the plaintext's size.
pub(super) fn open_group(
    key: &TreesKey,
    sealed: &[u8],
    expected: &[u8; 16],
    out: &mut [u8],
) -> Result<Option<usize>> {
    if !ct_eq(&tag(sealed)?, expected) {
        return Ok(None);
    }
    let mut len = 0;
    for (number, chunk) in sealed.chunks(SEALED_CHUNK).enumerate() {
        let plain = open_chunk(key, number, chunk)?;
        let room = out.get_mut(len..len + plain.len());
        room.ok_or_else(|| Error::internal("no room for a chunk"))?
            .copy_from_slice(&plain);
        len += plain.len();
    }
    Ok(Some(len))
}

#[cfg(all(test, feature = "trees"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod tests;
