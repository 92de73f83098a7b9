//! Mail that TREES wrote: reading any bytes, and what it wrote with chunks damaged and moved.

use std::cell::RefCell;

use mail_crypt_core::error::Result;
use mail_crypt_core::format::trees::{CHUNK, HEADER, SEALED_CHUNK, chunks, plain_size};
use mail_crypt_core::key::trees::TreesKey;
use mail_crypt_core::store::settings::Trees;
use mail_crypt_core::stream::{Body, TreesFeed, TreesOpener};
use zeroize::Zeroizing;

use super::{Input, Pieces, vectors};

const FILES: [&[u8]; 4] = vectors![
    "trees/chunk-less-1.trees",
    "trees/chunk.trees",
    "trees/chunk-and-1.trees",
    "trees/chunks.trees",
];

/// The key that they are sealed to.
fn key() -> TreesKey {
    thread_local! {
        static KEY: RefCell<Option<TreesKey>> = const { RefCell::new(None) };
    }
    KEY.with_borrow_mut(|key| key.get_or_insert_with(unlock).clone())
}

fn unlock() -> TreesKey {
    let [fields, unlock] = vectors!["trees/argon2id.fields", "trees/argon2id.secretbox-key"];
    let fields = std::str::from_utf8(fields).unwrap();
    let trees = Trees::load(&mut |name| {
        let mut lines = fields.lines().filter_map(|line| line.split_once('='));
        let value = match name {
            "trees_secretbox_key" => unlock,
            _ => lines.find(|(field, _)| *field == name)?.1.as_bytes(),
        };
        Some(Zeroizing::new(value.to_vec()))
    });
    trees.unlock().unwrap()
}

fn open<'a>(pieces: impl Iterator<Item = &'a [u8]>, mut opener: TreesOpener) -> Result<Body> {
    for piece in pieces {
        if opener.feed(piece)? == TreesFeed::NeedKey {
            opener.unlock(key())?;
        }
    }
    opener.finish()
}

fn read(body: &Body, file: &[u8]) -> Vec<u8> {
    let mail = match body {
        Body::Small(plain) => return plain.to_vec(),
        Body::Large(mail) => mail,
    };
    let chunk = |number| {
        let (at, len) = mail.ciphertext_range(number);
        let sealed = &file[at as usize..at as usize + len];
        mail.decrypt_chunk(number, sealed).unwrap().to_vec()
    };
    (0..mail.chunk_count()).flat_map(chunk).collect()
}

/// Any bytes as a file: the same outcome whole and in pieces, kept and in chunks, and as many bytes as its size says.
pub(crate) fn bytes(file: &[u8]) {
    let whole = open([file].into_iter(), TreesOpener::default());
    let pieces = open(Pieces::of(file), TreesOpener::new(0, 1));
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => {
            let plain = read(whole, file);
            assert_eq!(plain, read(pieces, file));
            assert_eq!(plain.len() as u64, plain_size(file.len() as u64).unwrap());
        }
        (Err(a), Err(b)) => assert_eq!((a.kind(), a.to_string()), (b.kind(), b.to_string())),
        _ => panic!("in pieces it is another file"),
    }
}

/// What TREES wrote, with one byte changed or its end missing, never opens; with chunks elsewhere, only to those chunks.
pub(crate) fn damage(data: &[u8]) {
    let mut input = Input(data);
    let file = *input.pick(&FILES);
    let plain = read(
        &open([file].into_iter(), TreesOpener::default()).unwrap(),
        file,
    );
    let mut changed = file.to_vec();
    match input.byte() % 3 {
        0 => changed[input.below(file.len())] ^= input.byte().max(1),
        1 => changed.truncate(input.below(file.len())),
        _ => return moved(file, &plain, &mut input),
    }
    bytes(&changed);
    assert!(open([&changed[..]].into_iter(), TreesOpener::default()).is_err());
}

fn moved(file: &[u8], plain: &[u8], input: &mut Input<'_>) {
    let (whole, _) = chunks(file.len() as u64).unwrap();
    let (whole, mut sealed, mut expected) = (whole as usize, file[..HEADER].to_vec(), Vec::new());
    for _ in 0..input.below(4).min(whole * 4) {
        let n = input.below(whole);
        sealed.extend_from_slice(&file[HEADER + n * SEALED_CHUNK..][..SEALED_CHUNK]);
        expected.extend_from_slice(&plain[n * CHUNK..][..CHUNK]);
    }
    sealed.extend_from_slice(&file[HEADER + whole * SEALED_CHUNK..]);
    expected.extend_from_slice(&plain[whole * CHUNK..]);
    let opened = open([&sealed[..]].into_iter(), TreesOpener::default()).unwrap();
    assert_eq!(read(&opened, &sealed), expected);
    bytes(&sealed);
}

/// Any text as a user's fields: a key, or an error that doesn't show them.
pub(crate) fn fields(data: &[u8]) {
    let mut input = Input(data);
    // Stretching takes a fuzzer's time.
    let memory = (8192 + input.below(64) * 1024).to_string();
    let text = String::from_utf8_lossy(input.0).into_owned();
    let trees = Trees::load(&mut |name| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let value = match name {
            "trees_enabled" => "1",
            "trees_pwhash_memlimit" => &memory,
            _ => lines.find(|(field, _)| *field == name)?.1,
        };
        Some(Zeroizing::new(value.as_bytes().to_vec()))
    });
    let _ = trees.unlock();
}
