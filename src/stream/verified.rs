//! Reading a large mail, phase two: any chunk, in any order, as it was when it was checked.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use zeroize::Zeroizing;

use super::open::tampered;
use crate::crypto::cipher::{Cipher, MARGIN, Position, Seekable};
use crate::crypto::gcm::{Gmac, GmacKey};
use crate::crypto::{self, Secret, ct_eq};
use crate::error::{Error, Result};

/// The key of the chunks' tags.
pub(super) struct MacKey {
    cipher: Cipher,
    key: Secret,
    iv: [u8; 12],
}

impl MacKey {
    pub(super) fn of_mail(cipher: Cipher, key: &[u8], iv: &[u8]) -> Self {
        let mut own = [0; 12];
        own[..iv.len().min(12)].copy_from_slice(&iv[..iv.len().min(12)]);
        MacKey {
            cipher,
            key: Zeroizing::new(key.to_vec()),
            iv: own,
        }
    }

    /// A key for one opening.
    pub(super) fn random() -> Result<Self> {
        let cipher = Cipher::AES_256_GCM;
        let mut key = Zeroizing::new(vec![0; cipher.key_len()]);
        crypto::random(&mut key)?;
        Ok(Self::of_mail(cipher, &key, &[0; 12]))
    }

    pub(super) fn as_ref(&self) -> GmacKey<'_> {
        GmacKey {
            cipher: self.cipher,
            key: &self.key,
            iv: &self.iv,
        }
    }
}

/// About what libcrypto keeps for a mail's two contexts.
const CONTEXTS: usize = 2048;

/// A large mail whose whole was checked: serves plaintext of chunks that are still the same.
///
/// The file may have changed since, or be another: a chunk that isn't what was checked is never
/// served. Cheap to keep (see [`Self::mem_size`]); holds the mail's content key.
pub struct Verified {
    pub(super) payload: RefCell<Seekable>,
    /// Under the chunks' key. Kept, as `payload` is: setting both up takes as long as a tenth of
    /// a chunk.
    pub(super) mac: RefCell<Gmac>,
    pub(super) chunk: usize,
    pub(super) payload_at: u64,
    pub(super) payload_len: u64,
    pub(super) plain_size: u64,
    pub(super) tags: Vec<[u8; 16]>,
    pub(super) previous: Vec<[u8; 16]>,
}

impl Verified {
    /// Size of the plaintext in bytes.
    pub fn plain_size(&self) -> u64 {
        self.plain_size
    }

    /// Plaintext bytes per chunk, but for the last. Plaintext offset `o` is in chunk
    /// `o / chunk_size()`, at `o % chunk_size()`.
    pub fn chunk_size(&self) -> usize {
        self.chunk
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.tags.len()
    }

    /// Where a chunk's ciphertext is: its offset in the file and its length in bytes. The
    /// length is 0 beyond the last chunk.
    pub fn ciphertext_range(&self, chunk: usize) -> (u64, usize) {
        let start = (chunk as u64).saturating_mul(self.chunk as u64);
        let len = self
            .payload_len
            .saturating_sub(start)
            .min(self.chunk as u64);
        // The minimum with a usize fits into one.
        (self.payload_at.saturating_add(start), len as usize)
    }

    /// Checks a chunk's ciphertext, exactly [`Self::ciphertext_range`], and appends its
    /// plaintext to `out`. Reserve room for it there: a `Vec` that grows leaves copies behind.
    ///
    /// # Errors
    /// As [`Self::check_chunk`]. Nothing is appended then.
    pub fn decrypt_chunk(&self, chunk: usize, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.check_chunk(chunk, ciphertext)?.decrypt(out)
    }

    /// The first half of [`Self::decrypt_chunk`]: after it nothing is wrong with the chunk.
    ///
    /// # Errors
    /// Tampered if it isn't the ciphertext that was checked, truncated if it is shorter.
    pub fn check_chunk<'a>(&'a self, chunk: usize, ciphertext: &'a [u8]) -> Result<Checked<'a>> {
        let (_, len) = self.ciphertext_range(chunk);
        if ciphertext.len() < len {
            return Err(Error::truncated(
                "the file became shorter while it was read",
            ));
        }
        let expected = self
            .tags
            .get(chunk)
            .filter(|_| ciphertext.len() == len)
            .ok_or_else(|| Error::corrupt("that isn't a chunk of this mail"))?;
        let tag = self.mac.borrow_mut().of(ciphertext)?;
        if !ct_eq(&tag, expected) {
            return Err(tampered().context("the file changed while it was read"));
        }
        Ok(Checked {
            mail: self,
            chunk,
            ciphertext,
        })
    }

    /// Bytes of memory that this holds.
    pub fn mem_size(&self) -> usize {
        size_of::<Self>() + 16 * (self.tags.capacity() + self.previous.capacity()) + CONTEXTS
    }
}

/// A chunk that is as it was when its mail was checked.
pub struct Checked<'a> {
    mail: &'a Verified,
    chunk: usize,
    ciphertext: &'a [u8],
}

impl Checked<'_> {
    /// Appends its plaintext to `out`, as [`Verified::decrypt_chunk`].
    ///
    /// # Errors
    /// If libcrypto fails.
    pub fn decrypt(self, out: &mut Vec<u8>) -> Result<()> {
        let Checked {
            mail,
            chunk,
            ciphertext,
        } = self;
        let mut payload = mail.payload.borrow_mut();
        let previous = match chunk.checked_sub(1).and_then(|i| mail.previous.get(i)) {
            Some(block) => &block[..payload.cipher().chain_len()],
            None => &[],
        };
        let at = Position {
            offset: chunk as u64 * mail.chunk as u64,
            previous,
            last: chunk + 1 == mail.tags.len(),
        };
        out.reserve(ciphertext.len() + MARGIN);
        payload.decrypt(at, ciphertext, out)
    }
}
