//! Encrypting and verifying mail streams, sans-IO.
//!
//! [`Encryptor`] takes plaintext in pieces and gives the bytes of a file. [`Opener`] takes the
//! file's bytes in any pieces and gives nothing away until the whole has been checked: a small
//! mail then comes out as one wiped buffer, a large one as [`Verified`], with which the file is
//! read a second time, chunk by chunk in any order. [`spool::Spool`] keeps what comes from a
//! source that can't go back, in memory or sealed in a file. [`TreesOpener`] is the [`Opener`] of
//! mail that TREES wrote.
#![forbid(unsafe_code)]

mod algorithm;
mod block;

mod chunk_cache;
mod damage;
mod encrypt;
mod guard;
mod open;
mod payload;
mod recorded_size;
mod secrets;
mod sender;
pub mod spool;
mod trees;
mod verified;
mod verifier;
mod window;

pub use crate::format::stream::{Header, Integrity, MAGIC, Version, is_encrypted};
pub use algorithm::{Algorithm, Format};
pub use block::ContentKey;
pub use chunk_cache::ChunkCache;
pub use damage::{
    Sizes, begins_as_text, is_encrypted_mail, is_packed, mended, refuse_damaged, refuse_twice,
};
pub use encrypt::Encryptor;
pub use guard::{Guard, Watch};
pub use open::{Body, Feed, Limits, Opener, SMALL};
pub use recorded_size::may_be_ciphertext_size;
pub use secrets::SecretCache;
pub use sender::Sender;
pub use trees::{AT_ONCE, TreesFeed, TreesOpener};
pub use verified::Verified;
pub use window::Window;

use crate::crypto::digest::Digest;
use crate::error::{Error, Result};

/// What identifies a stream: the hash of its header. No two streams have the same.
fn header_hash(header: &[u8]) -> Result<[u8; 32]> {
    let hash = Digest::Sha256.hash(&[header])?;
    hash.try_into()
        .map_err(|_| Error::internal("SHA-256 has 32 bytes"))
}

#[cfg(all(test, feature = "trees"))]
pub(crate) use trees::tests as trees_tests;

#[cfg(test)]
mod tests;
