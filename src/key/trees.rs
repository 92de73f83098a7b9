//! A TREES user's private key: in a secret box, whose key is stretched from the user's password.
#![forbid(unsafe_code)]

use std::rc::Rc;

use zeroize::Zeroizing;

use crate::crypto::sodium::{SealKey, open_secretbox};
use crate::crypto::{Secret, argon2i, argon2id};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a private key in its box.
pub const SECRETBOX: usize = 48;

/// The most Argon2 memory and passes: libsodium's own names go to 1 GiB and 8. What is more was meant for no mail server.
const MAX_MEMORY: u64 = 1 << 30;
const MAX_PASSES: u64 = 64;
/// libsodium's least.
const MIN_MEMORY: u64 = 8192;

/// What opens the chunks of a user's mail.
#[derive(Clone)]
pub struct TreesKey(Rc<SealKey>);

impl TreesKey {
    /// From a private key's bytes.
    ///
    /// # Errors
    /// Unsupported, in a build without TREES.
    pub fn new(private: &[u8; 32]) -> Result<Self> {
        Ok(TreesKey(Rc::new(SealKey::new(private)?)))
    }

    /// Its public half.
    pub fn public(&self) -> [u8; 32] {
        self.0.public()
    }

    /// The plaintext of a chunk. `None` if it was changed, or is under another key.
    pub fn open(&self, chunk: &[u8]) -> Option<Secret> {
        self.0.open(chunk)
    }
}

/// How a password is stretched (libsodium's `crypto_pwhash`).
#[derive(Clone)]
pub struct Stretch {
    argon2: Argon2,
    passes: u32,
    memory_kib: u32,
    salt: [u8; 16],
}

#[derive(Clone, Copy)]
enum Argon2 {
    I,
    Id,
}

impl Stretch {
    /// `algorithm` as TREES numbers them, `memory` in bytes.
    ///
    /// # Errors
    /// Unsupported, for another algorithm, or for more work than a login may cost.
    pub fn new(algorithm: u64, passes: u64, memory: u64, salt: [u8; 16]) -> Result<Self> {
        let (argon2, least) = match algorithm {
            0 => (Argon2::I, 3),
            1 => (Argon2::Id, 1),
            other => {
                return Err(Error::unsupported(format!(
                    "password hash {other}: TREES has 0 (Argon2i) and 1 (Argon2id)"
                )));
            }
        };
        if !(least..=MAX_PASSES).contains(&passes) {
            return Err(Error::unsupported(format!(
                "opslimit {passes}: {least} to {MAX_PASSES} are taken"
            )));
        }
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&memory) {
            return Err(Error::unsupported(format!(
                "memlimit {memory}: {MIN_MEMORY} to {MAX_MEMORY} bytes are taken"
            )));
        }
        // Both are far below 2^32.
        Ok(Stretch {
            argon2,
            passes: passes as u32,
            memory_kib: (memory / 1024) as u32,
            salt,
        })
    }

    fn run(&self, password: &[u8]) -> Result<Secret> {
        let params = (self.memory_kib, self.passes, 1);
        match self.argon2 {
            Argon2::I => argon2i(password, &self.salt, params),
            Argon2::Id => argon2id(password, &self.salt, params),
        }
    }
}

/// A private key in its box.
#[derive(Clone)]
pub struct LockedTreesKey {
    /// The box.
    pub secretbox: [u8; SECRETBOX],
    /// Its nonce.
    pub nonce: [u8; 24],
}

impl LockedTreesKey {
    /// Opens the box with its key.
    ///
    /// # Errors
    /// [`ErrorKind::WrongPassword`], and as [`Self::open_with_password`].
    pub fn open(&self, key: &[u8; 32]) -> Result<TreesKey> {
        let opened = open_secretbox(key, &self.nonce, &self.secretbox)?;
        let opened = opened.ok_or_else(|| {
            let text = "the box with the private key doesn't open with it";
            Error::new(ErrorKind::WrongPassword, text)
        })?;
        let private: &[u8; 32] = opened
            .first_chunk()
            .ok_or_else(|| Error::internal("a private key of another size"))?;
        TreesKey::new(private)
    }

    /// Opens the box with what `stretch` makes of a password.
    ///
    /// # Errors
    /// [`ErrorKind::WrongPassword`]; [`ErrorKind::Crypto`] where there isn't as much memory; unsupported in a build without
    /// TREES.
    pub fn open_with_password(&self, password: &[u8], stretch: &Stretch) -> Result<TreesKey> {
        let stretched = stretch.run(password)?;
        let key = stretched.first_chunk::<32>().copied().map(Zeroizing::new);
        self.open(&*key.ok_or_else(|| Error::internal("a secret box's key has 32 bytes"))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn work_beyond_all_reason_is_refused() {
        let kind = |how: (u64, u64, u64)| {
            let made = Stretch::new(how.0, how.1, how.2, [0; 16]);
            made.err().map(|e| e.kind())
        };
        for how in [
            (0, 3, 8192),
            (1, 1, 8192),
            (1, 4, 1 << 30),
            (0, 64, 1 << 29),
        ] {
            assert_eq!(kind(how), None, "{how:?}");
        }
        for how in [
            (2, 3, 8192),
            (u64::MAX, 3, 8192),
            (0, 2, 8192),
            (1, 0, 8192),
            (1, 65, 8192),
            (1, 1, 8191),
            (1, 1, (1 << 30) + 1),
            (1, u64::MAX, u64::MAX),
        ] {
            assert_eq!(kind(how), Some(ErrorKind::Unsupported), "{how:?}");
        }
    }
}
