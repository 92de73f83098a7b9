use super::forge::Forge;
use super::*;
use crate::crypto::cipher::MARGIN;
use proptest::prelude::*;

fn verified(key: &PrivateKey, file: &[u8], limits: Limits) -> Verified {
    let mut opener = Opener::new(limits);
    opener.feed(file).unwrap();
    opener.unlock(key, &mut SecretCache::default()).unwrap();
    match opener.finish().unwrap() {
        Body::Large(mail) => *mail,
        Body::Small(_) => panic!("this mail is large"),
    }
}

/// One of each way to prove and to seek.
const KINDS: [(&str, Integrity); 10] = [
    ("aes-256-ofb", Integrity::Hmac),
    ("aria-128-gcm", Integrity::Aead),
    ("aes-256-gcm", Integrity::Aead),
    ("chacha20-poly1305", Integrity::Aead),
    ("aes-256-cbc", Integrity::Hmac),
    ("des-ede3-cbc", Integrity::Hmac),
    ("camellia-256-ctr", Integrity::Hmac),
    ("aes-128-cfb", Integrity::Hmac),
    ("aes-256-cbc", Integrity::None),
    ("chacha20-poly1305", Integrity::Hmac),
];

#[test]
fn chunks_can_be_read_in_any_order_and_again() {
    let key = key();
    for (cipher, integrity) in KINDS {
        let data = plain(1000);
        let file = Forge::new(cipher, integrity).write(&[&key], &data);
        let mail = verified(&key, &file, LARGE);
        for chunk in (0..mail.chunk_count()).rev().chain([3, 3, 0]) {
            let out = mail
                .decrypt_chunk(chunk, part(&mail, chunk, &file))
                .unwrap();
            let start = chunk * 64;
            assert_eq!(*out, data[start..(start + 64).min(1000)], "{cipher}");
        }
    }
}

#[test]
fn a_chunk_that_changed_after_the_check_is_never_served() {
    let key = key();
    for (cipher, integrity) in KINDS {
        let file = Forge::new(cipher, integrity).write(&[&key], &plain(300));
        let mail = verified(&key, &file, LARGE);
        for chunk in 0..mail.chunk_count() {
            let good = part(&mail, chunk, &file);
            for byte in 0..good.len() {
                let mut bad = good.to_vec();
                bad[byte] ^= 0x80 >> (byte % 8);
                let mut out = vec![0; bad.len() + MARGIN];
                let result = mail.open_chunk(chunk, &bad, &mut out);
                assert_eq!(kind(result), ErrorKind::Tampered, "{cipher}");
                assert!(out.iter().all(|byte| *byte == 0));
            }
        }
        // Chunks in each other's place, and the same place in another mail.
        let swapped = mail.decrypt_chunk(0, part(&mail, 1, &file));
        assert_eq!(kind(swapped), ErrorKind::Tampered);
        let other = Forge::new(cipher, integrity).write(&[&key], &plain(301)[1..]);
        let other = mail.decrypt_chunk(1, part(&mail, 1, &other));
        assert_eq!(kind(other), ErrorKind::Tampered);
    }
}

#[test]
fn a_file_that_became_shorter_is_truncated() {
    let key = key();
    let file = seal(&key, &plain(300));
    let mail = verified(&key, &file, LARGE);
    for chunk in 0..mail.chunk_count() {
        let good = part(&mail, chunk, &file);
        for len in [0, 1, good.len() - 1] {
            let result = mail.decrypt_chunk(chunk, &good[..len]);
            assert_eq!(kind(result), ErrorKind::Truncated);
        }
    }
}

#[test]
fn chunks_that_do_not_exist_are_errors() {
    let key = key();
    let file = seal(&key, &plain(300));
    let mail = verified(&key, &file, LARGE);
    assert_eq!(mail.chunk_count(), 5);
    assert_eq!(mail.ciphertext_range(4).1, 300 - 4 * 64);
    for chunk in [5, 6, usize::MAX] {
        assert_eq!(mail.ciphertext_range(chunk).1, 0);
        assert!(mail.decrypt_chunk(chunk, b"").is_err());
    }
    let more = mail.decrypt_chunk(0, &file[..65]);
    assert_eq!(kind(more), ErrorKind::Corrupt);
}

#[test]
fn only_mail_above_the_small_size_is_read_in_chunks() {
    let key = key();
    let limits = Limits {
        small: 200,
        chunk: 64,
    };
    for (len, large) in [(199, false), (200, false), (201, true)] {
        let file = seal(&key, &plain(len));
        let mut opener = Opener::new(limits);
        opener.feed(&file).unwrap();
        opener.unlock(&key, &mut SecretCache::default()).unwrap();
        let body = opener.finish().unwrap();
        assert_eq!(matches!(body, Body::Large(_)), large, "{len}");
    }
}

#[test]
fn a_large_mail_costs_little_memory() {
    let key = key();
    let len = 16 << 20;
    let mut sender = Sender::new(key.public());
    let mut e = Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
    let mut opener = Opener::default();
    let (data, mut file) = (plain(1 << 20), Vec::new());
    for _ in 0..len >> 20 {
        e.update(&data, &mut file).unwrap();
        if opener.feed(&file).unwrap() != Feed::More {
            opener.unlock(&key, &mut SecretCache::default()).unwrap();
        }
        file.clear();
    }
    e.finish(&mut file).unwrap();
    opener.feed(&file).unwrap();
    let Body::Large(mail) = opener.finish().unwrap() else {
        panic!("16 MiB are large")
    };
    assert_eq!((mail.plain_size(), mail.chunk_count()), (len, 128));
    assert_eq!((mail.tags.capacity(), mail.previous.capacity()), (128, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_chunk_size_serves_the_same_bytes(
        len in 1usize..3000, chunk in 0usize..600, which in 0..KINDS.len(), at: usize,
    ) {
        let key = key();
        let (cipher, integrity) = KINDS[which];
        let data = plain(len);
        let file = Forge::new(cipher, integrity).write(&[&key], &data);
        let mail = verified(&key, &file, Limits { small: 0, chunk });
        prop_assert!(mail.chunk_size() >= chunk.max(64) && mail.chunk_size() % 64 == 0);
        let at = at % len;
        let chunk = at / mail.chunk_size();
        let out = mail.decrypt_chunk(chunk, part(&mail, chunk, &file)).unwrap();
        prop_assert_eq!(out[at % mail.chunk_size()], data[at]);
    }
}
