//! Galois message authentication without decryption: the tag of a GCM message from tags of its
//! pieces.
//!
//! GCM's tag is a polynomial over the ciphertext's blocks, evaluated at a secret point H. The
//! polynomial of a whole is made of those of its pieces, so one pass of bare GHASH (twice as
//! fast as decrypting) yields both the proof that the whole is unchanged and, for each piece,
//! a value by which a later reader recognises that piece alone.
#![forbid(unsafe_code)]

use openssl::cipher_ctx::CipherCtx;

use super::cipher::{Cipher, Mode, Position, TAG_LEN};
use crate::error::{Error, ErrorKind, Result};

/// GMAC of one piece after another, each under the same key and IV.
///
/// Tags under one IV are only good as long as nobody sees them: with two of them H can be
/// solved for. They stay in this process's memory and are compared, never written.
pub struct Gmac {
    ctx: CipherCtx,
    iv: [u8; 12],
    /// Whether a piece has begun: setting the IV costs as much as 2 KB of a piece.
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

impl Gmac {
    /// Ready for the first piece.
    pub fn new(with: GmacKey<'_>) -> Result<Self> {
        with.cipher.check(with.key, with.iv)?;
        if with.cipher.mode() != Mode::Gcm {
            return Err(Error::new(ErrorKind::Crypto, "GMAC needs a GCM cipher"));
        }
        let mut iv = [0; 12];
        iv.copy_from_slice(with.iv);
        let mut ctx = CipherCtx::new()?;
        ctx.encrypt_init(Some(with.cipher.fetch()?), Some(with.key), None)?;
        Ok(Gmac {
            ctx,
            iv,
            begun: false,
        })
    }

    /// The tag of `data` as a piece of its own, whatever was begun before.
    pub fn of(&mut self, data: &[u8]) -> Result<[u8; TAG_LEN]> {
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
    pub fn take(&mut self) -> Result<[u8; TAG_LEN]> {
        let mut tag = [0; TAG_LEN];
        self.begin()?;
        self.ctx.cipher_final(&mut [])?;
        self.ctx.tag(&mut tag)?;
        self.begun = false;
        Ok(tag)
    }
}

/// The tag of the GCM message with `aad` (one block) and a ciphertext of `len` bytes whose pieces
/// of `piece` bytes (a multiple of 16; the last may be shorter) have the [`Gmac`] tags `tags`.
pub fn whole_tag(
    with: GmacKey<'_>,
    aad: &[u8; 16],
    tags: &[[u8; TAG_LEN]],
    piece: usize,
    len: u64,
) -> Result<[u8; TAG_LEN]> {
    if piece % 16 != 0 || (tags.len() as u64) != len.div_ceil(piece as u64) {
        return Err(Error::new(ErrorKind::Crypto, "pieces don't make the whole"));
    }
    // H = E(0): the keystream's block at a counter of zero.
    let bare = Cipher::from_name(&with.cipher.name().replace("gcm", "ctr"))?;
    let at = Position {
        offset: 0,
        previous: &[],
        last: true,
    };
    let mut h = zeroize::Zeroizing::new(Vec::with_capacity(32));
    bare.decrypt_at(with.key, &[0; 16], at, &[0; 16], &mut h)?;
    let h = block(&h);
    // The tag over nothing is the mask that lies over every tag.
    let mask = block(&Gmac::new(with)?.take()?);

    // With P the polynomial of the blocks so far, `sum` = P * H. A piece's tag is
    // mask + (P_piece + length block) * H.
    let lengths = |aad: u64, text: u64| (u128::from(aad * 8) << 64) | u128::from(text * 8);
    let full = mul(lengths(piece as u64, 0), h);
    let shift = power(h, piece as u64 / 16);
    let mut sum = mul(mul(block(aad), h), h);
    let mut left = len;
    for tag in tags {
        let own = left.min(piece as u64);
        left -= own;
        let (shift, length) = if own == piece as u64 {
            (shift, full)
        } else {
            (power(h, own.div_ceil(16)), mul(lengths(own, 0), h))
        };
        sum = mul(sum, shift) ^ block(tag) ^ mask ^ length;
    }
    let tag = sum ^ mul(lengths(16, len), h) ^ mask;
    Ok(tag.to_be_bytes())
}

fn block(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block[..bytes.len().min(16)].copy_from_slice(&bytes[..bytes.len().min(16)]);
    u128::from_be_bytes(block)
}

/// The product in GHASH's field (NIST SP 800-38D, 6.3), in constant time.
fn mul(x: u128, y: u128) -> u128 {
    const R: u128 = 0xe1 << 120;
    let (mut z, mut v) = (0, y);
    for i in (0..128).rev() {
        z ^= v & 0u128.wrapping_sub((x >> i) & 1);
        v = (v >> 1) ^ (R & 0u128.wrapping_sub(v & 1));
    }
    z
}

/// `h` to the `n`th; `n` is public.
fn power(h: u128, mut n: u64) -> u128 {
    // One is the polynomial 1, whose coefficient is the first bit.
    let (mut result, mut square) = (1 << 127, h);
    while n != 0 {
        if n & 1 != 0 {
            result = mul(result, square);
        }
        square = mul(square, square);
        n >>= 1;
    }
    result
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
                            mac.take().unwrap()
                        })
                        .collect();
                    let tag = whole_tag(with, &aad, &tags, piece, len as u64).unwrap();
                    assert_eq!(tag, stream.tag().unwrap(), "{len} bytes by {piece}");
                }
            }
        }
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
