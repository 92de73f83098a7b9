//! Reading a large mail, phase two: any chunk, in any order, as it was when it was verified.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use zeroize::Zeroizing;

use super::block::ContentKey;
use super::payload::tampered;
use super::trees;
use crate::crypto::cipher::{Cipher, MARGIN, Mode, Position, Seekable};
use crate::crypto::gcm::{Gmac, GmacKey, Pieces};
use crate::crypto::{self, Secret, SecretVec, ct_eq};
use crate::error::{Error, Result};
use crate::format::stream::{Header, Integrity};
use crate::key::trees::TreesKey;

/// The key of the chunks' tags.
pub(super) struct MacKey {
    cipher: Cipher,
    key: Secret,
    iv: Zeroizing<[u8; 12]>,
}

impl MacKey {
    pub(super) fn of_mail(cipher: Cipher, key: &[u8], iv: &[u8]) -> Self {
        let mut own = Zeroizing::new([0; 12]);
        own[..iv.len().min(12)].copy_from_slice(&iv[..iv.len().min(12)]);
        MacKey {
            cipher,
            key: Secret::new(key.to_vec()),
            iv: own,
        }
    }

    /// A random key, for one opening.
    pub(super) fn random() -> Result<Self> {
        let cipher = Cipher::AES_256_GCM;
        let mut key = Secret::zeroed(cipher.key_len());
        crypto::random(&mut key)?;
        Ok(Self::of_mail(cipher, &key, &[0; 12]))
    }

    pub(super) fn as_ref(&self) -> GmacKey<'_> {
        GmacKey {
            cipher: self.cipher,
            key: &self.key,
            iv: &*self.iv,
        }
    }
}

/// Size of a record without its tags.
const RECORD_START: usize = 12;

/// Whether the chunks' GCM tags, under the mail's own key, also prove the whole. Forging one takes the
/// mail's key, and who has that needs no forged chunk.
pub(super) fn proven_by_chunks(header: &Header) -> bool {
    header.integrity == Integrity::Aead && header.cipher.mode() == Mode::Gcm
}

/// A large mail that was verified as a whole: serves the plaintext of chunks that haven't changed.
///
/// The file may have changed since, or be another: a chunk that isn't what was verified is never
/// served. Cheap to keep: 16 to 32 bytes a chunk. Holds the mail's content key.
pub struct Verified {
    pub(super) cipher: RefCell<ChunkCipher>,
    /// Bytes of a block in `previous`.
    pub(super) chain_len: usize,
    /// Bytes of plaintext in each chunk but the last.
    pub(super) chunk: usize,
    /// The same of ciphertext.
    pub(super) sealed_chunk: usize,
    pub(super) payload_at: u64,
    pub(super) payload_len: u64,
    pub(super) plain_size: u64,
    pub(super) tags: SecretVec<[u8; 16]>,
    pub(super) previous: SecretVec<[u8; 16]>,
}

/// How a chunk is recognised and decrypted. Kept: setting it up takes as long as a tenth of a chunk.
pub(super) enum ChunkCipher {
    /// GCM: by tags under the mail's own key, in one pass.
    Gcm(Box<Pieces>),
    /// By tags under a key that lives as long as this, then decrypted without authentication.
    Other(Gmac, Seekable),
    /// TREES: by their hashes.
    Trees(TreesKey),
}

impl ChunkCipher {
    /// For a mail under GCM.
    pub(super) fn gcm(mac_key: &MacKey) -> Result<Self> {
        Ok(ChunkCipher::Gcm(Box::new(Pieces::new(mac_key.as_ref())?)))
    }

