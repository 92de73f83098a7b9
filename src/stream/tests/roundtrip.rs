use super::forge::Forge;
use super::*;
use crate::format::stream::header_len;
use proptest::prelude::*;
use std::time::Duration;

const ALGORITHMS: [&str; 14] = [
    "aes-192-ofb-sha256",
    "aria-256-gcm-sha256",
    "aes-256-gcm-sha256",
    "aes-128-gcm-sha1",
    "aes-192-gcm-sha512",
    "chacha20-poly1305-sha256",
    "aes-256-cbc-sha256",
    "aes-128-cbc-sha384",
    "aes-256-cfb-sha256",
    "camellia-256-cbc-sha256",
    "camellia-192-ctr-sha256",
    "aria-256-cbc-sha3-256",
    "des-ede3-cbc-sha1",
    "sm4-ctr-sha512",
];

#[test]
fn every_algorithm_reads_back_what_it_wrote() {
    let key = key();
    let mut secrets = SecretCache::default();
    for name in ALGORITHMS {
        let mut sender = Sender::new(key.public());
        for len in (0..400).step_by(13).chain([63, 64, 65, 127, 128, 129, 256]) {
            let data = plain(len);
            let file = seal_with(&algorithm(name), Version::V2, &mut sender, &data);
            for limits in [SMALL, LARGE] {
                let back = open_pieces(&key, limits, &[&file], &mut secrets).unwrap();
                assert_eq!(back, data, "{name}, {len} bytes");
            }
        }
    }
}

#[test]
fn every_length_reads_back() {
    let key = key();
    let mut secrets = SecretCache::default();
    let mut sender = Sender::new(key.public());
    for len in 0..400 {
        let data = plain(len);
        let file = seal_with(&Algorithm::default(), Version::V2, &mut sender, &data);
        for limits in [SMALL, LARGE] {
            let back = open_pieces(&key, limits, &[&file], &mut secrets).unwrap();
            assert_eq!(back, data, "{len} bytes");
        }
    }
}

#[test]
fn an_empty_mail_is_an_empty_file() {
    let key = key();
    for version in [Version::V1, Version::V2] {
        let mut sender = Sender::new(key.public());
        let file = seal_with(&Algorithm::default(), version, &mut sender, b"");
        assert!(file.is_empty());
    }
    let Body::Small(empty) = Opener::default().finish().unwrap() else {
        panic!("nothing is small")
    };
    assert!(empty.is_empty());
}

#[test]
fn a_header_with_nothing_after_it_is_an_empty_mail() {
    let key = key();
    for (cipher, integrity) in [
        ("aes-256-gcm", Integrity::Aead),
        ("camellia-256-ctr", Integrity::None),
        ("aes-256-cbc", Integrity::Hmac),
    ] {
        let file = Forge::new(cipher, integrity).write(&[&key], b"");
        assert_eq!(open(&key, SMALL, &file).unwrap(), b"", "{cipher}");
    }
}

#[test]
fn one_byte_at_a_time_is_enough() {
    let key = key();
    for name in ALGORITHMS {
        let mut sender = Sender::new(key.public());
        let file = seal_with(&algorithm(name), Version::V2, &mut sender, &plain(300));
        let bytes: Vec<&[u8]> = file.chunks(1).collect();
        for limits in [SMALL, LARGE] {
            let back = open_pieces(&key, limits, &bytes, &mut SecretCache::default());
            assert_eq!(back.unwrap(), plain(300), "{name}");
        }
    }
}

fn header(file: &[u8]) -> Header {
    let len = header_len(file).unwrap().unwrap();
    Header::parse(&file[..len]).unwrap()
}

#[test]
fn mails_of_one_sender_share_an_ephemeral_key_for_a_while() {
    let ephemeral = |file: &[u8]| header(file).recipients[0].ephemeral.clone();
    let key = key();
    let mut sender = Sender::new(key.public());
    let write = |sender: &mut Sender, algorithm: &Algorithm, version| {
        ephemeral(&seal_with(algorithm, version, sender, b"mail"))
    };
    let default = Algorithm::default();
    let first = write(&mut sender, &default, Version::V2);
    assert_eq!(write(&mut sender, &default, Version::V2), first);
    let sha512 = algorithm("aes-256-gcm-sha512");
    assert_ne!(write(&mut sender, &sha512, Version::V2), first);
    assert_ne!(write(&mut sender, &default, Version::V2), first);

    let mut once = Sender::new(key.public()).with_max_age(Duration::ZERO);
    let first = write(&mut once, &default, Version::V2);
    assert_ne!(write(&mut once, &default, Version::V2), first);

    // A keystream wraps version 1's keys: two under one would betray their difference.
    let first = write(&mut sender, &default, Version::V1);
    assert_ne!(write(&mut sender, &default, Version::V1), first);
}

#[test]
fn two_mails_never_share_a_key_block() {
    let key = key();
    let mut sender = Sender::new(key.public());
    let mut blocks = Vec::new();
    for _ in 0..50 {
        let e = Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
        blocks.push(e.content_key().as_bytes().to_vec());
    }
    blocks.sort();
    blocks.dedup();
    assert_eq!(blocks.len(), 50);
    assert!(blocks.iter().all(|block| block.len() == 60));
}

#[test]
fn what_we_write_says_one_round_and_one_recipient() {
    let key = key();
    let file = seal(&key, b"mail");
    let asked = Opener::default().feed(&file).unwrap();
    assert_eq!(asked, Feed::NeedKey(vec![key.id()]));
    let header = header(&file);
    assert_eq!(header.rounds, 1);
    assert_eq!(header.recipients.len(), 1);
    assert_eq!(header.recipients[0].ephemeral.len(), 65);
    assert_eq!(header.recipients[0].wrapped.len(), 64);
    assert_eq!(header.key_hash.len(), 32);
}

#[test]
fn an_ended_encryptor_takes_no_more() {
    let key = key();
    let mut sender = Sender::new(key.public());
    let mut e = Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
    let mut out = Vec::new();
    e.update(b"mail", &mut out).unwrap();
    e.finish(&mut out).unwrap();
    let len = out.len();
    assert!(e.update(b"more", &mut out).is_err());
    assert!(e.finish(&mut out).is_err());
    assert_eq!(out.len(), len);
}

fn split<'a>(mut data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = data.split_at(cut % (data.len() + 1));
        pieces.push(piece);
        data = rest;
    }
    pieces.push(data);
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_split_gives_the_same_mail(
        len in 0usize..400,
        which in 0..ALGORITHMS.len(),
        v1: bool,
        small in 0usize..300,
        written in proptest::collection::vec(any::<usize>(), 0..6),
        fed in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let key = key();
        let version = if v1 { Version::V1 } else { Version::V2 };
        let mut sender = Sender::new(key.public());
        let mut e = Encryptor::new(&algorithm(ALGORITHMS[which]), version, &mut sender).unwrap();
        let data = plain(len);
        let mut file = Vec::new();
        for piece in split(&data, &written) {
            e.update(piece, &mut file).unwrap();
        }
        e.finish(&mut file).unwrap();
        let limits = Limits { small, chunk: 128 };
        let back = open_pieces(&key, limits, &split(&file, &fed), &mut SecretCache::default());
        prop_assert_eq!(back.unwrap(), data);
    }
}
