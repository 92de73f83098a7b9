//! Symmetric ciphers: streaming, one-shot, and from any position.
#![forbid(unsafe_code)]

mod table;

use std::fmt;

use openssl::cipher::CipherRef;
use openssl::cipher_ctx::CipherCtx;
use zeroize::Zeroizing;

use self::table::{Row, TABLE};
use super::Secret;
use super::lookup::{self, Slot};
use crate::error::{Error, ErrorKind, Result};

/// A cipher's mode of operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Galois/counter mode: authenticated.
    Gcm,
    /// ChaCha20-Poly1305: authenticated.
    ChaChaPoly,
    /// Counter mode.
    Ctr,
    /// Cipher block chaining, PKCS#7 padding.
    Cbc,
    /// Cipher feedback of whole blocks.
    Cfb,
    /// Output feedback: each keystream block is made from the one before.
    Ofb,
}

/// A symmetric cipher: a row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cipher(u8);

/// The size of an AEAD tag in a stream.
pub const TAG_LEN: usize = 16;

/// Where in a payload [`Cipher::decrypt_at`] works.
#[derive(Clone, Copy)]
pub struct Position<'a> {
    /// Offset of the data in the payload, in bytes; a multiple of 64.
    pub offset: u64,
    /// The block that the data is chained to: the ciphertext block before it (CBC, CFB), or the
    /// keystream block before it (OFB). Empty at offset 0 and in the other modes.
    pub previous: &'a [u8],
    /// Whether the data is the payload's end, where CBC has its padding.
    pub last: bool,
}

impl Cipher {
    /// AES-256-GCM: what is written by default.
    pub const AES_256_GCM: Cipher = Cipher(0);
    /// AES-256-CTR: key strings and version 1 streams.
    pub const AES_256_CTR: Cipher = Cipher(1);
    /// AES-256-CBC: wraps the key block of version 2 streams.
    pub const AES_256_CBC: Cipher = Cipher(2);

