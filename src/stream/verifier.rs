//! Verifies a large mail without keeping it.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use zeroize::{Zeroize, Zeroizing};

use super::block::ContentKey;
use super::payload::{check_whole_blocks, tampered, truncated_tag};
use super::verified::{ChunkCipher, MacKey, Verified, proven_by_chunks};
use crate::crypto::cipher::{Cipher, Crypter, MARGIN, Mode, Position};
use crate::crypto::digest::Hmac;
use crate::crypto::gcm::{self, Gmac};
use crate::crypto::{Secret, SecretVec, ct_eq};
use crate::error::Result;
use crate::format::stream::{Header, Integrity};

/// What proves the payload.
enum Proof {
    /// The tag of the whole, computed from the chunks' tags.
    Gcm,
    /// Decryption into a buffer that is wiped.
    ChaCha { stream: Box<Crypter>, wiped: Secret },
    /// HMAC over the ciphertext.
    Hmac(Box<Hmac>),
    /// Nothing.
    None,
}

/// Phase one, for a payload that is too large to be kept.
pub(super) struct Verifier {
    proof: Proof,
    chunks: Chunks,
    mac_key: MacKey,
    /// The last bytes so far, as many as the tag has: the tag, if the file ends here.
    tail: Vec<u8>,
    tag_len: usize,
    len: u64,
}

/// Gives each chunk a tag, by which it is recognised later.
struct Chunks {
    mac: Gmac,
    size: usize,
    filled: usize,
    tags: SecretVec<[u8; 16]>,
    /// Chaining modes: the block that each chunk but the first is chained to.
    previous: SecretVec<[u8; 16]>,
    /// Chaining modes: the last two blocks so far.
    recent: Secret,
    /// Block size of a chaining mode, else 0.
    block: usize,
    /// For OFB: it chains keystream, which only decryption shows.
    keystream: Option<Box<Crypter>>,
}

impl Verifier {
    pub(super) fn new(header: &Header, key: &ContentKey, chunk: usize) -> Result<Self> {
        let parts = key.parts(header)?;
        let proof = match header.integrity {
            Integrity::None => Proof::None,
            Integrity::Hmac => Proof::Hmac(Box::new(Hmac::new(header.digest, parts.mac)?)),
            Integrity::Aead if proven_by_chunks(header) => Proof::Gcm,
            Integrity::Aead => Proof::ChaCha {
                stream: Box::new(header.cipher.decrypt(parts.key, parts.iv, parts.mac)?),
                wiped: Secret::zeroed(chunk + MARGIN),
            },
        };
        let mac_key = if matches!(proof, Proof::Gcm) {
            MacKey::of_mail(header.cipher, parts.key, parts.iv)
        } else {
            MacKey::random()?
        };
        let keystream = match header.cipher.mode() {
            Mode::Ofb => Some(Box::new(header.cipher.decrypt(parts.key, parts.iv, &[])?)),
            _ => None,
        };
        Ok(Verifier {
            proof,
            chunks: Chunks {
                mac: Gmac::new(mac_key.as_ref())?,
                size: chunk,
                filled: 0,
                tags: SecretVec::default(),
                previous: SecretVec::default(),
                recent: Secret::with_capacity(4 * header.cipher.chain_len()),
                block: header.cipher.chain_len(),
                keystream,
            },
            mac_key,
            tail: Vec::new(),
            tag_len: header.tag_len(),
            len: 0,
        })
    }

