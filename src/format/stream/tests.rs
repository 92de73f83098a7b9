#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::string_slice)]

use super::*;
use crate::error::ErrorKind;
use proptest::prelude::*;

fn sample() -> Header {
    Header {
        version: Version::V2,
        integrity: Integrity::Aead,
        cipher: Cipher::AES_256_GCM,
        digest: Digest::Sha256,
        rounds: 2048,
        same_cipher: false,
        recipients: vec![Recipient {
            wrap: Wrap::Ec,
            id: [7; 32],
            ephemeral: vec![4; 65],
            wrapped: vec![9; 64],
        }],
        key_hash: vec![1; 32],
    }
}

fn sample_v1() -> Header {
    let mut header = sample();
    header.version = Version::V1;
    header.integrity = Integrity::None;
    header.cipher = Cipher::AES_256_CTR;
    header.rounds = 0;
    header.recipients[0].wrapped = vec![9; 32];
    header
}

fn kind(bytes: &[u8]) -> ErrorKind {
    Header::parse(bytes).unwrap_err().kind()
}

/// A sample with a `u32` (at `offset`) overwritten.
fn with_u32(offset: usize, value: u32) -> Vec<u8> {
    let mut bytes = sample().write().unwrap();
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
    bytes
}

const FLAGS: usize = 10;
const LENGTH: usize = 14;
const ROUNDS: usize = FIXED_V2 + 22;
const KEY_DATA: usize = ROUNDS + 4;
const EPHEMERAL: usize = KEY_DATA + 4 + 1 + 1 + 32;

#[test]
fn headers_survive_writing_and_parsing() {
    let rsa = {
        let mut header = sample();
        header.recipients[0].wrap = Wrap::Rsa;
        header.recipients[0].ephemeral.clear();
        header.recipients.push(sample().recipients[0].clone());
        header.same_cipher = true;
        header
    };
    for header in [sample(), sample_v1(), rsa] {
        let bytes = header.write().unwrap();
        assert!(is_encrypted(&bytes));
        for cut in 0..bytes.len() {
            let known = header_len(&bytes[..cut]).unwrap();
            assert!(known.is_none_or(|len| len == bytes.len()));
        }
        assert_eq!(Header::parse(&bytes).unwrap(), header);
    }
}

#[test]
fn the_first_version_1_headers_end_with_an_empty_field() {
    let mut bytes = sample_v1().write().unwrap();
    let len = u16::from_be_bytes([bytes[10], bytes[11]]);
    for (more, good) in [
        (&[0, 0][..], true),
        (&[0], false),
        (&[0, 0, 0], false),
        (&[0, 1], false),
    ] {
        let new_len = len + more.len() as u16;
        bytes[10..12].copy_from_slice(&new_len.to_be_bytes());
        let whole = [&bytes[..], more].concat();
        if good {
            assert_eq!(Header::parse(&whole).unwrap(), sample_v1());
        } else {
            assert_eq!(kind(&whole), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn nine_bytes_of_magic_decide() {
    assert!(!is_encrypted(b""));
    assert!(!is_encrypted(b"CRYPTED\x03"));
    assert!(!is_encrypted(b"CRYPTED\x03\x08"));
    assert!(is_encrypted(b"CRYPTED\x03\x07"));
    assert_eq!(header_len(b"C").unwrap(), None);
    assert_eq!(header_len(b"F").unwrap_err().kind(), ErrorKind::Corrupt);
    let other = header_len(b"CRYPTED\x03\x07\x03").unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Unsupported);
}

#[test]
fn lengths_that_disagree_are_corrupt() {
    let good = sample().write().unwrap();
    let len = u32::try_from(good.len()).unwrap();
    assert_eq!(
        header_len(&with_u32(LENGTH, 17)).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    let huge = header_len(&with_u32(LENGTH, u32::MAX)).unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::Corrupt);
    // A header that claims one byte of the payload, and one that leaves a byte to it.
    let mut longer = with_u32(LENGTH, len + 1);
    longer.push(0);
    assert_eq!(kind(&longer), ErrorKind::Corrupt);
    let mut shorter = with_u32(LENGTH, len - 1);
    shorter.pop();
    assert_eq!(kind(&shorter), ErrorKind::Corrupt);
    for wrong in [0, 1, 1000, u32::MAX] {
        assert_eq!(kind(&with_u32(KEY_DATA, wrong)), ErrorKind::Corrupt);
        assert_eq!(kind(&with_u32(EPHEMERAL, wrong)), ErrorKind::Corrupt);
    }
}

#[test]
fn rounds_are_bounded_before_any_work() {
    for rounds in [0, MAX_ROUNDS + 1, 200_000_000, u32::MAX] {
        assert_eq!(kind(&with_u32(ROUNDS, rounds)), ErrorKind::Corrupt);
    }
    assert!(Header::parse(&with_u32(ROUNDS, 1)).is_ok());
    assert!(Header::parse(&with_u32(ROUNDS, MAX_ROUNDS)).is_ok());
}

#[test]
fn flags_must_agree_with_the_cipher() {
    for (flags, expected) in [
        (0, ErrorKind::Corrupt),
        (3, ErrorKind::Corrupt),
        (4, ErrorKind::Corrupt), // GCM without a tag
        (8, ErrorKind::Corrupt),
        (10, ErrorKind::Corrupt),
        (0x20, ErrorKind::Unsupported),
        (0x8000_0002, ErrorKind::Unsupported),
    ] {
        assert_eq!(kind(&with_u32(FLAGS, flags)), expected, "{flags:#x}");
    }
    let mut cbc = sample();
    cbc.cipher = Cipher::AES_256_CBC;
    assert!(cbc.write().is_err());
    cbc.integrity = Integrity::Hmac;
    assert!(cbc.write().is_ok());
    cbc.integrity = Integrity::None;
    assert!(cbc.write().is_ok());
}

#[test]
fn unknown_algorithms_are_unsupported_by_name() {
    let mut bytes = sample().write().unwrap();
    bytes[FIXED_V2 + 10] = 47; // CCM
    let error = Header::parse(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "cipher 2.16.840.1.101.3.4.1.47");
    let mut ctr = sample();
    ctr.cipher = Cipher::AES_256_CTR;
    ctr.integrity = Integrity::Hmac;
    assert_eq!(ctr.write().unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn an_unknown_key_type_is_kept_for_a_clear_error() {
    let mut bytes = sample().write().unwrap();
    bytes[KEY_DATA + 5] = 3;
    assert_eq!(
        Header::parse(&bytes).unwrap().recipients[0].wrap,
        Wrap::Other(3)
    );
}

#[test]
fn the_number_of_recipients_is_bounded() {
    let mut header = sample();
    header.recipients = vec![header.recipients[0].clone(); MAX_RECIPIENTS];
    assert!(header.write().is_ok());
    header.recipients.push(header.recipients[0].clone());
    assert!(header.write().is_err());
    header.recipients.clear();
    assert!(header.write().is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Header::parse(&bytes);
        let mut v2 = sample().write().unwrap();
        for (i, b) in bytes.iter().enumerate().take(v2.len() - 10) {
            if *b != 0 { v2[10 + i] ^= b; }
        }
        let _ = Header::parse(&v2);
        bytes.splice(0..0, MAGIC.iter().copied().chain([1]));
        let _ = Header::parse(&bytes);
    }

    #[test]
    fn what_parses_is_written_back_to_the_same_bytes(at in 0usize..248, value: u8) {
        let mut bytes = sample().write().unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert_eq!(header.write().unwrap(), bytes);
        }
    }
}
