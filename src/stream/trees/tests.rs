//! The files in `tests/vectors/trees` were written by TREES itself; others are made here.

use super::*;
use crate::ErrorKind;
use crate::crypto::sodium::tests::seal;
use crate::format::trees::MAGIC;
use crate::hex;
use crate::key::trees::{LockedTreesKey, Stretch};

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/vectors/trees/", $name)).as_slice()
    };
}

const PRIVATE: [u8; 32] = [0x42; 32];

/// Whose files [`file`] makes.
pub(crate) fn key() -> TreesKey {
    TreesKey::new(&PRIVATE).unwrap()
}

/// A file of TREES, to [`key`].
pub(crate) fn file(plain: &[u8]) -> Vec<u8> {
    let mut file = [MAGIC.as_slice(), &[0, 0, 0, 1]].concat();
    let public = key().public();
    let mut chunks: Vec<&[u8]> = plain.chunks(CHUNK).collect();
    if plain.len() % CHUNK == 0 {
        chunks.push(&[]);
    }
    for chunk in chunks {
        file.extend(seal(public, chunk));
    }
    file
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251 + i) as u8).collect()
}

fn open_with(key: &TreesKey, mut opener: TreesOpener, file: &[u8], pieces: usize) -> Result<Body> {
    for piece in file.chunks(pieces) {
        if opener.feed(piece)? == TreesFeed::NeedKey {
            opener.unlock(key.clone())?;
        }
    }
    opener.finish()
}

fn open(file: &[u8]) -> Result<Secret> {
    match open_with(&key(), TreesOpener::default(), file, usize::MAX)? {
        Body::Small(plain) => Ok(plain),
        Body::Large(_) => panic!("not small"),
    }
}

fn kind(file: &[u8]) -> ErrorKind {
    open(file).map(|_| ()).unwrap_err().kind()
}

fn read_chunk(mail: &Verified, number: usize, file: &[u8]) -> Result<Secret> {
    let (at, len) = mail.ciphertext_range(number);
    mail.decrypt_chunk(number, &file[at as usize..at as usize + len])
}

fn read(mail: &Verified, file: &[u8]) -> Vec<u8> {
    let chunk = |number| read_chunk(mail, number, file).unwrap().to_vec();
    (0..mail.chunk_count()).flat_map(chunk).collect()
}

/// The private key of a user in the vectors.
fn user(fields: &str) -> (LockedTreesKey, Stretch) {
    let field = |name: &str| {
        let prefix = format!("trees_{name}=");
        let mut lines = fields.lines();
        lines.find_map(|line| line.strip_prefix(&prefix)).unwrap()
    };
    let bytes = |name| hex::decode(field(name)).unwrap();
    let number = |name| field(name).parse().unwrap();
    let locked = LockedTreesKey {
        secretbox: bytes("locked_secretbox")[..].try_into().unwrap(),
        nonce: bytes("sk_nonce")[..].try_into().unwrap(),
    };
    let (passes, memory) = (number("pwhash_opslimit"), number("pwhash_memlimit"));
    let salt = bytes("pwhash_salt")[..].try_into().unwrap();
    let stretch = Stretch::new(number("pwhash_algo"), passes, memory, salt).unwrap();
    (locked, stretch)
}

fn user_key(fields: &[u8]) -> TreesKey {
    let (locked, stretch) = user(std::str::from_utf8(fields).unwrap());
    locked
        .open_with_password(b"c0rrect-h0rse", &stretch)
        .unwrap()
}

#[test]
fn a_users_key_opens_with_the_password_or_with_what_it_becomes() {
    for (fields, unlock) in [
        (vector!("argon2i.fields"), vector!("argon2i.secretbox-key")),
        (
            vector!("argon2id.fields"),
            vector!("argon2id.secretbox-key"),
        ),
    ] {
        let fields = std::str::from_utf8(fields).unwrap();
        let (locked, stretch) = user(fields);
        let key = locked
            .open_with_password(b"c0rrect-h0rse", &stretch)
            .unwrap();
        assert!(fields.contains(&format!("trees_public_key={}", hex::encode(&key.public()))));
        let unlock = hex::decode(std::str::from_utf8(unlock).unwrap().trim()).unwrap();
        let unlock: [u8; 32] = unlock[..].try_into().unwrap();
        assert_eq!(locked.open(&unlock).unwrap().public(), key.public());
        let wrong = locked.open_with_password(b"c0rrect-h0rsE", &stretch);
        assert!(wrong.is_err_and(|e| e.kind() == ErrorKind::WrongPassword));
    }
}

#[test]
fn what_trees_wrote_is_read() {
    let argon2i = user_key(vector!("argon2i.fields"));
    let argon2id = user_key(vector!("argon2id.fields"));
    let sums = std::str::from_utf8(vector!("SHA256SUMS")).unwrap();
    for (name, key, file) in [
        ("short", &argon2i, vector!("short.trees")),
        ("chunk-less-1", &argon2id, vector!("chunk-less-1.trees")),
        ("chunk", &argon2id, vector!("chunk.trees")),
        ("chunk-and-1", &argon2id, vector!("chunk-and-1.trees")),
        ("chunks", &argon2id, vector!("chunks.trees")),
    ] {
        let sum = sums.lines().find_map(|line| line.strip_suffix(name));
        let sum = sum.unwrap().trim();
        for pieces in [1, 54, 4096, 8240, 8247, usize::MAX] {
            let opener = TreesOpener::default();
            let Body::Small(plain) = open_with(key, opener, file, pieces).unwrap() else {
                panic!("{name} isn't small");
            };
            let hash = Digest::Sha256.hash(&[&plain]).unwrap();
            assert_eq!(hex::encode(&hash), sum, "{name} in pieces of {pieces}");
        }
    }
    let other = open_with(
        &argon2i,
        TreesOpener::default(),
        vector!("chunk.trees"),
        100,
    );
    assert!(other.is_err_and(|e| e.kind() == ErrorKind::Tampered));
}