    /// Takes the payload's next bytes. The last ones may be the tag.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<()> {
        let sure = (self.tail.len() + data.len()).saturating_sub(self.tag_len);
        let from_tail = sure.min(self.tail.len());
        let tail: Vec<u8> = self.tail.drain(..from_tail).collect();
        self.absorb(&tail)?;
        let (now, later) = data.split_at(sure - from_tail);
        // In pieces that stay in the CPU's cache between their uses.
        for part in now.chunks(self.chunks.size) {
            self.absorb(part)?;
        }
        self.tail.extend_from_slice(later);
        Ok(())
    }

    fn absorb(&mut self, data: &[u8]) -> Result<()> {
        self.len += data.len() as u64;
        match &mut self.proof {
            Proof::Gcm | Proof::None => {}
            Proof::Hmac(hmac) => hmac.update(data)?,
            Proof::ChaCha { stream, wiped } => {
                let len = stream.update_into(data, wiped)?;
                wiped[..len].zeroize();
            }
        }
        self.chunks.absorb(data)
    }

    /// Verifies the whole, now that the payload has ended.
    pub(super) fn finish(
        mut self,
        header: &Header,
        key: &ContentKey,
        payload_at: u64,
    ) -> Result<Verified> {
        self.chunks.end()?;
        if self.tail.len() != self.tag_len {
            return Err(truncated_tag());
        }
        let parts = key.parts(header)?;
        match &mut self.proof {
            Proof::None => {}
            Proof::Gcm => {
                let aad = parts.mac.first_chunk().ok_or_else(tampered)?;
                let Chunks { tags, size, .. } = &self.chunks;
                let tag = gcm::whole_tag(self.mac_key.as_ref(), aad, tags, *size, self.len)?;
                if !ct_eq(&*tag, &self.tail) {
                    return Err(tampered());
                }
            }
            Proof::ChaCha { stream, wiped } => {
                stream.set_tag(&self.tail)?;
                stream.finish_into(wiped)?;
            }
            Proof::Hmac(_) => {}
        }
        if let Proof::Hmac(hmac) = self.proof {
            if !ct_eq(&hmac.finish()?, &self.tail) {
                return Err(tampered());
            }
        }
        check_whole_blocks(header, self.len)?;
        let plain_size = self
            .chunks
            .plain_size(header.cipher, parts.key, parts.iv, self.len)?;
        self.chunks.tags.shrink();
        self.chunks.previous.shrink();
        let cipher = if proven_by_chunks(header) {
            ChunkCipher::gcm(&self.mac_key)?
        } else {
            let cipher = header.cipher.seekable(parts.key, parts.iv)?;
            ChunkCipher::Other(self.chunks.mac, cipher)
        };
        Ok(Verified {
            cipher: RefCell::new(cipher),
            chain_len: self.chunks.block,
            chunk: self.chunks.size,
            sealed_chunk: self.chunks.size,
            payload_at,
            payload_len: self.len,
            plain_size,
            tags: self.chunks.tags,
            previous: self.chunks.previous,
        })
    }
}

impl Chunks {
    fn absorb(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            // A chunk ends with the next one's first byte: `previous` has no entry for a chunk that isn't there.
            if self.filled == self.size {
                self.end()?;
                if self.block > 0 {
                    let mut block = Zeroizing::new([0; 16]);
                    let recent = &self.recent[self.recent.len().saturating_sub(self.block)..];
                    block[..recent.len()].copy_from_slice(recent);
                    self.previous.push(*block);
                }
            }
            let (now, later) = data.split_at(data.len().min(self.size - self.filled));
            self.mac.update(now)?;
            self.filled += now.len();
            self.remember(now)?;
            data = later;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if self.filled > 0 {
            self.tags.push(*self.mac.take()?);
            self.filled = 0;
        }
        Ok(())
    }

    fn remember(&mut self, data: &[u8]) -> Result<()> {
        let Some(stream) = &mut self.keystream else {
            self.keep_end(data);
            return Ok(());
        };
        let mut chain = Secret::zeroed(data.len() + MARGIN);
        let len = stream.update_into(data, &mut chain)?;
        chain.truncate(len);
        chain.iter_mut().zip(data).for_each(|(p, c)| *p ^= c);
        self.keep_end(&chain);
        Ok(())
    }

    fn keep_end(&mut self, chain: &[u8]) {
        let keep = 2 * self.block;
        let end = &chain[chain.len().saturating_sub(keep)..];
        self.recent.extend_from_slice(end);
        self.recent
            .drop_front(self.recent.len().saturating_sub(keep));
    }

    /// The plaintext's size: CBC tells it only by the padding in the last block.
    fn plain_size(&self, cipher: Cipher, key: &[u8], iv: &[u8], len: u64) -> Result<u64> {
        if cipher.mode() != Mode::Cbc {
            return Ok(len);
        }
        let (previous, last) = self.recent.split_at(self.recent.len() - self.block);
        let at = Position {
            // Only whether it is the start matters: chaining goes on from `previous`.
            offset: if previous.is_empty() { 0 } else { 64 },
            previous,
            last: true,
        };
        let end = cipher.decrypt_at(key, iv, at, last)?;
        Ok(len - (self.block - end.len()) as u64)
    }
}
