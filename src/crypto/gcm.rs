//! A GCM message in pieces: the tag of the whole, computed from tags of the pieces, and pieces opened alone.
//!
//! GCM's tag is a polynomial over the ciphertext's blocks, evaluated at a secret point H. The
//! polynomial of a whole is made of those of its pieces, so one pass of bare GHASH (twice as
//! fast as decrypting) yields both the proof that the whole is unchanged and, for each piece,
//! a tag with which a later reader opens that piece alone. docs/security.md has the proofs.
#![forbid(unsafe_code)]

use openssl::cipher_ctx::CipherCtx;
use zeroize::{Zeroize, Zeroizing};

use super::cipher::{Cipher, MAX_CALL, Mode, TAG_LEN, gcm_counter};
use super::gf128::{inverse, mul, power};
use crate::error::{Error, ErrorKind, Result};

/// A tag that must stay secret: two of them under one IV reveal H.
pub type SecretTag = Zeroizing<[u8; TAG_LEN]>;

/// GMAC of one piece after another, each under the same key and IV.
///
/// Its tags are compared in memory. They leave it only encrypted (in Dovecot's index cache).
pub struct Gmac {
    ctx: CipherCtx,
    iv: [u8; 12],
    /// Whether a piece has begun. Setting the IV costs as much as 2 KB of a piece.
    begun: bool,
}

/// A key for [`Gmac`]: a GCM cipher's key and IV.
#[derive(Clone, Copy)]
pub struct GmacKey<'a> {
    /// One of the GCM ciphers.
    pub cipher: Cipher,
    /// The cipher's key.
    pub key: &'a [u8],
    /// The cipher's 12-byte IV.
    pub iv: &'a [u8],
}

impl GmacKey<'_> {
    /// The IV, after checking key and cipher.
    fn checked_iv(&self) -> Result<[u8; 12]> {
        self.cipher.check(self.key, self.iv)?;
        if self.cipher.mode() != Mode::Gcm {
            return Err(Error::internal("GMAC needs a GCM cipher"));
        }
        let mut iv = [0; 12];
        iv.copy_from_slice(self.iv);
        Ok(iv)
    }
}

/// The bare block cipher.
struct BlockCipher(CipherCtx);

impl BlockCipher {
    fn new(with: GmacKey<'_>) -> Result<Self> {
        let mut ctx = CipherCtx::new()?;
        ctx.encrypt_init(Some(with.cipher.bare().fetch()?), Some(with.key), None)?;
        Ok(BlockCipher(ctx))
    }

    /// Encrypts one block: the first block of keystream in counter mode.
    fn encrypt(&mut self, block: [u8; 16]) -> Result<Zeroizing<u128>> {
        let mut out = Zeroizing::new([0; 32]);
        self.0.encrypt_init(None, None, Some(&block))?;
        self.0.cipher_update(&[0; 16], Some(&mut *out))?;
        Ok(Zeroizing::new(self::block(&*out)))
    }

    /// H, the key of GHASH.
    fn hash_key(&mut self) -> Result<Zeroizing<u128>> {
        self.encrypt([0; 16])
    }
}

/// The block that ends GHASH: both lengths in bits.
fn lengths(aad: u64, text: u64) -> u128 {
    (u128::from(aad * 8) << 64) | u128::from(text * 8)
}

impl Gmac {
    /// Ready for the first piece.
    pub fn new(with: GmacKey<'_>) -> Result<Self> {
        let iv = with.checked_iv()?;
        let mut ctx = CipherCtx::new()?;
        ctx.encrypt_init(Some(with.cipher.fetch()?), Some(with.key), None)?;
        Ok(Gmac {
            ctx,
            iv,
            begun: false,
        })
    }

    /// The tag of `data` as a piece of its own. Drops a piece that was begun before.
    pub fn of(&mut self, data: &[u8]) -> Result<SecretTag> {
        self.begun = false;
        self.update(data)?;
        self.take()
    }