    /// Decrypts a chunk into `out`, as [`Verified::open_chunk`].
    fn open(
        &mut self,
        at: Position<'_>,
        ciphertext: &[u8],
        tag: &[u8; 16],
        out: &mut [u8],
    ) -> Result<usize> {
        match self {
            ChunkCipher::Gcm(pieces) => {
                if pieces.open(at.offset, ciphertext, tag, out)? {
                    return Ok(ciphertext.len());
                }
            }
            ChunkCipher::Other(mac, payload) => {
                if ct_eq(&*mac.of(ciphertext)?, tag) {
                    return payload.decrypt(at, ciphertext, out);
                }
            }
            ChunkCipher::Trees(key) => {
                if let Some(len) = trees::open_group(key, ciphertext, tag, out)? {
                    return Ok(len);
                }
            }
        }
        Err(tampered().context("the file changed while it was read"))
    }
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
        let start = (chunk as u64).saturating_mul(self.sealed_chunk as u64);
        let len = self
            .payload_len
            .saturating_sub(start)
            .min(self.sealed_chunk as u64);
        // The minimum with a usize fits into one.
        (self.payload_at.saturating_add(start), len as usize)
    }

    /// Checks a chunk's ciphertext, exactly [`Self::ciphertext_range`], and decrypts it.
    ///
    /// # Errors
    /// As [`Self::open_chunk`].
    pub fn decrypt_chunk(&self, chunk: usize, ciphertext: &[u8]) -> Result<Secret> {
        let mut out = Secret::zeroed(ciphertext.len() + MARGIN);
        let len = self.open_chunk(chunk, ciphertext, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    /// Checks a chunk's ciphertext, exactly [`Self::ciphertext_range`], and decrypts it into the start of
    /// `out`, which must be [`MARGIN`] bytes longer. Returns the plaintext's size.
    ///
    /// # Errors
    /// Tampered if it isn't the ciphertext that was verified, truncated if it is shorter. There is no
    /// plaintext in `out` then.
    pub fn open_chunk(&self, chunk: usize, ciphertext: &[u8], out: &mut [u8]) -> Result<usize> {
        let (_, len) = self.ciphertext_range(chunk);
        if ciphertext.len() < len {
            return Err(Error::truncated(
                "the file became shorter while it was read",
            ));
        }
        let tag = self
            .tags
            .get(chunk)
            .filter(|_| ciphertext.len() == len)
            .ok_or_else(|| Error::corrupt("that isn't a chunk of this mail"))?;
        let previous = chunk.checked_sub(1).and_then(|i| self.previous.get(i));
        let at = Position {
            offset: chunk as u64 * self.chunk as u64,
            previous: previous.map_or(&[], |block| &block[..self.chain_len]),
            last: chunk + 1 == self.tags.len(),
        };
        self.cipher.borrow_mut().open(at, ciphertext, tag, out)
    }

    /// Chunk size, payload size and tags, for [`super::Opener::recall`]. Only for mail under GCM: other tags
    /// are under a key that lives as long as this.
    ///
    /// Must be kept encrypted: two tags with their chunks reveal the key of all tags.
    pub fn to_record(&self) -> Option<Secret> {
        if !matches!(*self.cipher.borrow(), ChunkCipher::Gcm(_)) {
            return None;
        }
        let mut record = Secret::with_capacity(RECORD_START + 16 * self.tags.len());
        record.extend_from_slice(&u32::try_from(self.chunk).ok()?.to_be_bytes());
        record.extend_from_slice(&self.payload_len.to_be_bytes());
        record.extend_from_slice(self.tags.as_flattened());
        Some(record)
    }

    /// Reads what [`Self::to_record`] wrote about the mail with this header and content key.
    ///
    /// # Errors
    /// Corrupt if no mail with this header has such a record.
    pub(super) fn from_record(
        header: &Header,
        key: &ContentKey,
        payload_at: u64,
        record: &[u8],
    ) -> Result<Self> {
        let wrong = || Error::corrupt("that isn't a record of this mail");
        let (start, tags) = record.split_at_checked(RECORD_START).ok_or_else(wrong)?;
        let (chunk, len) = start.split_first_chunk().ok_or_else(wrong)?;
        let chunk = u32::from_be_bytes(*chunk) as usize;
        let len = u64::from_be_bytes(len.try_into().map_err(|_| wrong())?);
        let tags: SecretVec<[u8; 16]> = match tags.len() % 16 {
            0 => tags
                .chunks(16)
                .filter_map(|tag| tag.try_into().ok())
                .collect(),
            _ => return Err(wrong()),
        };
        let fits = proven_by_chunks(header)
            && chunk > 0
            && chunk % 64 == 0
            && len <= header.cipher.max_len()
            && tags.len() as u64 == len.div_ceil(chunk as u64);
        if !fits {
            return Err(wrong());
        }
        let parts = key.parts(header)?;
        let mac_key = MacKey::of_mail(header.cipher, parts.key, parts.iv);
        Ok(Verified {
            cipher: RefCell::new(ChunkCipher::gcm(&mac_key)?),
            chain_len: 0,
            chunk,
            sealed_chunk: chunk,
            payload_at,
            payload_len: len,
            plain_size: len,
            tags,
            previous: SecretVec::default(),
        })
    }
}
