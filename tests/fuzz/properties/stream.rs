//! Streams: reading any bytes, damaged streams, and what we write ourselves.

use std::cell::RefCell;

use mail_crypt_core::format::stream::{Header, MAX_ROUNDS, header_len};
use mail_crypt_core::key::PrivateKey;
use mail_crypt_core::stream::{
    Algorithm, Body, Encryptor, Feed, Guard, Integrity, Limits, MAGIC, Opener, SecretCache, Sender,
    Verified, Version,
};
use mail_crypt_core::{Error, ErrorKind, Result};

use super::{Input, Pieces, test_keys, vectors};

/// Everything comes out as one buffer.
const SMALL: Limits = Limits {
    small: usize::MAX / 2,
    chunk: 64,
};

/// More rounds than this are honoured too, but take a fuzzer's time.
const FAST_ROUNDS: u32 = 4096;

thread_local! {
    static KEYS: Vec<PrivateKey> = test_keys();
    /// One for all inputs: what one stream leaves here mustn't change how the next is read.
    static SECRETS: RefCell<SecretCache> = RefCell::new(SecretCache::new(64));
}

fn open<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: Limits,
    secrets: &mut SecretCache,
) -> Result<Body> {
    let mut opener = Opener::new(limits);
    for piece in pieces {
        if let Feed::NeedKey(ids) = opener.feed(piece)? {
            KEYS.with(|keys| {
                let key = keys.iter().find(|k| ids.iter().any(|id| k.matches(id)));
                let key = key.ok_or_else(|| Error::new(ErrorKind::NoKey, "none of ours"))?;
                opener.unlock(key, secrets)
            })?;
        }
    }
    opener.finish()
}

fn open_whole(file: &[u8], limits: Limits) -> Result<Body> {
    SECRETS.with_borrow_mut(|secrets| open([file].into_iter(), limits, secrets))
}

fn open_in_pieces(file: &[u8], limits: Limits) -> Result<Body> {
    open(Pieces::of(file), limits, &mut SecretCache::default())
}

/// A chunk's plaintext, of a file that may have changed.
fn chunk(mail: &Verified, number: usize, file: &[u8]) -> Result<Vec<u8>> {
    let (at, len) = mail.ciphertext_range(number);
    let at = usize::try_from(at).unwrap().min(file.len());
    let plain = mail.decrypt_chunk(number, &file[at..(at + len).min(file.len())])?;
    Ok(plain.to_vec())
}

/// Everything that a body has in `file`, the chunks backwards.
fn read(body: &Body, file: &[u8]) -> Vec<u8> {
    let mail = match body {
        Body::Small(plain) => return plain.to_vec(),
        Body::Large(mail) => mail,
    };
    let chunks: Vec<Vec<u8>> = (0..mail.chunk_count())
        .rev()
        .map(|number| chunk(mail, number, file).expect("it was verified"))
        .collect();
    let plain: Vec<u8> = chunks.into_iter().rev().flatten().collect();
    assert_eq!(plain.len() as u64, mail.plain_size());
    plain
}

/// What can be compared of an outcome.
fn outcome(file: &[u8], result: &Result<Body>) -> std::result::Result<Vec<u8>, String> {
    match result {
        Ok(body) => Ok(read(body, file)),
        Err(e) => Err(format!("{:?}: {e}", e.kind())),
    }
}

/// Whether the header is worked through in no time.
fn is_fast(file: &[u8]) -> bool {
    let Ok(Some(len)) = header_len(file) else {
        return true;
    };
    match file.get(..len).map(Header::parse) {
        Some(Ok(header)) => {
            assert!(header.rounds <= MAX_ROUNDS);
            header.rounds <= FAST_ROUNDS
        }
        _ => true,
    }
}

/// Opens a file in one piece and in many, kept and in chunks: always with the same outcome.
fn open_all_ways(file: &[u8]) -> Result<Body> {
    let chunked = Limits {
        small: (Pieces::of(file).number() % 200) as usize,
        chunk: 64 << (Pieces::of(file).number() % 3),
    };
    let whole = open_whole(file, SMALL);
    let expected = outcome(file, &whole);
    assert_eq!(outcome(file, &open_in_pieces(file, SMALL)), expected);
    let large = open_whole(file, chunked);
    assert_eq!(outcome(file, &large), expected);
    assert_eq!(outcome(file, &open_in_pieces(file, chunked)), expected);
    if large.is_ok() { large } else { whole }
}

/// Any bytes as a file.
pub(crate) fn bytes(file: &[u8]) {
    if !is_fast(file) {
        return;
    }
    if let Ok(body) = open_all_ways(file) {
        one_bit_in_a_chunk_is_noticed(&body, file);
    }
}

/// A large mail that is changed between the check and the reading.
fn one_bit_in_a_chunk_is_noticed(body: &Body, file: &[u8]) {
    let Body::Large(mail) = body else { return };
    let mut file = file.to_vec();
    for number in 0..mail.chunk_count().min(4) {
        let (at, len) = mail.ciphertext_range(number);
        let at = at as usize + (number * 31) % len;
        file[at] ^= 1;
        assert!(chunk(mail, number, &file).is_err());
        file[at] ^= 1;
    }
}