#[test]
fn a_mail_of_any_size_is_read_whole_and_in_parts() {
    for len in [
        0,
        1,
        8191,
        8192,
        8193,
        16384,
        3 * 8192 + 5,
        4 * 8192,
        9 * 8192,
    ] {
        let plain = text(len);
        let file = file(&plain);
        assert_eq!(*open(&file).unwrap(), *plain);
        for (at_once, pieces) in [(1, 5000), (2, 5000), (2, usize::MAX), (16, 8247)] {
            let opener = TreesOpener::new(0, at_once);
            match open_with(&key(), opener, &file, pieces).unwrap() {
                Body::Small(plain) => assert!(len == 0 && plain.is_empty()),
                Body::Large(mail) => {
                    assert_eq!(mail.plain_size(), len as u64);
                    assert_eq!(mail.chunk_size(), at_once * CHUNK);
                    assert_eq!(read(&mail, &file), plain);
                    assert!(mail.to_record().is_none());
                }
            }
        }
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let file = file(&text(CHUNK + 100));
    for at in (0..file.len()).step_by(61).chain(0..HEADER + SEAL) {
        let mut changed = file.clone();
        changed[at] ^= 1 << (at % 8);
        let expected = match at {
            0..3 => ErrorKind::Corrupt,
            3..7 => ErrorKind::Unsupported,
            // libsodium, too, ignores the last bit of an X25519 key; the nonce is made from it as it stands.
            _ => ErrorKind::Tampered,
        };
        assert_eq!(kind(&changed), expected, "byte {at}");
    }
}

#[test]
fn a_file_that_ends_early_is_truncated_or_tampered_with() {
    let file = file(&text(2 * CHUNK + 100));
    for len in 0..file.len() {
        // Opening is slow, and all lengths within a chunk are alike.
        if len > 200 && len % 97 != 0 && (len - HEADER) % SEALED_CHUNK > SEAL + 1 {
            continue;
        }
        let last = len.saturating_sub(HEADER) % SEALED_CHUNK;
        let expected = match (len, last) {
            (..=HEADER, _) | (_, ..SEAL) => ErrorKind::Truncated,
            _ => ErrorKind::Tampered,
        };
        assert_eq!(kind(&file[..len]), expected, "{len} bytes");
    }
    let mut longer = file.clone();
    longer.push(0);
    assert_eq!(kind(&longer), ErrorKind::Tampered);
}

#[test]
fn what_the_format_does_not_prove_is_not_claimed() {
    let plain = text(3 * CHUNK + 9);
    let file = file(&plain);
    let chunk = |n: usize| &file[HEADER + n * SEALED_CHUNK..][..SEALED_CHUNK];
    let last = &file[HEADER + 3 * SEALED_CHUNK..];
    let swapped = [&file[..HEADER], chunk(1), chunk(0), chunk(2), last].concat();
    assert_ne!(*open(&swapped).unwrap(), *plain);
    let shorter = [&file[..HEADER], chunk(0), last].concat();
    assert_eq!(open(&shorter).unwrap().len(), CHUNK + 9);
}

#[test]
fn a_chunk_that_changed_since_it_was_checked_is_not_served() {
    let plain = text(5 * CHUNK + 9);
    let mut file = file(&plain);
    let opener = TreesOpener::new(0, 2);
    let Body::Large(mail) = open_with(&key(), opener, &file, 100).unwrap() else {
        panic!("not large");
    };
    assert_eq!(mail.chunk_count(), 3);
    // Chunks that open by themselves, in each other's place.
    let (first, second) = file[HEADER..].split_at_mut(SEALED_CHUNK);
    first.swap_with_slice(&mut second[..SEALED_CHUNK]);
    let e = read_chunk(&mail, 0, &file);
    assert!(e.is_err_and(|e| e.kind() == ErrorKind::Tampered));
    assert_eq!(
        *read_chunk(&mail, 1, &file).unwrap(),
        plain[2 * CHUNK..4 * CHUNK]
    );
    let last = mail.decrypt_chunk(2, &file[file.len() - 20..]);
    assert!(last.is_err_and(|e| e.kind() == ErrorKind::Truncated));
}

#[test]
fn nothing_is_taken_without_a_key() {
    let file = file(b"text");
    let mut opener = TreesOpener::default();
    assert!(opener.id().is_err());
    assert_eq!(opener.feed(&file).unwrap(), TreesFeed::NeedKey);
    opener.id().unwrap();
    assert!(opener.feed(b"more").is_err());
    let mut opener = TreesOpener::default();
    opener.feed(&file).unwrap();
    assert!(opener.finish().is_err());
}
