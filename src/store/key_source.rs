//! What readers ask for keys, and what they remember for each other.
#![forbid(unsafe_code)]

use std::rc::Rc;

use super::attributes::Attributes;
use super::events::Origin;
use crate::bounded::Bounded;
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::key::trees::TreesKey;
use crate::key::{KeyId, PrivateKey};
use crate::stream::{ChunkCache, ContentKey, SecretCache, Verified};

/// Large files whose chunk tags are remembered: a client reads one or a few at a time.
const MAX_VERIFIED: usize = 8;

/// Damaged files that are remembered.
const MAX_CHANGED: usize = 256;

/// Files whose content keys are remembered, in about 4 MiB. Going through more files than that over and
/// over finds none of them remembered.
const MAX_CONTENT_KEYS: usize = 16_384;

/// Where a reader gets private keys from: a user's session, or an fs driver's fixed keys.
pub trait KeySource {
    /// The private key that one of `ids` names, for a file in `folder` (of a mail store).
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoKey`] where none is there, else why it can't be had.
    fn private_key(
        &mut self,
        ids: &[KeyId],
        folder: Option<&mut dyn Attributes>,
    ) -> Result<PrivateKey>;

    /// The user's key for mail of TREES.
    ///
    /// # Errors
    /// Why it can't be had.
    fn trees_key(&mut self) -> Result<TreesKey> {
        Err(Error::new(
            ErrorKind::NoKey,
            "only users have keys of TREES",
        ))
    }

    /// Whether the key that new files are encrypted to can be unlocked here. If so, a file that can't be
    /// read is a single one; if not, no file may be readable.
    fn opens_own(&mut self) -> bool {
        false
    }

    /// Whose files these are, and who is told when one is read.
    fn origin(&self) -> Origin {
        Origin::default()
    }

    /// What is remembered of files that were read before.
    fn memory(&mut self) -> &mut Memory;

    /// The secret that seals index cache entries for mails under `key`; `None` where there is no
    /// index cache.
    ///
    /// # Errors
    /// Where libcrypto fails.
    fn cache_secret(&mut self, key: &PrivateKey) -> Result<Option<Secret>>;
}

/// The session is in use further up the stack.
pub fn in_use() -> Error {
    Error::internal("the user's keys are in use")
}

/// What the readers of one session remember.
pub struct Memory {
    /// Secrets shared with the senders of files, which files of one process have in common.
    pub secrets: SecretCache,
    /// Large files that were verified, by the hash of their header.
    pub verified: Bounded<[u8; 32], VerifiedFile>,
    /// What was served last of a large file that is read piece by piece.
    pub chunks: ChunkCache,
    /// Files that weren't what they had been verified to be, by the hash of their header: when they
    /// are opened again, all of them is verified.
    pub changed: Bounded<[u8; 32], FileState>,
    /// Content keys of files that were found unchanged in this session, by the hash of their header.
    pub content_keys: Bounded<[u8; 32], ContentKey>,
}

impl Memory {
    /// Room for the secrets of `max_secrets` senders.
    pub fn new(max_secrets: usize) -> Self {
        Memory {
            secrets: SecretCache::new(max_secrets),
            verified: Bounded::new(MAX_VERIFIED),
            chunks: ChunkCache::default(),
            changed: Bounded::new(MAX_CHANGED),
            content_keys: Bounded::new(MAX_CONTENT_KEYS),
        }
    }

    /// Whether a file was found not to be what it had been verified to be, in this state.
    pub fn is_changed(&self, file: FileState) -> bool {
        self.changed.values().any(|state| *state == file)
    }
}

/// A file's state on disk: where it differs, the content may have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileState {
    /// Its bytes, or `u64::MAX` where unknown.
    pub size: u64,
    /// When its content was last changed, in nanoseconds.
    pub changed: u64,
    /// Which file it is.
    pub inode: u64,
}

impl FileState {
    /// Size of [`Self::to_bytes`].
    pub const BYTES: usize = 24;

    /// To be compared with the state in a later session.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.size.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.changed.to_be_bytes());
        bytes[16..].copy_from_slice(&self.inode.to_be_bytes());
        bytes
    }
}

/// A large file that was verified, in this session or, as the index cache says, in an earlier one.
pub struct VerifiedFile {
    /// What it was at that time.
    pub state: FileState,
    /// What proves each of its chunks to be what was verified.
    pub content: Rc<Verified>,
}
