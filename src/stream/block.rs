//! The plain key block: what it consists of, and how a reader unwraps it.
#![forbid(unsafe_code)]

use super::secrets::SecretCache;
use crate::crypto::cipher::{Cipher, aes256_ctr};
use crate::crypto::digest::Digest;
use crate::crypto::{Secret, ct_eq, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::stream::{Header, Integrity, Recipient, Version, Wrap};
use crate::key::PrivateKey;

/// How often the hash of a version 2 key block is iterated, whatever the rounds field says.
pub(super) const HASH_COUNT: u32 = 2048;

/// The longest key block: 32 bytes of key, 16 of IV, 16 for the MAC.
const MAX_BLOCK: usize = 64;

/// The IV of version 1, for the content key as for the payload.
const ZERO_IV: [u8; 16] = [0; 16];

/// The plain key block of one stream: it opens that stream without any other key. It may be kept
/// for the session, and beyond that only encrypted.
#[derive(Clone)]
pub struct ContentKey(Secret);

impl ContentKey {
    /// The block's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A remembered block.
    ///
    /// # Errors
    /// Corrupt if no stream has a block of that size.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() || bytes.len() > MAX_BLOCK {
            return Err(Error::corrupt("a key block of an impossible size"));
        }
        Ok(ContentKey(Secret::new(bytes.to_vec())))
    }

    pub(super) fn new(block: Secret) -> Self {
        ContentKey(block)
    }

    /// Splits the block; its size has been checked against the header.
    pub(super) fn parts(&self, header: &Header) -> Result<Parts<'_>> {
        let wrong = || Error::corrupt("the key block's size doesn't fit the stream");
        if self.0.len() != header.block_len() {
            return Err(wrong());
        }
        let (key, rest) = self
            .0
            .split_at_checked(header.cipher.key_len())
            .ok_or_else(wrong)?;
        if header.version == Version::V1 {
            return Ok(Parts {
                key,
                iv: &ZERO_IV,
                mac: &[],
            });
        }
        let (iv, mac) = rest
            .split_at_checked(header.cipher.iv_len())
            .ok_or_else(wrong)?;
        Ok(Parts { key, iv, mac })
    }

    /// Checks that this is the block the header speaks of, unless something else will prove it.
    ///
    /// The tag of an authenticated cipher depends on key, IV and AAD, so it proves the block too. An
    /// HMAC proves only its own part of the block: the wrap is CBC, so a change in the wrapped key
    /// garbles the plain key and nothing else. There, and without any integrity, the stored hash is
    /// compared.
    pub(super) fn check(&self, header: &Header) -> Result<()> {
        let size_fits = self.0.len() == header.block_len();
        let hash_fits = || -> Result<bool> {
            let hash = match (header.version, header.integrity) {
                (Version::V1, _) => Digest::Sha256.hash(&[&self.0])?,
                (Version::V2, Integrity::Aead) => return Ok(true),
                (Version::V2, _) => header.digest.iterated(&self.0, HASH_COUNT)?,
            };
            Ok(ct_eq(&hash, &header.key_hash))
        };
        if size_fits && hash_fits()? {
            return Ok(());
        }
        Err(wrong_block())
    }
}

/// The pieces of a key block.
pub(super) struct Parts<'a> {
    pub key: &'a [u8],
    pub iv: &'a [u8],
    /// AAD or HMAC key; empty without integrity.
    pub mac: &'a [u8],
}

fn wrong_block() -> Error {
    Error::new(
        ErrorKind::Tampered,
        "the key block doesn't unwrap to what was wrapped",
    )
}

/// Unwraps the key block for `to`, whose private key is `key`.
///
/// # Errors
/// Tampered if it doesn't unwrap, corrupt if the ephemeral key is no point of the curve,
/// unsupported for unknown key types.
pub(super) fn unwrap(
    header: &Header,
    to: &Recipient,
    key: &PrivateKey,
    secrets: &mut SecretCache,
) -> Result<ContentKey> {
    let block = match (header.version, to.wrap) {
        (Version::V1, _) => {
            let secret = secrets.get(header, to, 32, || {
                let shared = key.agree(&to.ephemeral)?;
                Ok(Secret::new(Digest::Sha256.hash(&[&shared])?))
            })?;
            aes256_ctr(&secret, &ZERO_IV, &to.wrapped)?
        }
        (Version::V2, Wrap::Ec) => unwrap_ec(header, to, key, secrets)?,
        (Version::V2, Wrap::Rsa) => right_block(header, key.rsa_decrypt(&to.wrapped))?,
        (Version::V2, Wrap::Other(kind)) => {
            return Err(Error::unsupported(format!("recipient key type {kind}")));
        }
    };
    let block = ContentKey(block);
    block.check(header)?;
    Ok(block)
}

fn unwrap_ec(
    header: &Header,
    to: &Recipient,
    key: &PrivateKey,
    secrets: &mut SecretCache,
) -> Result<Secret> {
    let cipher = if header.same_cipher {
        header.cipher
    } else {
        Cipher::AES_256_CBC
    };
    // Under the same-cipher flag an authenticated wrap takes 16 more bytes as AAD and has its
    // tag after the wrapped block.
    let aead = header.same_cipher && header.integrity == Integrity::Aead;
    let aad_len = if aead { 16 } else { 0 };
    let len = cipher.key_len() + cipher.iv_len() + aad_len;
    let secret = secrets.get(header, to, len, || {
        let shared = key.agree(&to.ephemeral)?;
        header
            .digest
            .pbkdf2(&shared, &to.ephemeral, header.rounds, len)
    })?;
    let (wrap_key, rest) = secret.split_at(cipher.key_len());
    let (iv, aad) = rest.split_at(cipher.iv_len());
    if aead {
        let (wrapped, tag) = to
            .wrapped
            .split_last_chunk::<16>()
            .ok_or_else(wrong_block)?;
        return cipher.open(wrap_key, iv, aad, wrapped, tag);
    }
    right_block(header, cipher.open_bare(wrap_key, iv, &to.wrapped))
}

/// The unwrapped block, or a random one in place of a block that doesn't unwrap: the proof of the block, or of the
/// whole, then fails. A different or earlier answer would tell a forger which padding is right, and with that, bit
/// by bit, the block.
fn right_block(header: &Header, unwrapped: Result<Secret>) -> Result<Secret> {
    if let Some(block) = unwrapped
        .ok()
        .filter(|block| block.len() == header.block_len())
    {
        return Ok(block);
    }
    let mut block = Secret::zeroed(header.block_len());
    random(&mut block)?;
    Ok(block)
}
