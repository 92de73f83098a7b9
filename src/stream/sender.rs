//! The sender's side: a recipient's key, and the ephemeral key that is used with it.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::crypto::Secret;
use crate::crypto::cipher::{Cipher, aes256_cbc_encrypt, aes256_ctr};
use crate::crypto::digest::Digest;
use crate::error::Result;
use crate::format::stream::{Header, Integrity, Recipient, Version, Wrap};
use crate::key::{KeyId, KeyType, PublicKey};

use super::algorithm::Algorithm;
use super::block::{ContentKey, HASH_COUNT};
use crate::error::Error;

/// The most streams under one ephemeral key.
const MAX_USES: u32 = 1 << 16;
/// How long one ephemeral key is used.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// PBKDF2 rounds on write. More are for passwords; an agreed secret is random, and the packaged
/// plugin honours the rounds field.
pub(super) const ROUNDS: u32 = 1;

/// An ephemeral key with the secret agreed between it and the recipient.
struct Ephemeral {
    public: Vec<u8>,
    digest: Digest,
    /// AES-256-CBC key and IV of the key block's wrap.
    secret: Secret,
    uses: u32,
    made: Instant,
}

/// A recipient, with one ephemeral key for the streams that a process writes to it.
///
/// docs/security.md has the proof that sharing it is safe: it only wraps key blocks, each of which is fresh
/// random bytes. What it gives away is that these files were written by one process. Use and age are bounded,
/// so that a long-lived process doesn't hold one secret for ever; [`Sender::expire`] is for the age where
/// nobody writes any more.
///
/// RSA recipients have no ephemeral key. Version 1 gets a fresh one each time: it wraps with a
/// keystream, and two blocks under one keystream would betray their difference.
pub struct Sender {
    to: PublicKey,
    ephemeral: Option<Ephemeral>,
    max_age: Duration,
}

impl Sender {
    /// Streams for the owner of `to`.
    pub fn new(to: PublicKey) -> Self {
        Sender {
            to,
            ephemeral: None,
            max_age: MAX_AGE,
        }
    }

    /// The ephemeral key isn't used for longer than `age` (zero: once).
    #[cfg(test)]
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// The recipient's key id.
    pub fn id(&self) -> KeyId {
        self.to.id()
    }

    /// The recipient's old key id, if it has one.
    pub fn old_id(&self) -> Option<KeyId> {
        self.to.old_id()
    }

    /// Whether there is an ephemeral key.
    #[cfg(test)]
    pub fn has_ephemeral(&self) -> bool {
        self.ephemeral.is_some()
    }

    /// Forgets the ephemeral key if it has become too old to be used: nobody may write to this
    /// recipient any more. Returns how long it may still be kept, `None` if there is none.
    pub fn expire(&mut self) -> Option<Duration> {
        let age = self.ephemeral.as_ref()?.made.elapsed();
        let left = self.max_age.checked_sub(age).filter(|left| !left.is_zero());
        if left.is_none() {
            self.ephemeral = None;
        }
        left
    }

    fn ephemeral(&mut self, digest: Digest) -> Result<&Ephemeral> {
        let good = self
            .ephemeral
            .take()
            .filter(|e| e.digest == digest && e.uses < MAX_USES && e.made.elapsed() < self.max_age);
        let mut ephemeral = match good {
            Some(ephemeral) => ephemeral,
            None => {
                let (public, shared) = self.to.agree_ephemeral()?;
                let secret = digest.pbkdf2(&shared, &public, ROUNDS, 48)?;
                Ephemeral {
                    public,
                    digest,
                    secret,
                    uses: 0,
                    made: Instant::now(),
                }
            }
        };
        ephemeral.uses += 1;
        Ok(self.ephemeral.insert(ephemeral))
    }

    /// The header of a version 2 stream whose plain key block is `block`.
    pub(super) fn header_v2(
        &mut self,
        algorithm: &Algorithm,
        block: &ContentKey,
    ) -> Result<Header> {
        let digest = algorithm.digest();
        let id = self.to.id().0;
        let block = block.as_bytes();
        let recipient = if self.to.key_type() == KeyType::Rsa {
            Recipient {
                wrap: Wrap::Rsa,
                id,
                ephemeral: Vec::new(),
                wrapped: self.to.rsa_encrypt(block)?,
            }
        } else {
            let with = self.ephemeral(digest)?;
            let wrapped = aes256_cbc_encrypt(&with.secret[..32], &with.secret[32..], block)?;
            Recipient {
                wrap: Wrap::Ec,
                id,
                ephemeral: with.public.clone(),
                wrapped: wrapped.to_vec(),
            }
        };
        Ok(Header {
            version: Version::V2,
            integrity: algorithm.integrity(),
            cipher: algorithm.cipher(),
            digest,
            rounds: ROUNDS,
            same_cipher: false,
            recipients: vec![recipient],
            key_hash: digest.iterated(block, HASH_COUNT)?,
        })
    }

    /// The header of a version 1 stream whose content key is `key`.
    pub(super) fn header_v1(&self, key: &ContentKey) -> Result<Header> {
        let id = self.to.old_id().ok_or_else(|| {
            Error::unsupported("version 1 streams need a recipient on a NIST curve")
        })?;
        let (ephemeral, shared) = self.to.agree_ephemeral()?;
        let secret = Secret::new(Digest::Sha256.hash(&[&shared])?);
        let wrapped = aes256_ctr(&secret, &[0; 16], key.as_bytes())?;
        Ok(Header {
            version: Version::V1,
            integrity: Integrity::None,
            cipher: Cipher::AES_256_CTR,
            digest: Digest::Sha256,
            rounds: 0,
            same_cipher: false,
            recipients: vec![Recipient {
                wrap: Wrap::Ec,
                id: id.0,
                ephemeral,
                wrapped: wrapped.to_vec(),
            }],
            key_hash: Digest::Sha256.hash(&[key.as_bytes()])?,
        })
    }
}