    fn begin(&mut self) -> Result<()> {
        if !self.begun {
            self.ctx.encrypt_init(None, None, Some(&self.iv))?;
            self.begun = true;
        }
        Ok(())
    }

    /// Adds to the piece; at most 2 GiB at once.
    pub fn update(&mut self, data: &[u8]) -> Result<()> {
        self.begin()?;
        if !data.is_empty() {
            self.ctx.cipher_update(data, None)?;
        }
        Ok(())
    }

    /// Ends the piece, and is ready for the next.
    pub fn take(&mut self) -> Result<SecretTag> {
        let mut tag = SecretTag::default();
        self.begin()?;
        self.ctx.cipher_final(&mut [])?;
        self.ctx.tag(&mut *tag)?;
        self.begun = false;
        Ok(tag)
    }
}

/// The tag of a GCM message with `aad` (one block) and a ciphertext of `len` bytes. Its pieces of
/// `piece` bytes (a multiple of 16; the last may be shorter) have the [`Gmac`] tags `tags`.
pub fn whole_tag(
    with: GmacKey<'_>,
    aad: &[u8; 16],
    tags: &[[u8; TAG_LEN]],
    piece: usize,
    len: u64,
) -> Result<SecretTag> {
    if piece % 16 != 0 || (tags.len() as u64) != len.div_ceil(piece as u64) {
        return Err(Error::internal("the pieces don't make up the whole"));
    }
    let mut cipher = BlockCipher::new(with)?;
    let h = cipher.hash_key()?;
    let mask = cipher.encrypt(gcm_counter(&with.checked_iv()?, 0)?)?;

    // With P the polynomial of the blocks so far, `sum` = P * H. A piece's tag is
    // mask + (P_piece + length block) * H.
    let shape = |own: u64| Zeroizing::new((power(*h, own.div_ceil(16)), mul(lengths(own, 0), *h)));
    let full = shape(piece as u64);
    let mut sum = Zeroizing::new(mul(mul(block(aad), *h), *h));
    let mut left = len;
    for tag in tags {
        let own = left.min(piece as u64);
        left -= own;
        let last;
        let (shift, length) = if own == piece as u64 {
            *full
        } else {
            last = shape(own);
            *last
        };
        *sum = mul(*sum, shift) ^ block(tag) ^ *mask ^ length;
    }
    let tag = *sum ^ mul(lengths(16, len), *h) ^ *mask;
    Ok(Zeroizing::new(tag.to_be_bytes()))
}

fn block(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block[..bytes.len().min(16)].copy_from_slice(&bytes[..bytes.len().min(16)]);
    u128::from_be_bytes(block)
}

/// Opens a GCM message's pieces, in any order, each by its [`Gmac`] tag under the message's key and IV.
///
/// libcrypto decrypts and authenticates in one pass, much faster than in two, but only from the start
/// of a message. GCM takes an IV of any length and hashes it to the first counter block: so each piece
/// is a message of its own to libcrypto, with the IV that leads to the piece's counter.
pub struct Pieces {
    /// For IVs of one block.
    ctx: CipherCtx,
    cipher: BlockCipher,
    iv: [u8; 12],
    h: u128,
    /// An IV's block v gives the counter (v * H + 128 bits) * H, so that c takes c / H^2 + 128 bits / H:
    /// 1 / H^2 and the second summand.
    to_iv: (u128, u128),
    /// What masks a [`Gmac`] tag.
    mask: u128,
    /// For pieces of so many bytes: what sets a [`Gmac`]'s length block apart from a message's.
    lengths: (usize, u128),
}

impl Drop for Pieces {
    fn drop(&mut self) {
        for secret in [
            &mut self.h,
            &mut self.to_iv.0,
            &mut self.to_iv.1,
            &mut self.mask,
            &mut self.lengths.1,
        ] {
            secret.zeroize();
        }
    }
}

