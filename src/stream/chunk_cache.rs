//! The last chunks served of a large mail, for clients that fetch it piece by piece: to find where
//! the next piece begins, Dovecot reads the one before it again and counts lines.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::rc::Rc;

use super::verified::Verified;
use crate::crypto::Secret;
use crate::crypto::cipher::MARGIN;
use crate::error::Result;

/// How many are kept: a megabyte, the largest piece that clients ask for, and its ends.
const CHUNKS: usize = 10;

/// Decrypted chunks of one mail. Wiped when they make room for others.
#[derive(Default)]
pub struct ChunkCache {
    /// The hash of the mail's header.
    mail: [u8; 32],
    /// By number; the oldest first.
    chunks: VecDeque<(usize, Rc<Secret>)>,
}

impl ChunkCache {
    /// The cache for the mail whose header hashes to `mail`. Emptied if the last one was another's.
    pub fn of(&mut self, mail: &[u8; 32]) -> &mut Self {
        if self.mail != *mail {
            self.clear();
            self.mail = *mail;
        }
        self
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }

    /// The plaintext of chunk `number`.
    pub(super) fn get(&self, number: usize) -> Option<&Rc<Secret>> {
        let found = self.chunks.iter().find(|(n, _)| *n == number);
        found.map(|(_, plain)| plain)
    }

    /// Decrypts chunk `number` and keeps it. Also returns how much of it is plaintext.
    ///
    /// # Errors
    /// As [`Verified::open_chunk`].
    pub(super) fn open(
        &mut self,
        verified: &Verified,
        number: usize,
        ciphertext: &[u8],
    ) -> Result<(Rc<Secret>, usize)> {
        let mut plain = self.room();
        // Rare: all chunks but the last have one size.
        if plain.len() != ciphertext.len() + MARGIN {
            plain = Secret::zeroed(ciphertext.len() + MARGIN);
        }
        let len = verified.open_chunk(number, ciphertext, &mut plain)?;
        let plain = Rc::new(plain);
        // CBC's last chunk ends before its padding.
        if len == ciphertext.len() {
            self.chunks.retain(|(n, _)| *n != number);
            self.chunks.push_back((number, Rc::clone(&plain)));
        }
        Ok((plain, len))
    }

    /// Memory for one more chunk: the oldest one's, unless it is still in use.
    fn room(&mut self) -> Secret {
        if self.chunks.len() < CHUNKS {
            return Secret::default();
        }
        let oldest = self.chunks.pop_front();
        oldest
            .and_then(|(_, plain)| Rc::into_inner(plain))
            .unwrap_or_default()
    }
}
