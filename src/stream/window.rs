//! Serving a large mail: the part of its plaintext that is lent to a stream.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::rc::Rc;

use super::chunk_cache::ChunkCache;
use super::verified::Verified;
use crate::crypto::Secret;
use crate::crypto::cipher::MARGIN;
use crate::error::{Error, Result};

/// The decrypted part of a large mail that a stream serves from.
#[derive(Default)]
pub struct Window {
    /// Wiped on drop and before larger memory takes its place. As long as it ever was: to grow a `Vec`
    /// is to write zeros first.
    own: Secret,
    /// More of it, where the next chunk is decrypted while a part of `own` is still looked at.
    spare: Secret,
    /// A chunk that others may look at too, in place of `own`.
    shared: Option<Rc<Secret>>,
    /// Which of their bytes are lent.
    lent: Range<usize>,
    /// Offset in the mail of the first byte that is lent.
    start: u64,
    /// The first bytes of the chunk `gathering`, where it can't be had in one piece.
    gathered: Vec<u8>,
    gathering: usize,
}

impl Window {
    /// What is lent.
    pub fn plain(&self) -> &[u8] {
        let plain = self.shared.as_deref().unwrap_or(&self.own);
        &plain[self.lent.clone()]
    }

    /// Whether the chunk at `offset` is at hand: then the plaintext from `offset` to its end is lent. It
    /// takes a stream's reader that has consumed all before `offset`.
    pub fn serve_cached(
        &mut self,
        verified: &Verified,
        cache: &ChunkCache,
        keep: u64,
        offset: u64,
    ) -> bool {
        let number = chunk_of(verified, offset);
        let Some(plain) = cache.get(number).filter(|_| keep == offset) else {
            return false;
        };
        let plain = Rc::clone(plain);
        let len = plain.len() - MARGIN;
        self.lend_shared(plain, len, verified, offset).is_ok()
    }

    /// Which ciphertext [`Self::serve`] needs for the plaintext at `offset`: its offset in the
    /// file and its size.
    pub fn wants(&self, verified: &Verified, offset: u64) -> (u64, usize) {
        let number = chunk_of(verified, offset);
        let (from, size) = verified.ciphertext_range(number);
        let here = self.gathered(number).len();
        (from + here as u64, size.saturating_sub(here))
    }

    /// What is there of chunk `number`.
    fn gathered(&self, number: usize) -> &[u8] {
        if self.gathering == number {
            &self.gathered
        } else {
            &[]
        }
    }

    /// Takes that ciphertext, or its first part (none of it: the file has ended). Returns whether
    /// the chunk is complete: then the plaintext from `keep` (at most `offset`) to its end is lent, and
    /// kept in `cache`, if that is given and the stream's reader has consumed all before.
    ///
    /// # Errors
    /// Tampered or truncated: the file was changed since it was verified. What was lent before
    /// stays where it is: the stream's reader may still look at it.
    pub fn serve(
        &mut self,
        verified: &Verified,
        cache: Option<&mut ChunkCache>,
        keep: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<bool> {
        let number = chunk_of(verified, offset);
        let (_, size) = verified.ciphertext_range(number);
        if self.gathered(number).is_empty() && (data.len() == size || data.is_empty()) {
            self.decrypt(verified, cache, keep, offset, data)?;
            return Ok(true);
        }
        if self.gathering != number {
            self.gathering = number;
            self.gathered.clear();
        }
        self.gathered.extend_from_slice(data);
        if self.gathered.len() < size && !data.is_empty() {
            return Ok(false);
        }
        let chunk = std::mem::take(&mut self.gathered);
        self.decrypt(verified, cache, keep, offset, &chunk)?;
        // Its memory serves the next chunk too.
        self.gathered = chunk;
        self.gathered.clear();
        Ok(true)
    }

    fn decrypt(
        &mut self,
        verified: &Verified,
        cache: Option<&mut ChunkCache>,
        keep: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let number = chunk_of(verified, offset);
        if let Some(cache) = cache.filter(|_| keep == offset) {
            let (plain, len) = cache.open(verified, number, data)?;
            return self.lend_shared(plain, len, verified, offset);
        }
        let kept = self.kept(keep, offset);
        // What is lent stays in its place: this may fail yet.
        let elsewhere = !kept.is_empty() && self.shared.is_none();
        let into = if elsewhere {
            &mut self.spare
        } else {
            &mut self.own
        };
        fit(into, kept.len() + data.len() + MARGIN);
        let len = verified.open_chunk(number, data, &mut into[kept.len()..])?;
        let from = within(verified, offset);
        if from > len {
            return Err(beyond());
        }
        let end = kept.len() + len;
        self.start = offset - kept.len() as u64;
        let before = from..from + kept.len();
        match self.shared.take() {
            Some(plain) => into[before].copy_from_slice(&plain[kept]),
            None if elsewhere => {
                self.spare[before].copy_from_slice(&self.own[kept]);
                std::mem::swap(&mut self.own, &mut self.spare);
            }
            None => {}
        }
        self.lent = from..end;
        Ok(())
    }

    /// Lends the chunk at `offset`, of which `plain` has `len` bytes, from there on.
    fn lend_shared(
        &mut self,
        plain: Rc<Secret>,
        len: usize,
        verified: &Verified,
        offset: u64,
    ) -> Result<()> {
        // The chunk begins before `offset` where the stream was seeked into its middle.
        let from = within(verified, offset);
        if from > len || len > plain.len() {
            return Err(beyond());
        }
        self.shared = Some(plain);
        self.lent = from..len;
        self.start = offset;
        Ok(())
    }

    /// Where what is lent from `keep` on is. After a seek nothing before `offset` is at hand, and nobody
    /// holds on to it.
    fn kept(&self, keep: u64, offset: u64) -> Range<usize> {
        let end = self.start + self.lent.len() as u64;
        let mut from = self.lent.end;
        if keep >= self.start && end == offset {
            let consumed = usize::try_from(keep - self.start).unwrap_or(usize::MAX);
            from = self.lent.start.saturating_add(consumed).min(from);
        }
        from..self.lent.end
    }
}

/// Makes `memory` at least `size` bytes long; memory left behind is wiped.
fn fit(memory: &mut Secret, size: usize) {
    if memory.len() < size {
        *memory = Secret::zeroed(size.next_power_of_two());
    }
}

fn beyond() -> Error {
    Error::internal("beyond the end of the mail")
}

/// The chunk that holds the plaintext at `offset`.
fn chunk_of(verified: &Verified, offset: u64) -> usize {
    usize::try_from(offset / verified.chunk_size() as u64).unwrap_or(usize::MAX)
}

/// Where in its chunk the plaintext at `offset` is.
fn within(verified: &Verified, offset: u64) -> usize {
    // Less than the size of a chunk.
    (offset % verified.chunk_size() as u64) as usize
}
