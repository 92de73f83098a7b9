//! The chunks of a large mail that were served last, for a client that fetches it piece by piece:
//! Dovecot goes through the piece before once more, counting lines, to find where the next begins.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::rc::Rc;

use crate::crypto::Plain;

/// How many are kept: a megabyte, which the largest pieces that clients ask for have, and its ends.
const CHUNKS: usize = 10;

/// Decrypted chunks of one mail. Wiped when they make room for others.
#[derive(Default)]
pub struct Recent {
    /// The hash of the mail's header.
    mail: [u8; 32],
    /// By number; the oldest first.
    chunks: VecDeque<(usize, Rc<Plain>)>,
}

impl Recent {
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
    pub(super) fn get(&self, number: usize) -> Option<&Rc<Plain>> {
        let found = self.chunks.iter().find(|(n, _)| *n == number);
        found.map(|(_, plain)| plain)
    }

    /// Memory for one more chunk: the oldest one's, if nobody looks at it any more.
    pub(super) fn room(&mut self) -> Plain {
        if self.chunks.len() < CHUNKS {
            return Plain::default();
        }
        let oldest = self.chunks.pop_front();
        oldest
            .and_then(|(_, plain)| Rc::into_inner(plain))
            .unwrap_or_default()
    }

    /// Keeps the plaintext of chunk `number`.
    pub(super) fn put(&mut self, number: usize, plain: Rc<Plain>) {
        self.chunks.retain(|(n, _)| *n != number);
        self.chunks.push_back((number, plain));
    }
}
