#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damage;
mod forge;
mod large;
mod legacy;
mod recorded_size;
mod roundtrip;
mod vectors;
mod window;

use super::*;
use crate::crypto::cipher::Cipher;
use crate::crypto::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::key::PrivateKey;

/// Everything comes out as one buffer.
const SMALL: Limits = Limits {
    small: 1 << 20,
    chunk: 64,
};
/// Everything goes through chunks of 64 bytes.
const LARGE: Limits = Limits {
    small: 0,
    chunk: 64,
};

fn key() -> PrivateKey {
    PrivateKey::generate("prime256v1").unwrap()
}

fn algorithm(name: &str) -> Algorithm {
    name.parse().unwrap()
}

/// Bytes that don't repeat within a chunk.
fn plain(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn seal_with(algorithm: &Algorithm, version: Version, to: &mut Sender, data: &[u8]) -> Vec<u8> {
    let mut encryptor = Encryptor::new(algorithm, version, to).unwrap();
    let mut file = Vec::new();
    encryptor.update(data, &mut file).unwrap();
    encryptor.finish(&mut file).unwrap();
    file
}

fn seal(key: &PrivateKey, data: &[u8]) -> Vec<u8> {
    let mut sender = Sender::new(key.public());
    seal_with(&Algorithm::default(), Version::V2, &mut sender, data)
}

/// Both phases over a file, fed whole.
fn open(key: &PrivateKey, limits: Limits, file: &[u8]) -> Result<Vec<u8>> {
    open_pieces(key, limits, &[file], &mut SecretCache::default())
}

/// Both phases over a file, fed in the given pieces.
fn open_pieces(
    key: &PrivateKey,
    limits: Limits,
    pieces: &[&[u8]],
    secrets: &mut SecretCache,
) -> Result<Vec<u8>> {
    let mut opener = Opener::new(limits);
    for piece in pieces {
        if let Feed::NeedKey(_) = opener.feed(piece)? {
            opener.unlock(key, secrets)?;
        }
    }
    read(opener.finish()?, &pieces.concat())
}

/// Phase two, and what must hold between its sizes and phase one's.
fn read(body: Body, file: &[u8]) -> Result<Vec<u8>> {
    let (size, plain) = match &body {
        Body::Small(plain) => (plain.len() as u64, plain.to_vec()),
        Body::Large(mail) => {
            let mut out = Vec::new();
            for chunk in 0..mail.chunk_count() {
                assert_eq!(out.len(), chunk * mail.chunk_size());
                out.extend_from_slice(&mail.decrypt_chunk(chunk, part(mail, chunk, file))?);
            }
            (mail.plain_size(), out)
        }
    };
    assert_eq!(plain.len() as u64, size);
    Ok(plain)
}

/// A chunk's ciphertext in its file.
fn part<'a>(mail: &Verified, chunk: usize, file: &'a [u8]) -> &'a [u8] {
    let (at, len) = mail.ciphertext_range(chunk);
    let at = at as usize;
    &file[at..at + len]
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("this must fail").kind()
}
