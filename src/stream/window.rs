//! Serving a large mail: the part of its plaintext that is lent to a stream.
#![forbid(unsafe_code)]

use super::verified::Verified;
use crate::crypto::Plain;
use crate::crypto::cipher::MARGIN;
use crate::error::{Error, ErrorKind, Result};

/// The decrypted part of a large mail that a stream serves from.
#[derive(Default)]
pub struct Window {
    /// Wiped on drop and before it moves to larger memory. As long as it ever was: to grow a `Vec` is
    /// to write zeros first.
    plain: Plain,
    /// How many of its bytes are lent, from the first on.
    used: usize,
    /// Offset of `plain`'s first byte in the mail.
    start: u64,
    /// The first bytes of the chunk `gathering`, where it can't be had in one piece.
    gathered: Vec<u8>,
    gathering: usize,
}

impl Window {
    /// What is lent.
    pub fn plain(&self) -> &[u8] {
        &self.plain[..self.used]
    }

    /// What is lent, when nothing more will be.
    pub fn into_plain(self) -> Plain {
        self.plain
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
    /// the chunk is complete: then the plaintext from `keep` (at most `offset`) to its end is lent.
    ///
    /// # Errors
    /// Tampered or truncated: the file was changed since it was verified. What was lent before
    /// stays where it is: the stream's reader may still look at it.
    pub fn serve(
        &mut self,
        verified: &Verified,
        keep: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<bool> {
        let number = chunk_of(verified, offset);
        let (_, size) = verified.ciphertext_range(number);
        if self.gathered(number).is_empty() && (data.len() == size || data.is_empty()) {
            self.decrypt(verified, keep, offset, data)?;
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
        self.decrypt(verified, keep, offset, &chunk)?;
        // Its memory serves the next chunk too.
        self.gathered = chunk;
        self.gathered.clear();
        Ok(true)
    }

    fn decrypt(&mut self, verified: &Verified, keep: u64, offset: u64, data: &[u8]) -> Result<()> {
        let chunk = verified.check_chunk(chunk_of(verified, offset), data)?;
        let end = self.start + self.used as u64;
        let kept = if keep >= self.start && end == offset {
            let consumed = usize::try_from(keep - self.start).unwrap_or(self.used);
            let consumed = consumed.min(self.used);
            self.plain.copy_within(consumed..self.used, 0);
            self.used - consumed
        } else {
            // A seek: nothing before `offset` is at hand, and nobody holds on to it.
            0
        };
        self.start = offset - kept as u64;
        self.used = kept;
        grow(&mut self.plain, kept, data.len() + MARGIN);
        let end = kept + chunk.decrypt_into(&mut self.plain[kept..])?;
        // The chunk begins before `offset` where the stream was seeked into its middle.
        let before = offset % verified.chunk_size() as u64;
        let from = usize::try_from(before).ok().map(|n| kept + n);
        let from = from.filter(|n| *n <= end).ok_or_else(beyond)?;
        if from > kept {
            self.plain.copy_within(from..end, kept);
        }
        self.used = end - (from - kept);
        Ok(())
    }
}

fn beyond() -> Error {
    Error::new(
        ErrorKind::Crypto,
        "internal error: beyond the end of the mail",
    )
}

/// The chunk that holds the plaintext at `offset`.
fn chunk_of(verified: &Verified, offset: u64) -> usize {
    usize::try_from(offset / verified.chunk_size() as u64).unwrap_or(usize::MAX)
}

/// Makes room for `more` bytes beyond the first `kept`; memory left behind is wiped.
fn grow(plain: &mut Plain, kept: usize, more: usize) {
    if plain.len() - kept < more {
        let mut larger = vec![0; (kept + more).next_power_of_two()];
        larger[..kept].copy_from_slice(&plain[..kept]);
        plain.wipe();
        **plain = larger;
    }
}
