//! Keeps the data of a source that can't seek, so that it can be read again from any offset: the
//! beginning in memory, and what is too large for that encrypted in a file.
//!
//! A file holds chunks of [`CHUNK`] plaintext bytes under AES-256-GCM, with a random key that
//! never leaves memory and the chunk's number as nonce. Only whole chunks are sealed, each once;
//! the last one stays in memory, so the file's length needs no proof of its own.
//! If no file can be had, nothing is kept, and the source has to start again.
#![forbid(unsafe_code)]

use std::io;

use zeroize::Zeroizing;

use crate::crypto::cipher::{Cipher, TAG_LEN};
use crate::crypto::{self, Secret};
use crate::error::{Error, ErrorKind, Result};

/// Plaintext bytes of a sealed chunk.
pub const CHUNK: usize = 64 * 1024;

/// Bytes kept in memory before a file is needed: a whole number of chunks.
pub const MEMORY: usize = 16 * CHUNK;

const SEALED: usize = CHUNK + TAG_LEN;

/// Where sealed chunks are kept.
pub trait File {
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As the file system.
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `out` with what was written at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file has become shorter.
    fn read_at(&mut self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

/// How much was taken of the bytes that were offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes; offer the rest next.
    Bytes(usize),
    /// Nothing: memory is full, and [`Spool::set_file`] has to be called first.
    NeedsFile,
}

/// The data of one source. What is in memory is wiped on drop.
pub struct Spool<F> {
    keep: Keep<F>,
    /// Plaintext from `start` on. In memory: all of it. With a file: what is not sealed yet.
    /// Where nothing is kept: what the source gave last.
    tail: Secret,
    start: u64,
    key: Zeroizing<[u8; 32]>,
    lent: ReadBuffer,
    failure: Option<io::Error>,
}

enum Keep<F> {
    Memory,
    Sealed(F),
    Nothing,
}

/// What is lent to the reader, in one piece.
#[derive(Default)]
struct ReadBuffer {
    plain: Secret,
    start: u64,
}

impl<F: File> Spool<F> {
    /// An empty spool.
    ///
    /// # Errors
    /// [`ErrorKind::Crypto`] if there are no random bytes for the key.
    pub fn new() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        crypto::random(&mut *key)?;
        Ok(Spool {
            keep: Keep::Memory,
            tail: Secret::default(),
            start: 0,
            key,
            lent: ReadBuffer::default(),
            failure: None,
        })
    }

    /// The offset from which the source has to continue so that `offset` can be read.
    pub fn wants(&self, offset: u64) -> u64 {
        match self.keep {
            Keep::Memory | Keep::Sealed(_) => self.end(),
            Keep::Nothing => offset,
        }
    }

    /// Whether everything from the start to where the source is can be read without the source.
    pub fn keeps(&self) -> bool {
        !matches!(self.keep, Keep::Nothing)
    }

    /// Why nothing is kept any more; answered once.
    pub fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Takes what the source has at `offset`, which is what [`Spool::wants`] said.
    ///
    /// # Errors
    /// Internal if it isn't; else as libcrypto.
    pub fn take(&mut self, offset: u64, data: &[u8]) -> Result<Taken> {
        let end = self.end();
        match &mut self.keep {
            Keep::Nothing => {
                let data = &data[..data.len().min(CHUNK)];
                self.tail = Secret::new(data.to_vec());
                self.start = offset;
                Ok(Taken::Bytes(data.len()))
            }
            _ if offset != end => Err(out_of_order()),
            Keep::Memory if self.tail.len() + data.len() > MEMORY => Ok(Taken::NeedsFile),
            Keep::Memory => {
                self.tail.extend_from_slice(data);
                Ok(Taken::Bytes(data.len()))
            }
            Keep::Sealed(_) => {
                let data = &data[..data.len().min(CHUNK - self.tail.len())];
                self.tail.extend_from_slice(data);
                self.seal()?;
                Ok(Taken::Bytes(data.len()))
            }
        }
    }

    /// Gives the spool its file, or none. A file that can't be written to counts as none.
    ///
    /// # Errors
    /// If libcrypto fails.
    pub fn set_file(&mut self, file: Option<F>) -> Result<()> {
        match (file, &self.keep) {
            (Some(file), Keep::Memory) => {
                self.keep = Keep::Sealed(file);
                self.seal()
            }
            _ => {
                self.keep = Keep::Nothing;
                Ok(())
            }
        }
    }

