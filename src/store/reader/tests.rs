use super::*;
use crate::key::{KeyId, PrivateKey};
use crate::stream::{Algorithm, Encryptor, SecretCache, Sender, Version};

struct OneKey(PrivateKey, Memory);

impl KeySource for OneKey {
    fn private_key(&mut self, _: &[KeyId], _: Option<&mut dyn Attributes>) -> Result<PrivateKey> {
        Ok(self.0.clone())
    }

    fn memory(&mut self) -> &mut Memory {
        &mut self.1
    }

    fn cache_secret(&mut self, key: &PrivateKey) -> Result<Option<Secret>> {
        index_cache::derive(key).map(Some)
    }
}

fn state(file: &[u8], changed: u64) -> FileState {
    FileState {
        size: file.len() as u64,
        changed,
        inode: 1,
    }
}

/// A mail of several chunks, opened.
fn large() -> (Reader, Vec<u8>, Vec<u8>) {
    let key = PrivateKey::generate("prime256v1").unwrap();
    let plain: Vec<u8> = (0..400_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut sender = Sender::new(key.public());
    let mut encryptor = Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
    let mut file = Vec::new();
    encryptor.update(&plain, &mut file).unwrap();
    encryptor.finish(&mut file).unwrap();
    let keys = Rc::new(RefCell::new(OneKey(key, Memory::new(1))));
    let mut reader = Reader::new(keys, state(&file, 1));
    assert!(reader.feed(&file, None).unwrap());
    (reader, file, plain)
}

/// What `reader` serves of `file` at `offset`.
fn serve(reader: &mut Reader, offset: u64, file: &[u8]) -> Result<Vec<u8>> {
    let keep = offset.saturating_sub(100);
    let Served::Needs(from, size) = reader.want(keep, offset)? else {
        panic!("nothing of it has been decrypted");
    };
    let part = &file[from as usize..from as usize + size];
    Ok(reader.serve(keep, offset, part)?.unwrap().to_vec())
}

#[test]
fn a_refused_mail_is_served_no_more() {
    let (mut reader, file, plain) = large();
    assert_eq!(reader.size().unwrap(), plain.len() as u64);
    reader.refuse();
    assert!(reader.size().is_err());
    assert!(serve(&mut reader, 0, &file).is_err());
    assert!(reader.failed_alone());
}

#[test]
fn an_unknown_cache_field_is_an_error() {
    let (mut reader, ..) = large();
    assert!(reader.set_cached(3, b"").is_err());
    assert!(reader.cacheable(3).is_err());
}

#[test]
fn a_mail_that_was_changed_since_is_refused_when_it_is_opened_again() {
    let (mut reader, mut file, _) = large();
    let keys = Rc::clone(&reader.keys);
    let again = |file: &[u8]| Reader::new(Rc::clone(&keys), state(file, 1)).feed(file, None);
    assert!(again(&file).unwrap());
    *file.last_mut().unwrap() ^= 1;
    // Verified before; each part of it is looked at when it is served.
    assert!(again(&file).unwrap());
    let at = file.len() - 100_000;
    file[at] ^= 1;
    assert!(serve(&mut reader, 400_000 - 90_000, &file).is_err());
    let error = again(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered);
}

#[test]
fn a_mail_whose_file_was_touched_is_verified_again() {
    let (reader, mut file, _) = large();
    let at = file.len() - 100_000;
    file[at] ^= 1;
    let mut again = Reader::new(Rc::clone(&reader.keys), state(&file, 2));
    assert_eq!(
        again.feed(&file, None).unwrap_err().kind(),
        ErrorKind::Tampered
    );
}

#[test]
fn a_session_unwraps_the_content_key_of_a_mail_once() {
    let (reader, file, _) = large();
    reader.keys.borrow_mut().memory().secrets = SecretCache::default();
    let misses = || reader.keys.borrow_mut().memory().secrets.misses();
    let known = misses();
    let mut again = Reader::new(Rc::clone(&reader.keys), state(&file, 2));
    assert!(again.feed(&file, None).unwrap());
    assert_eq!(misses(), known);
}

/// A later session's reader of `file`, with what the first one left in the index cache.
fn later(first: &Reader, file: &[u8], changed: u64) -> Reader {
    let key = first.keys.borrow_mut().private_key(&[], None).unwrap();
    let keys = Rc::new(RefCell::new(OneKey(key, Memory::new(1))));
    let mut reader = Reader::new(keys, state(file, changed));
    reader.cached = first.cacheable.clone();
    reader
}

/// How much of a file's start a reader sees at first.
const START: usize = 1000;

#[test]
fn a_large_mail_is_read_whole_once_and_not_in_later_sessions() {
    let (first, file, plain) = large();
    let mut reader = later(&first, &file, 1);
    assert!(reader.feed(&file[..START], None).unwrap());
    assert!(reader.cacheable.iter().all(Option::is_none));
    assert!(plain.ends_with(&serve(&mut reader, 395_000, &file).unwrap()));
}

#[test]
fn no_part_is_served_by_the_index_cache_that_is_not_as_it_was_verified() {
    let (first, file, _) = large();
    for at in (START..file.len() - 16).step_by(9_973) {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let mut reader = later(&first, &bad, 1);
        let keys = Rc::clone(&reader.keys);
        let cached = reader.cached.clone();
        assert!(reader.feed(&bad[..START], None).unwrap());
        let mut offsets = (0..400_000).step_by(64 * 1024);
        assert!(
            offsets.any(|offset| serve(&mut reader, offset, &bad).is_err()),
            "byte {at}"
        );
        // From then on the cache isn't believed, and all of it is verified before it is served.
        let mut again = Reader::new(keys, state(&bad, 1));
        again.cached = cached;
        assert!(!again.feed(&bad[..START], None).unwrap());
        let error = again.feed(&bad[START..], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tampered);
    }
}

#[test]
fn a_file_that_may_have_changed_is_verified_whole() {
    let (first, file, _) = large();
    assert!(!later(&first, &file, 2).feed(&file[..START], None).unwrap());
    let longer = [&file[..], &[0]].concat();
    assert!(
        !later(&first, &longer, 1)
            .feed(&file[..START], None)
            .unwrap()
    );
    let mut known = later(&first, &file, 1);
    known.cached[CHANGED_FIELD] = Some(state(&file, 1).to_bytes().to_vec());
    assert!(!known.feed(&file[..START], None).unwrap());
    let mut put_back = later(&first, &file, 1);
    put_back.cached[CHANGED_FIELD] = Some(state(&file, 2).to_bytes().to_vec());
    assert!(put_back.feed(&file[..START], None).unwrap());
    let mut damaged = later(&first, &file, 1);
    damaged.cached[CHUNK_TAGS_FIELD].as_mut().unwrap()[40] ^= 1;
    assert!(!damaged.feed(&file[..START], None).unwrap());
    assert!(damaged.feed(&file[START..], None).unwrap());
}