impl Pieces {
    /// For the message with this key and IV.
    pub fn new(with: GmacKey<'_>) -> Result<Self> {
        let iv = with.checked_iv()?;
        let mut ctx = CipherCtx::new()?;
        ctx.decrypt_init(Some(with.cipher.fetch()?), None, None)?;
        ctx.set_iv_length(16)?;
        ctx.decrypt_init(None, Some(with.key), None)?;
        let mut cipher = BlockCipher::new(with)?;
        let h = cipher.hash_key()?;
        if *h == 0 {
            return Err(Error::new(
                ErrorKind::Crypto,
                "a key that authenticates nothing",
            ));
        }
        let mask = cipher.encrypt(gcm_counter(&iv, 0)?)?;
        let inverse = Zeroizing::new(inverse(*h));
        Ok(Pieces {
            ctx,
            cipher,
            iv,
            h: *h,
            to_iv: (mul(*inverse, *inverse), mul(lengths(0, 16), *inverse)),
            mask: *mask,
            lengths: (0, 0),
        })
    }

    /// Decrypts the piece that begins at `offset`, a multiple of 16, into the start of `out`.
    /// Returns whether `tag` is its tag. If it isn't, or on an error, `out` is wiped.
    ///
    /// # Errors
    /// Corrupt beyond the end of GCM's counter.
    pub fn open(
        &mut self,
        offset: u64,
        data: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<bool> {
        let out = out
            .get_mut(..data.len())
            .filter(|_| offset % 16 == 0)
            .ok_or_else(|| Error::internal("a piece that doesn't fit"))?;
        let opened = self.try_open(offset, data, tag, out);
        if !matches!(opened, Ok(true)) {
            out.zeroize();
        }
        opened
    }

    fn try_open(
        &mut self,
        offset: u64,
        data: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<bool> {
        let counter = gcm_counter(&self.iv, offset / 16)?;
        if self.lengths.0 != data.len() {
            let len = data.len() as u64;
            self.lengths = (data.len(), mul(lengths(len, 0) ^ lengths(0, len), self.h));
        }
        let bare = Zeroizing::new(block(tag) ^ self.mask ^ self.lengths.1);
        let tag = Zeroizing::new((*bare ^ *self.cipher.encrypt(counter)?).to_be_bytes());
        let iv = mul(block(&counter), self.to_iv.0) ^ self.to_iv.1;
        let iv = Zeroizing::new(iv.to_be_bytes());
        self.ctx.decrypt_init(None, None, Some(&*iv))?;
        self.ctx.set_tag(&*tag)?;
        let mut done = 0;
        for part in data.chunks(MAX_CALL) {
            done += self.ctx.cipher_update(part, Some(&mut out[done..]))?;
        }
        Ok(self.ctx.cipher_final(&mut []).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pieces_give_the_tag_that_libcrypto_gives_for_the_whole() {
        for cipher in ["aes-128-gcm", "aes-192-gcm", "aes-256-gcm"] {
            let cipher = Cipher::from_name(cipher).unwrap();
            let key: Vec<u8> = (0..cipher.key_len() as u8).collect();
            let iv = [9; 12];
            let aad = [5; 16];
            for len in (0..260).chain([1000, 4096, 5000]) {
                let data: Vec<u8> = (0..len).map(|i| (i * 3) as u8).collect();
                let mut stream = cipher.encrypt(&key, &iv, &aad).unwrap();
                let mut sealed = Vec::new();
                stream.update(&data, &mut sealed).unwrap();
                stream.finish(&mut sealed).unwrap();
                let with = GmacKey {
                    cipher,
                    key: &key,
                    iv: &iv,
                };
                for piece in [16, 64, 256] {
                    let mut mac = Gmac::new(with).unwrap();
                    let tags: Vec<[u8; 16]> = sealed
                        .chunks(piece)
                        .map(|part| {
                            let (a, b) = part.split_at(part.len() / 3);
                            mac.update(a).unwrap();
                            mac.update(b).unwrap();
                            *mac.take().unwrap()
                        })
                        .collect();
                    let tag = whole_tag(with, &aad, &tags, piece, len as u64).unwrap();
                    assert_eq!(*tag, stream.tag().unwrap(), "{len} bytes by {piece}");
                }
            }
        }
    }

    /// A message of these bytes, its tags by pieces of 64 bytes, and what opens it.
    fn message(cipher: Cipher, data: &[u8]) -> (Vec<u8>, Vec<[u8; 16]>, Pieces) {
        let key: Vec<u8> = (1..=cipher.key_len() as u8).collect();
        let iv = [3; 12];
        let mut sealed = Vec::new();
        let mut stream = cipher.encrypt(&key, &iv, &[5; 16]).unwrap();
        stream.update(data, &mut sealed).unwrap();
        let with = GmacKey {
            cipher,
            key: &key,
            iv: &iv,
        };
        let mut mac = Gmac::new(with).unwrap();
        let tags = sealed.chunks(64).map(|piece| *mac.of(piece).unwrap());
        let tags = tags.collect();
        (sealed, tags, Pieces::new(with).unwrap())
    }

    #[test]
    fn each_piece_opens_alone_by_its_tag() {
        for cipher in ["aes-128-gcm", "aes-192-gcm", "aes-256-gcm"] {
            let cipher = Cipher::from_name(cipher).unwrap();
            for len in (1..200).chain([1024, 1031]) {
                let data: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                let (sealed, tags, mut pieces) = message(cipher, &data);
                let mut out = [0; 64];
                for (n, part) in sealed.chunks(64).enumerate().rev() {
                    let offset = 64 * n;
                    let opened = pieces.open(offset as u64, part, &tags[n], &mut out);
                    assert!(opened.unwrap(), "{len} bytes, piece {n}");
                    assert_eq!(out[..part.len()], data[offset..offset + part.len()]);
                }
            }
        }
    }

    #[test]
    fn nothing_is_left_of_a_piece_that_is_another() {
        let (sealed, tags, mut pieces) = message(Cipher::AES_256_GCM, &[7; 192]);
        let mut refused = |offset: u64, data: &[u8], tag: &[u8; 16]| {
            let mut out = [1; 80];
            assert!(!pieces.open(offset, data, tag, &mut out).unwrap());
            assert_eq!(out[..data.len()], vec![0; data.len()]);
            assert_eq!(out[data.len()..], vec![1; 80 - data.len()]);
        };
        for bit in 0..64 * 8 {
            let mut changed = sealed[64..128].to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(64, &changed, &tags[1]);
        }
        for bit in 0..128 {
            let mut changed = tags[1];
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(64, &sealed[64..128], &changed);
        }
        refused(64, &sealed[..64], &tags[1]);
        refused(64, &sealed[64..127], &tags[1]);
        let mut out = [1; 80];
        assert!(
            pieces
                .open(64, &sealed[64..128], &tags[1], &mut out)
                .unwrap()
        );
        // What isn't a piece at all, or would be behind the last counter.
        assert!(pieces.open(8, &sealed[8..72], &tags[1], &mut out).is_err());
        assert!(pieces.open(64, &sealed, &tags[1], &mut out).is_err());
        let mut out = [1; 80];
        assert!(
            pieces
                .open(u64::from(u32::MAX) * 16, &sealed[..64], &tags[0], &mut out)
                .is_err()
        );
        assert_eq!(out[..64], [0; 64]);
    }

    #[test]
    fn pieces_that_do_not_make_the_whole_are_refused() {
        let with = GmacKey {
            cipher: Cipher::AES_256_GCM,
            key: &[1; 32],
            iv: &[2; 12],
        };
        assert!(whole_tag(with, &[0; 16], &[[0; 16]], 64, 65).is_err());
        assert!(whole_tag(with, &[0; 16], &[[0; 16]; 3], 64, 128).is_err());
        assert!(whole_tag(with, &[0; 16], &[[0; 16]], 17, 17).is_err());
        assert!(
            Gmac::new(GmacKey {
                cipher: Cipher::AES_256_CTR,
                key: &[1; 32],
                iv: &[2; 16]
            })
            .is_err()
        );
    }
}