    /// Lends the data from `keep` (what the reader hasn't consumed; at most `next`) to somewhere
    /// beyond `next`. `None` if the source has to give more first; what was lent stays.
    ///
    /// # Errors
    /// Tampered or truncated: the file is not what was written.
    pub fn read(&mut self, keep: u64, next: u64) -> Result<Option<&[u8]>> {
        let keep = keep.min(next);
        if !self.lent.covers(keep, next) {
            self.lent.restart(keep);
        }
        while self.lent.end() <= next {
            let at = self.lent.end();
            let behind = at.checked_sub(self.start).map(usize::try_from);
            if let Some(Ok(i)) = behind {
                let Some(rest) = self.tail.get(i..).filter(|rest| !rest.is_empty()) else {
                    return Ok(None);
                };
                self.lent.push(keep, &rest[..rest.len().min(CHUNK)]);
            } else if let Keep::Sealed(file) = &mut self.keep {
                let plain = open(file, &self.key, at / CHUNK as u64)?;
                let skip = usize::try_from(at % CHUNK as u64).unwrap_or(CHUNK);
                self.lent.push(keep, plain.get(skip..).unwrap_or_default());
            } else {
                return Ok(None);
            }
        }
        Ok(Some(self.lent.from(keep)))
    }

    fn end(&self) -> u64 {
        self.start + self.tail.len() as u64
    }

    /// Moves the whole chunks of the tail into the file.
    fn seal(&mut self) -> Result<()> {
        let Keep::Sealed(file) = &mut self.keep else {
            return Ok(());
        };
        let whole = self.tail.len() / CHUNK * CHUNK;
        for (i, plain) in self.tail[..whole].chunks(CHUNK).enumerate() {
            let number = self.start / CHUNK as u64 + i as u64;
            let sealed = seal(&self.key, number, plain)?;
            if let Err(e) = file.write_at(&sealed, number * SEALED as u64) {
                self.failure = Some(e);
                // Closes the file, which frees its space.
                self.keep = Keep::Nothing;
                return Ok(());
            }
        }
        let mut rest = Secret::with_capacity(CHUNK);
        rest.extend_from_slice(&self.tail[whole..]);
        self.tail = rest;
        self.start += whole as u64;
        Ok(())
    }
}

impl ReadBuffer {
    fn end(&self) -> u64 {
        self.start + self.plain.len() as u64
    }

    fn covers(&self, keep: u64, next: u64) -> bool {
        self.start <= keep && next <= self.end()
    }

    fn restart(&mut self, at: u64) {
        self.plain.wipe();
        self.start = at;
    }

    fn from(&self, keep: u64) -> &[u8] {
        let skip = usize::try_from(keep - self.start).unwrap_or(usize::MAX);
        self.plain.get(skip..).unwrap_or_default()
    }

    /// Appends, and drops what comes before `keep`.
    fn push(&mut self, keep: u64, data: &[u8]) {
        let used = usize::try_from(keep - self.start).unwrap_or(usize::MAX);
        let used = used.min(self.plain.len());
        self.plain.drop_front(used);
        self.start += used as u64;
        self.plain.extend_from_slice(data);
    }
}

/// No nonce is used twice: each chunk is sealed once.
fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

fn seal(key: &[u8; 32], number: u64, plain: &[u8]) -> Result<Vec<u8>> {
    let mut stream = Cipher::AES_256_GCM.encrypt(key, &nonce(number), b"")?;
    let mut sealed = Vec::with_capacity(SEALED);
    stream.update(plain, &mut sealed)?;
    stream.finish(&mut sealed)?;
    sealed.extend_from_slice(&stream.tag()?);
    Ok(sealed)
}

fn open<F: File>(file: &mut F, key: &[u8; 32], number: u64) -> Result<Secret> {
    let mut sealed = vec![0; SEALED];
    file.read_at(&mut sealed, number * SEALED as u64)
        .map_err(unreadable)?;
    let (data, tag) = sealed.split_at(CHUNK);
    Cipher::AES_256_GCM
        .open(key, &nonce(number), b"", data, tag)
        .map_err(|e| e.context("temporary file"))
}

fn unreadable(e: io::Error) -> Error {
    let kind = match e.kind() {
        io::ErrorKind::UnexpectedEof => ErrorKind::Truncated,
        _ => ErrorKind::Store,
    };
    Error::new(kind, format!("temporary file can't be read: {e}"))
}

fn out_of_order() -> Error {
    Error::internal("spooled out of order")
}

#[cfg(test)]
mod tests;
