//! What must hold whatever the bytes are. A fuzzer looks for bytes with which it doesn't
//! (`targets/`), and every test run tries the known ones (`replay.rs`).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// A fuzz target uses one of the properties.
#![allow(dead_code)]

pub(crate) mod formats;
pub(crate) mod keys;
pub(crate) mod settings;
pub(crate) mod spool;
pub(crate) mod stream;
#[cfg(feature = "tool")]
pub(crate) mod tool;
#[cfg(feature = "trees")]
pub(crate) mod trees;

use mail_crypt_core::key::{PrivateKey, StoredKey};

/// Decisions, taken from the front of a fuzzer's input; zeros when it is used up.
pub(crate) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// A number below `end`, or 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.number() % end.max(1)
    }

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[usize::from(self.byte()) % from.len()]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(len.min(self.0.len()));
        self.0 = later;
        now
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Cuts data into pieces of lengths that only depend on the data.
pub(crate) struct Pieces<'a> {
    rest: &'a [u8],
    state: u64,
}

impl<'a> Pieces<'a> {
    pub(crate) fn of(data: &'a [u8]) -> Self {
        // FNV-1a.
        let hash = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        let state = data.iter().fold(0xcbf2_9ce4_8422_2325, hash) | 1;
        Pieces { rest: data, state }
    }

    /// The next of a series of arbitrary numbers.
    pub(crate) fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let most = [1, 3, 17, 64, 300][(self.number() % 5) as usize];
        // None at all is a piece too.
        let len = (self.number() % (most + 1)) as usize;
        let (now, later) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = later;
        Some(now)
    }
}

macro_rules! vectors {
    ($($name:literal),* $(,)?) => {
        [$(include_bytes!(concat!("../../vectors/", $name)).as_slice()),*]
    };
}
pub(crate) use vectors;

/// The keys that the streams in `tests/vectors` are for.
pub(crate) fn test_keys() -> Vec<PrivateKey> {
    let texts = vectors![
        "keys/p256.plain",
        "keys/p384.plain",
        "keys/p521.plain",
        "keys/rsa.plain",
        "keys/x25519.plain",
        "keys/x448.plain",
    ];
    let key = |text: &&[u8]| {
        let text = std::str::from_utf8(text).unwrap();
        StoredKey::parse(text).unwrap().unlock().unwrap()
    };
    texts.iter().map(key).collect()
}