/// Streams of one plaintext that prove it.
const PROVING: [&[u8]; 17] = vectors![
    "streams/p256.aes-256-gcm-sha256",
    "streams/p256.aes-256-cbc-sha256",
    "streams/p256.aes-128-cfb-sha256",
    "streams/p256.aes-256-ofb-sha256",
    "streams/p256.camellia-256-ctr-sha256",
    "streams/p256.des-ede3-cbc-sha256",
    "streams/p256.aria-128-gcm-sha256",
    "streams/p256.id-aes256-GCM-sha256",
    "streams/p256.lib-24-chacha",
    "streams/p256.lib-24-same-cbc",
    "streams/p256.lib-24-same-chacha",
    "streams/p256.lib-24-same-gcm",
    "streams/p256.mail-24-chacha",
    "streams/p521.aes-256-gcm-sha256",
    "streams/rsa.aes-256-cbc-sha256",
    "streams/x25519.mail-24",
    "streams/x448.mail-24",
];

/// A written stream, damaged: it opens to what was written, or not at all. And where it is
/// damaged after it was checked, no chunk is anything but what it was.
pub(crate) fn damage(data: &[u8]) {
    let plain = vectors!["streams/plain"][0];
    let mut input = Input(data);
    let original = *input.pick(&PROVING);
    let chunk_size = 64 << (input.byte() % 3);
    let mut file = original.to_vec();
    while !input.is_empty() && file.len() < 4096 {
        damage_once(&mut file, &mut input);
    }
    if !is_fast(&file) {
        return;
    }
    if let Ok(body) = open_all_ways(&file) {
        // Nothing in the format tells an emptied file from one that was written empty.
        let expected = if file.is_empty() { b"" } else { plain };
        assert_eq!(read(&body, &file), expected);
    }
    let limits = Limits {
        small: 0,
        chunk: chunk_size,
    };
    let Ok(Body::Large(mail)) = open_whole(original, limits) else {
        panic!("an undamaged stream");
    };
    for (number, expected) in plain.chunks(chunk_size).enumerate() {
        if let Ok(got) = chunk(&mail, number, &file) {
            assert_eq!(got, expected);
        }
    }
}

fn damage_once(file: &mut Vec<u8>, input: &mut Input<'_>) {
    let kind = input.byte();
    let at = input.below(file.len());
    let end = (at + 1 + usize::from(input.byte())).min(file.len());
    match kind % 8 {
        _ if file.is_empty() => file.extend_from_slice(input.bytes(9)),
        0 => file[at] ^= 1 << (kind >> 5),
        1 => file[at] = input.byte(),
        2 => drop(file.drain(at..end)),
        3 => drop(file.splice(at..at, input.bytes(end - at).iter().copied())),
        4 => file.truncate(at),
        5 => file.extend_from_within(at..end),
        6 => file[at..end].rotate_left(1),
        _ => {
            // From where another stream has the same.
            let other = *input.pick(&PROVING);
            let end = end.min(other.len());
            if at < end {
                file[at..end].copy_from_slice(&other[at..end]);
            }
        }
    }
}

const ALGORITHMS: [&str; 10] = [
    "aes-256-gcm-sha256",
    "aes-128-gcm-sha512",
    "chacha20-poly1305-sha256",
    "aes-256-cbc-sha1",
    "aes-192-cfb-sha384",
    "aes-128-ofb-sha256",
    "camellia-256-ctr-sha256",
    "des-ede3-cbc-sha256",
    "aria-256-gcm-sha3-256",
    "sm4-ofb-sha256",
];

/// What is written, in whatever pieces, is what is read.
pub(crate) fn roundtrip(data: &[u8]) {
    let mut input = Input(data);
    let algorithm: Algorithm = input.pick(&ALGORITHMS).parse().unwrap();
    let which = usize::from(input.byte());
    let mut version = match input.byte() % 4 {
        0 => Version::V1,
        _ => Version::V2,
    };
    let plain = input.0;
    let mut sender = KEYS.with(|keys| Sender::new(keys[which % keys.len()].public()));
    let encryptor = Encryptor::new(&algorithm, version, &mut sender).or_else(|_| {
        assert_eq!(version, Version::V1);
        version = Version::V2;
        Encryptor::new(&algorithm, version, &mut sender)
    });
    let mut encryptor = encryptor.unwrap();
    let mut file = Vec::new();
    for piece in Pieces::of(plain) {
        encryptor.update(piece, &mut file).unwrap();
    }
    encryptor.finish(&mut file).unwrap();
    assert_eq!(file.is_empty(), plain.is_empty());
    let body = open_all_ways(&file).expect("what we wrote");
    assert_eq!(read(&body, &file), plain);
    if let Some(len) = header_len(&file).unwrap() {
        let proven = Header::parse(&file[..len]).unwrap().integrity != Integrity::None;
        assert_eq!(proven, version == Version::V2);
    }
    guard(plain);
}

/// Plaintext is stored as it is, or refused if it looks encrypted.
fn guard(plain: &[u8]) {
    let mut guard = Guard::default();
    let mut out = Vec::new();
    for piece in Pieces::of(plain) {
        guard.update(piece, &mut out);
    }
    let refused = plain.starts_with(&MAGIC);
    assert_eq!(guard.finish(&mut out).is_err(), refused);
    assert_eq!(out, if refused { b"" } else { plain });
}
