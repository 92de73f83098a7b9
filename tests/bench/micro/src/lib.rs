//! What the benches share: keys, mails, and streams as both writers make them.
#![forbid(unsafe_code)]

use std::fmt;

use mail_crypt_core::Result;
use mail_crypt_core::crypto::cipher::{MARGIN, aes256_cbc_encrypt};
use mail_crypt_core::format::stream::{Header, Version, header_len};
use mail_crypt_core::key::{KeyType, PrivateKey};
use mail_crypt_core::stream::{
    Algorithm, Body, Encryptor, Feed, Limits, Opener, SecretCache, Sender,
};

/// How much is read from a file, or written to one, at a time, as the C streams do it.
pub const PIECE: usize = 128 * 1024;

/// The packaged plugin's PBKDF2 rounds.
const PACKAGED_ROUNDS: u32 = 2048;

/// Who wrote a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// We: the rounds field says 1.
    Ours,
    /// The packaged plugin: it says 2048.
    Packaged,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Writer::Ours => "ours",
            Writer::Packaged => "packaged",
        })
    }
}

/// Text that looks like a mail, `size` bytes of it.
pub fn mail(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..size)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if i % 76 == 75 {
                b'\n'
            } else {
                b'a' + (state >> 24) as u8 % 26
            }
        })
        .collect()
}

/// A file with `plain` for the owner of `key`.
pub fn file(
    plain: &[u8],
    key: &PrivateKey,
    algorithm: &Algorithm,
    writer: Writer,
) -> Result<Vec<u8>> {
    let mut sender = Sender::new(key.public());
    let mut encryptor = Encryptor::new(algorithm, Version::V2, &mut sender)?;
    let block = encryptor.content_key().clone();
    let mut file = Vec::new();
    encryptor.update(plain, &mut file)?;
    encryptor.finish(&mut file)?;
    if writer == Writer::Ours || key.key_type() == KeyType::Rsa {
        return Ok(file);
    }
    let end = header_len(&file)?.unwrap_or_default();
    let mut header = Header::parse(&file[..end])?;
    let (ephemeral, shared) = key.public().agree_ephemeral()?;
    let secret = header
        .digest
        .pbkdf2(&shared, &ephemeral, PACKAGED_ROUNDS, 48)?;
    header.rounds = PACKAGED_ROUNDS;
    header.recipients[0].wrapped =
        aes256_cbc_encrypt(&secret[..32], &secret[32..], block.as_bytes())?.to_vec();
    header.recipients[0].ephemeral = ephemeral;
    Ok([header.write()?.as_slice(), &file[end..]].concat())
}

/// Checks a mail as far as that goes before the first byte is served; `unlock` has the key.
pub fn open(file: &[u8], unlock: impl FnOnce(&mut Opener) -> Result<()>) -> Result<Body> {
    let mut opener = Opener::new(Limits::default());
    let mut unlock = Some(unlock);
    for piece in file.chunks(PIECE) {
        if let Feed::NeedKey(_) = opener.feed(piece)? {
            if let Some(unlock) = unlock.take() {
                unlock(&mut opener)?;
            }
        }
    }
    opener.finish()
}

/// The same with a private key, and what the session remembers.
pub fn open_with(file: &[u8], key: &PrivateKey, secrets: &mut SecretCache) -> Result<Body> {
    open(file, |opener| opener.unlock(key, secrets))
}

/// Serves all of an opened mail, as it would go to a client. Returns how much that was.
pub fn serve(file: &[u8], body: &Body, room: &mut Vec<u8>) -> Result<usize> {
    let verified = match body {
        Body::Small(plain) => return Ok(plain.len()),
        Body::Large(verified) => verified,
    };
    let mut served = 0;
    for chunk in 0..verified.chunk_count() {
        let (at, len) = verified.ciphertext_range(chunk);
        let at = at as usize;
        room.resize(len + MARGIN, 0);
        served += verified.open_chunk(chunk, &file[at..at + len], room)?;
    }
    Ok(served)
}
