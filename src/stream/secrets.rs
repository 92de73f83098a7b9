//! Wrap secrets remembered for a session.
#![forbid(unsafe_code)]

use crate::bounded::Bounded;
use crate::crypto::Secret;
use crate::crypto::digest::Digest;
use crate::error::Result;
use crate::format::stream::{Header, Recipient};

/// What a secret is derived from, hashed: recipient, ephemeral key, rounds, digest, length.
type Origin = [u8; 32];

/// Remembers the secrets under which key blocks are wrapped.
///
/// Mails that one process wrote to one folder share an ephemeral key; the first costs an
/// elliptic-curve agreement and PBKDF2, each other one a look-up.
pub struct SecretCache {
    secrets: Bounded<Origin, Secret>,
    misses: u64,
}

impl Default for SecretCache {
    /// Room for 1024 secrets, about 200 KiB.
    fn default() -> Self {
        Self::new(1024)
    }
}

impl SecretCache {
    /// Room for `capacity` secrets; with 0 nothing is remembered.
    pub fn new(capacity: usize) -> Self {
        SecretCache {
            secrets: Bounded::new(capacity),
            misses: 0,
        }
    }

    /// How often a secret had to be derived, which is what costs time.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// The secret of `len` bytes for `to` in a stream with `header`. `derive` makes it if it isn't
    /// remembered. The caller holds the private key of `to`.
    pub(super) fn get(
        &mut self,
        header: &Header,
        to: &Recipient,
        len: usize,
        derive: impl FnOnce() -> Result<Secret>,
    ) -> Result<Secret> {
        let origin = origin(header, to, len)?;
        if let Some(secret) = self.secrets.get(&origin) {
            return Ok(secret.clone());
        }
        self.misses += 1;
        let secret = derive()?;
        self.secrets.insert(origin, secret.clone());
        Ok(secret)
    }
}

fn origin(header: &Header, to: &Recipient, len: usize) -> Result<Origin> {
    // Every part but the last has a fixed length: no two origins run into the same bytes.
    let hash = Digest::Sha256.hash(&[
        &to.id,
        &header.rounds.to_be_bytes(),
        &[header.digest as u8],
        &(len as u64).to_be_bytes(),
        &to.ephemeral,
    ])?;
    let mut origin = [0; 32];
    origin.copy_from_slice(&hash);
    Ok(origin)
}
