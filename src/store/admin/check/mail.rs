//! One mail: its state by its first bytes and, where that is asked for, all of it verified.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use crate::format::stream::{MAX_HEADER, header_len};
use crate::format::trees::is_trees;
use crate::key::PrivateKey;
use crate::store::state::{Current, Found, look};
use crate::stream::{Body, Feed, Opener, SecretCache, Sizes, begins_as_text, is_encrypted};

/// So many bytes tell what a mail is that isn't encrypted.
const PLAIN_LOOK: usize = 4096;
/// The header and the first chunk of a large mail, which is decrypted once more to look inside.
const KEPT: usize = MAX_HEADER + 256 * 1024;

/// A mail that is looked at.
pub(super) struct Mail {
    pub uid: u32,
    /// Its size on disk.
    pub bytes: u64,
    pub sizes: Sizes,
    /// It was encrypted when it was read before.
    pub was_encrypted: bool,
    /// TREES has written it.
    pub trees: bool,
    start: Vec<u8>,
    pub found: Option<Found>,
    verify: Option<Box<Opener>>,
}

impl Mail {
    /// The mail `uid`, of which nothing was read yet.
    pub(super) fn new(uid: u32, bytes: u64, sizes: Sizes, was_encrypted: bool) -> Self {
        Mail {
            uid,
            bytes,
            sizes,
            was_encrypted,
            trees: false,
            start: Vec::new(),
            found: None,
            verify: None,
        }
    }

    /// Takes the next bytes, none at its end. Returns whether its state is known by now.
    pub(super) fn look(&mut self, data: &[u8], current: &Current) -> bool {
        if self.found.is_none() {
            self.start.extend_from_slice(data);
            if data.is_empty() || self.has_enough() {
                self.trees = is_trees(&self.start);
                self.found = Some(self.look_now(current));
            }
        }
        self.found.is_some()
    }

    fn has_enough(&self) -> bool {
        if !is_encrypted(&self.start) {
            // Of fewer bytes than the magic nothing can be told yet.
            return begins_as_text(&self.start) || self.start.len() >= PLAIN_LOOK;
        }
        match header_len(&self.start) {
            Ok(Some(len)) => self.start.len() >= len,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn look_now(&self, current: &Current) -> Found {
        let found = look(&self.start, self.sizes, current);
        if self.was_encrypted && !self.trees && found.error.is_none() && !found.is_encrypted() {
            let text = "it was encrypted when it was read before, and now it is not";
            return Found::unreadable(Error::new(ErrorKind::Tampered, text));
        }
        found
    }

    /// Begins to verify all of it with `key`, from what was read so far on. What is wrong with the mail is noted.
    pub(super) fn begin_verifying(&mut self, key: &PrivateKey, secrets: &mut SecretCache) {
        let mut opener = Box::new(Opener::default());
        let begun = opener.feed(&self.start).and_then(|feed| match feed {
            Feed::NeedKey(_) => {
                opener.unlock(key, secrets)?;
                opener.feed(&[]).map(|_| ())
            }
            Feed::More => Err(Error::truncated("the file ends within its header")),
        });
        match begun {
            Ok(()) => self.verify = Some(opener),
            Err(e) => self.failed(e),
        }
    }

    /// Takes the next bytes that are verified. Returns whether more are wanted.
    pub(super) fn verify(&mut self, data: &[u8]) -> bool {
        let Some(opener) = &mut self.verify else {
            return false;
        };
        let room = KEPT.saturating_sub(self.start.len());
        self.start.extend_from_slice(&data[..room.min(data.len())]);
        match opener.feed(data) {
            Ok(_) => true,
            Err(e) => {
                self.verify = None;
                self.failed(e);
                false
            }
        }
    }

    /// The mail has ended: its tag is checked, and what is inside is looked at.
    pub(super) fn finish(&mut self) {
        let Some(opener) = self.verify.take() else {
            return;
        };
        match opener.finish().and_then(|body| self.inside(body)) {
            Ok(()) => {}
            Err(e) => self.failed(e),
        }
    }

    fn inside(&mut self, body: Body) -> Result<()> {
        let Some(found) = &mut self.found else {
            return Ok(());
        };
        match body {
            Body::Small(plain) => found.inside(&plain),
            Body::Large(verified) => {
                let (from, size) = verified.ciphertext_range(0);
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let first = self.start.get(from..).and_then(|rest| rest.get(..size));
                if let Some(first) = first {
                    found.inside(&verified.decrypt_chunk(0, first)?);
                }
            }
        }
        Ok(())
    }

    /// Notes why it can't be read.
    pub(super) fn failed(&mut self, error: Error) {
        self.trees = false;
        match &mut self.found {
            Some(found) => found.failed(error),
            None => self.found = Some(Found::unreadable(error)),
        }
    }
}
