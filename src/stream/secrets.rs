//! Wrap secrets remembered for a session.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::crypto::Secret;
use crate::crypto::digest::Digest;
use crate::error::Result;
use crate::format::stream::{Header, Recipient};

/// What a secret is derived from, hashed: recipient, ephemeral key, rounds, digest, length.
type Origin = [u8; 32];

struct Entry {
    /// On the heap, so that a map that grows moves pointers and leaves no copies behind.
    secret: Secret,
    used: u64,
}

/// Remembers the secrets under which key blocks are wrapped.
///
/// Mails that one process wrote to one folder share an ephemeral key; the first costs an
/// elliptic-curve agreement and PBKDF2, the others a look-up. Bounded; what is dropped is wiped.
pub struct SecretCache {
    entries: HashMap<Origin, Entry>,
    capacity: usize,
    clock: u64,
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
            entries: HashMap::new(),
            capacity,
            clock: 0,
            misses: 0,
        }
    }

    /// How many secrets are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How often a secret had to be derived, which is what costs time.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The secret for `to`, whose private key the caller holds, in a stream with `header`: `len`
    /// bytes, remembered, or made by `derive` and remembered.
    pub(super) fn get(
        &mut self,
        header: &Header,
        to: &Recipient,
        len: usize,
        derive: impl FnOnce() -> Result<Secret>,
    ) -> Result<Secret> {
        let origin = origin(header, to, len)?;
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&origin) {
            entry.used = self.clock;
            return Ok(entry.secret.clone());
        }
        self.misses += 1;
        let secret = derive()?;
        if self.capacity > 0 {
            self.make_room();
            let entry = Entry {
                secret: secret.clone(),
                used: self.clock,
            };
            self.entries.insert(origin, entry);
        }
        Ok(secret)
    }

    /// Drops what wasn't used for the longest time. A look through all entries, but only where
    /// an agreement has just cost a hundred times as much.
    fn make_room(&mut self) {
        while self.entries.len() >= self.capacity {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(origin) = oldest.map(|(origin, _)| *origin) else {
                return;
            };
            self.entries.remove(&origin);
        }
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
