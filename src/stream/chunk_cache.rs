//! The chunks of a large mail that were served last, for a client that fetches it piece by piece:
//! Dovecot goes through the piece before once more, counting lines, to find where the next begins.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::rc::Rc;

use super::verified::Verified;
use crate::crypto::Secret;
use crate::crypto::cipher::MARGIN;
use crate::error::Result;

/// How many are kept: a megabyte, which the largest pieces that clients ask for have, and its ends.
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
    /// What is kept of the mail whose header hashes to `mail`: nothing yet, if it is another one than
    /// the last time.
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

    /// Decrypts chunk `number` and keeps it; returns how much of it is plaintext as well.
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
        // All chunks but the last have one size, so that this is seldom.
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

    /// Memory for one more chunk: the oldest one's, if nobody looks at it any more.
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