    fn row(self) -> &'static Row {
        &TABLE[usize::from(self.0)]
    }

    fn find(predicate: impl Fn(&Row) -> bool) -> Option<Self> {
        TABLE
            .iter()
            .position(predicate)
            .and_then(|i| u8::try_from(i).ok())
            .map(Cipher)
    }

    /// The cipher named by a DER object identifier (tag, length, value).
    ///
    /// # Errors
    /// Unsupported, naming the identifier.
    pub fn from_oid_der(der: &[u8]) -> Result<Self> {
        Self::find(|row| !row.oid.is_empty() && row.oid == der)
            .ok_or_else(|| Error::unsupported(format!("cipher {}", super::oid_text(der))))
    }

    /// The cipher of that name, in any case.
    ///
    /// # Errors
    /// Unsupported, with the name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::find(|row| row.name.eq_ignore_ascii_case(name) && row.name != "chacha20")
            .ok_or_else(|| Error::unsupported(format!("cipher '{}'", name.escape_default())))
    }

    /// Its DER object identifier. Without one a stream can't name the cipher.
    pub fn oid_der(self) -> Option<&'static [u8]> {
        Some(self.row().oid).filter(|oid| !oid.is_empty())
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// How it uses its blocks.
    pub fn mode(self) -> Mode {
        self.row().mode
    }

    /// Whether it authenticates by itself.
    pub fn is_aead(self) -> bool {
        matches!(self.mode(), Mode::Gcm | Mode::ChaChaPoly)
    }

    /// Key size in bytes.
    pub fn key_len(self) -> usize {
        self.row().key
    }

    /// IV size in bytes.
    pub fn iv_len(self) -> usize {
        self.row().iv
    }

    /// Size of [`Position::previous`]; 0 in the modes that need none.
    pub fn chain_len(self) -> usize {
        match self.mode() {
            Mode::Cbc | Mode::Cfb | Mode::Ofb => self.iv_len(),
            Mode::Gcm | Mode::ChaChaPoly | Mode::Ctr => 0,
        }
    }

    /// The ciphertext's length is a multiple of this many bytes.
    pub fn block_size(self) -> usize {
        if self.mode() == Mode::Cbc {
            self.iv_len()
        } else {
            1
        }
    }

    /// How many bytes one key and IV may encrypt before the counter or the authentication
    /// wears out: 64 GiB for GCM (NIST SP 800-38D), 256 GiB for ChaCha20 (RFC 8439).
    pub fn max_len(self) -> u64 {
        match self.mode() {
            Mode::Gcm => (1 << 36) - 32,
            Mode::ChaChaPoly => (1 << 38) - 64,
            Mode::Ctr | Mode::Cbc | Mode::Cfb | Mode::Ofb => u64::MAX,
        }
    }

    /// libcrypto's implementation, looked up once per process.
    pub(super) fn fetch(self) -> Result<&'static CipherRef> {
        static FETCHED: [Slot<CipherRef>; TABLE.len()] = [const { Slot::new() }; TABLE.len()];
        let cipher = lookup::cipher(&FETCHED[usize::from(self.0)], self.name())?;
        if cipher.key_length() != self.key_len() || cipher.iv_length() != self.iv_len() {
            return Err(Error::new(
                ErrorKind::Crypto,
                format!("libcrypto disagrees about the key size of {self}"),
            ));
        }
        Ok(cipher)
    }

    /// # Errors
    /// Unsupported if this libcrypto doesn't have the cipher.
    pub fn available(self) -> Result<()> {
        self.fetch().map(|_| ())
    }

    pub(super) fn check(self, key: &[u8], iv: &[u8]) -> Result<()> {
        if key.len() != self.key_len() || iv.len() != self.iv_len() {
            return Err(Error::corrupt(format!("wrong key or IV size for {self}")));
        }
        Ok(())
    }

    /// Encrypts from the start; see [`Crypter`]. `aad` is for authenticated ciphers.
    pub fn encrypt(self, key: &[u8], iv: &[u8], aad: &[u8]) -> Result<Crypter> {
        self.check(key, iv)?;
        let mut ctx = CipherCtx::new()?;
        ctx.encrypt_init(Some(self.fetch()?), Some(key), Some(iv))?;
        Crypter::start(self, ctx, aad)
    }

    /// Decrypts from the start; see [`Crypter`]. `aad` is for authenticated ciphers.
    pub fn decrypt(self, key: &[u8], iv: &[u8], aad: &[u8]) -> Result<Crypter> {
        self.check(key, iv)?;
        let mut ctx = CipherCtx::new()?;
        ctx.decrypt_init(Some(self.fetch()?), Some(key), Some(iv))?;
        Crypter::start(self, ctx, aad)
    }

    /// Decrypts `data` from the middle of a payload. Authenticates nothing: the caller has checked
    /// the data.
    ///
    /// # Errors
    /// Corrupt if the position isn't one that the mode can start at, or CBC's padding is wrong.
    pub fn decrypt_at(
        self,
        key: &[u8],
        iv: &[u8],
        at: Position<'_>,
        data: &[u8],
    ) -> Result<Secret> {
        let mut out = Secret::zeroed(data.len() + MARGIN);
        let len = self.seekable(key, iv)?.decrypt(at, data, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    /// The cipher without its authentication.
    pub(super) fn bare(self) -> Self {
        Self::find(|row| row.name == self.row().bare).unwrap_or(self)
    }

    /// Prepares to decrypt many positions of one payload: see [`Self::decrypt_at`].
    pub fn seekable(self, key: &[u8], iv: &[u8]) -> Result<Seekable> {
        self.check(key, iv)?;
        let bare = self.bare();
        let mut ctx = CipherCtx::new()?;
        ctx.decrypt_init(Some(bare.fetch()?), Some(key), None)?;
        Ok(Seekable {
            cipher: self,
            iv: Secret::new(iv.to_vec()),
            crypter: Crypter { cipher: bare, ctx },
        })
    }

    /// The IV with which the bare mode starts at `at`.
    fn start_iv(self, iv: &[u8], at: Position<'_>) -> Result<[u8; 16]> {
        let mut start = [0; 16];
        match self.mode() {
            Mode::Ctr => {
                start.copy_from_slice(iv);
                let counter = u128::from_be_bytes(start).wrapping_add(u128::from(at.offset / 16));
                start = counter.to_be_bytes();
            }
            Mode::Gcm => start = gcm_counter(iv, at.offset / 16 + 1)?,
            Mode::ChaChaPoly => {
                // Counter 0 makes the Poly1305 key.
                let counter = u32::try_from(at.offset / 64 + 1).map_err(|_| too_far())?;
                start[..4].copy_from_slice(&counter.to_le_bytes());
                start[4..].copy_from_slice(iv);
            }
            Mode::Cbc | Mode::Cfb | Mode::Ofb => {
                let previous = if at.offset == 0 { iv } else { at.previous };
                if previous.len() != iv.len() {
                    return Err(Error::corrupt("the preceding block is missing"));
                }
                start[..previous.len()].copy_from_slice(previous);
            }
        }
        Ok(start)
    }

    /// Decrypts a whole message. Authenticates nothing: see [`Self::decrypt_at`].
    ///
    /// # Errors
    /// Corrupt if CBC's padding is wrong.
    pub fn open_bare(self, key: &[u8], iv: &[u8], data: &[u8]) -> Result<Secret> {
        let whole = Position {
            offset: 0,
            previous: &[],
            last: true,
        };
        self.decrypt_at(key, iv, whole, data)
    }

    /// Opens a whole authenticated message.
    ///
    /// # Errors
    /// Tampered if the tag doesn't match; the plaintext is wiped then.
    pub fn open(
        self,
        key: &[u8],
        iv: &[u8],
        aad: &[u8],
        data: &[u8],
        tag: &[u8],
    ) -> Result<Secret> {
        let mut crypter = self.decrypt(key, iv, aad)?;
        crypter.set_tag(tag)?;
        crypter.whole(data)
    }
}

fn too_far() -> Error {
    Error::corrupt("beyond the end of the cipher's counter")
}

/// The counter block for block `n` of a GCM message, counted from 1; block 0 masks the tag.
pub(super) fn gcm_counter(iv: &[u8], n: u64) -> Result<[u8; 16]> {
    let n = u32::try_from(n + 1).map_err(|_| too_far())?;
    let mut block = [0; 16];
    block[..12].copy_from_slice(iv);
    block[12..].copy_from_slice(&n.to_be_bytes());
    Ok(block)
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A cipher at work, for a message in pieces. libcrypto wipes its key when this is dropped.
pub struct Crypter {
    cipher: Cipher,
    ctx: CipherCtx,
}

/// Decrypts a payload from any position.
pub struct Seekable {
    cipher: Cipher,
    iv: Secret,
    /// Without authentication, under the payload's key.
    crypter: Crypter,
}

impl Seekable {
    /// Decrypts the data at a position into the start of `out`, which must be [`MARGIN`] bytes longer
    /// than the data. Returns the plaintext's size.
    ///
    /// # Errors
    /// As [`Cipher::decrypt_at`].
    pub fn decrypt(&mut self, at: Position<'_>, data: &[u8], out: &mut [u8]) -> Result<usize> {
        if at.offset % 64 != 0 || out.len() < data.len() + MARGIN {
            return Err(Error::corrupt("decryption can't start there"));
        }
        // For OFB it is keystream.
        let start = Zeroizing::new(self.cipher.start_iv(&self.iv, at)?);
        let Crypter { cipher, ctx } = &mut self.crypter;
        ctx.decrypt_init(None, None, Some(&start[..cipher.iv_len()]))?;
        ctx.set_padding(at.last);
        let mut len = 0;
        for part in data.chunks(MAX_CALL) {
            len += ctx.cipher_update(part, Some(&mut out[len..]))?;
        }
        let end = ctx.cipher_final(&mut out[len..]);
        Ok(len + end.map_err(|_| bad_end())?)
    }
}

fn bad_end() -> Error {
    Error::corrupt("bad padding at the end of the ciphertext")
}

/// Room that output needs beyond the data: padding, and a block that libcrypto scribbles on.
pub const MARGIN: usize = 48;

/// libcrypto counts in `int`; one call never gets more than this.
pub(super) const MAX_CALL: usize = 1 << 28;

impl Crypter {
    fn start(cipher: Cipher, mut ctx: CipherCtx, aad: &[u8]) -> Result<Self> {
        if !aad.is_empty() {
            ctx.cipher_update(aad, None)?;
        }
        Ok(Crypter { cipher, ctx })
    }

    /// Runs `data` through the cipher and appends the result; block modes hold back an incomplete
    /// block. Only for ciphertext: `out` may grow, and isn't wiped.
    pub fn update(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        for part in data.chunks(MAX_CALL) {
            self.ctx.cipher_update_vec(part, out)?;
        }
        Ok(())
    }

    /// Runs `data` through the cipher into the start of `out`, which must be [`MARGIN`] bytes longer
    /// than the data. Returns the size of the result.
    pub fn update_into(&mut self, data: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut len = 0;
        for part in data.chunks(MAX_CALL) {
            len += self.ctx.cipher_update(part, Some(&mut out[len..]))?;
        }
        Ok(len)
    }

    /// Ends an encryption and appends what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.ctx.cipher_final_vec(out)?;
        Ok(())
    }

    /// Ends the message and writes what was held back to the start of `out`, which has room for
    /// [`MARGIN`] bytes. Returns its size.
    ///
    /// # Errors
    /// When decrypting: Tampered if the tag doesn't match, Corrupt if the padding is wrong.
    pub fn finish_into(&mut self, out: &mut [u8]) -> Result<usize> {
        self.ctx.cipher_final(out).map_err(|_| {
            if self.cipher.is_aead() {
                Error::new(ErrorKind::Tampered, "the authentication tag doesn't match")
            } else {
                bad_end()
            }
        })
    }

    /// Runs a whole message through the cipher.
    ///
    /// # Errors
    /// As [`Self::finish_into`].
    pub fn whole(mut self, data: &[u8]) -> Result<Secret> {
        let mut out = Secret::zeroed(data.len() + MARGIN);
        let len = self.update_into(data, &mut out)?;
        let end = self.finish_into(&mut out[len..])?;
        out.truncate(len + end);
        Ok(out)
    }

    /// The tag, after [`Self::finish`] of an authenticated encryption.
    pub fn tag(&self) -> Result<[u8; TAG_LEN]> {
        let mut tag = [0; TAG_LEN];
        self.ctx.tag(&mut tag)?;
        Ok(tag)
    }

    /// Sets the tag that [`Self::finish_into`] checks.
    pub fn set_tag(&mut self, tag: &[u8]) -> Result<()> {
        if tag.len() != TAG_LEN {
            return Err(Error::corrupt("wrong tag size"));
        }
        Ok(self.ctx.set_tag(tag)?)
    }
}

/// AES-256-CBC with PKCS#7 padding.
pub fn aes256_cbc_encrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Secret> {
    Cipher::AES_256_CBC.encrypt(key, iv, &[])?.whole(data)
}

/// AES-256-CTR, either way; the IV is a 128-bit big-endian counter.
pub fn aes256_ctr(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Secret> {
    Cipher::AES_256_CTR.encrypt(key, iv, &[])?.whole(data)
}

#[cfg(test)]
mod tests;
