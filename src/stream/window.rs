//! Serving a large mail: the part of its plaintext that a stream looks at.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::rc::Rc;

use super::chunk_cache::ChunkCache;
use super::verified::Verified;
use crate::crypto::Secret;
use crate::crypto::cipher::MARGIN;
use crate::error::{Error, Result};

/// The part of a large mail's plaintext that is lent to a stream.
#[derive(Default)]
pub struct Window {
    /// Never shortened: growing it again would mean writing zeros first.
    own: Secret,
    /// For decrypting the next chunk while a part of `own` is still in use.
    spare: Secret,
    /// A chunk of the cache, lent in place of `own`.
    shared: Option<Rc<Secret>>,
    /// Which of their bytes are lent.
    lent: Range<usize>,
    /// Offset in the mail of the first byte that is lent.
    start: u64,
    /// The first bytes of chunk `gathering`, if the file gives it in several pieces.
    gathered: Vec<u8>,
    gathering: usize,
}

impl Window {
    /// The plaintext that is lent.
    pub fn plain(&self) -> &[u8] {
        let plain = self.shared.as_deref().unwrap_or(&self.own);
        &plain[self.lent.clone()]
    }

    /// Lends the plaintext from `offset` to the end of its chunk, if the chunk is in the cache and
    /// everything before `offset` has been consumed. Returns whether it did.
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

    /// Takes that ciphertext, or its first part (nothing if the file has ended). Returns whether the
    /// chunk is complete. If so, the plaintext from `keep` (at most `offset`) to the chunk's end is lent,
    /// and the chunk goes into `cache`, if there is one and everything before `offset` has been consumed.
    ///
    /// # Errors
    /// Tampered or truncated if the file was changed since it was verified. What was lent before stays
    /// in place: Dovecot may still look at it.
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
        // Its memory is used again for the next chunk.
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
        // What is lent must stay in place: this may still fail.
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
        // After a seek, `offset` may be in the middle of the chunk.
        let from = within(verified, offset);
        if from > len || len > plain.len() {
            return Err(beyond());
        }
        self.shared = Some(plain);
        self.lent = from..len;
        self.start = offset;
        Ok(())
    }

    /// Which of the lent bytes have to be kept, from `keep` on. None after a seek: nothing before `offset`
    /// is in use then.
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

/// Makes `memory` at least `size` bytes long. What was in it is lost.
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
