//! GHASH, and GCM in pieces, against NIST's vectors: `tests/vectors/gcm/nist`.

use std::collections::HashMap;

use super::super::cipher::Cipher;
use super::super::gcm::{Gmac, GmacKey};
use super::super::gf128::{mul, power};
use super::{open_in_pieces, seal};

const FILE: &str = include_str!("../../../tests/vectors/gcm/nist");

/// The fields of one vector, by their names in the specification.
struct Vector {
    name: &'static str,
    fields: HashMap<&'static str, Vec<u8>>,
}

impl Vector {
    fn get(&self, field: &str) -> Option<&[u8]> {
        self.fields.get(field).map(Vec::as_slice)
    }

    fn bytes(&self, field: &str) -> &[u8] {
        let missing = || panic!("{} has no {field}", self.name);
        self.get(field).unwrap_or_else(missing)
    }

    fn cipher(&self) -> Cipher {
        let name = format!("aes-{}-gcm", 8 * self.bytes("K").len());
        Cipher::from_name(&name).unwrap()
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn vectors() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in FILE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let fields = HashMap::new();
            vectors.push(Vector { name, fields });
        } else if let Some((field, value)) = line.split_once('=') {
            let vector = vectors.last_mut().expect("a field before any vector");
            vector.fields.insert(field.trim(), hex(value.trim()));
        }
    }
    assert!(vectors.len() >= 14);
    vectors
}

fn block(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block[..bytes.len()].copy_from_slice(bytes);
    u128::from_be_bytes(block)
}

fn bits(aad: &[u8], text: &[u8]) -> u128 {
    (8 * aad.len() as u128) << 64 | (8 * text.len() as u128)
}

/// GHASH as the specification defines it: Horner's rule.
fn ghash(h: u128, aad: &[u8], text: &[u8]) -> u128 {
    let parts = aad.chunks(16).chain(text.chunks(16));
    let sum = parts.fold(0, |sum, part| mul(sum ^ block(part), h));
    mul(sum ^ bits(aad, text), h)
}

/// The same as a sum of powers.
fn ghash_by_powers(h: u128, aad: &[u8], text: &[u8]) -> u128 {
    let parts: Vec<&[u8]> = aad.chunks(16).chain(text.chunks(16)).collect();
    let count = parts.len() as u64;
    let terms = parts.iter().zip(0..);
    let sum = terms.fold(0, |sum, (part, i)| {
        sum ^ mul(block(part), power(h, count + 1 - i))
    });
    sum ^ mul(bits(aad, text), h)
}

#[test]
fn ghash_is_the_specifications() {
    let mut tried = 0;
    for v in vectors() {
        let (Some(h), Some(expected)) = (v.get("H"), v.get("GHASH")) else {
            continue;
        };
        let h = block(h);
        for ghash in [ghash, ghash_by_powers] {
            let found = ghash(h, v.bytes("A"), v.bytes("C"));
            assert_eq!(found, block(expected), "{}", v.name);
        }
        if let Some(start) = v.get("Y0") {
            assert_eq!(ghash(h, &[], v.bytes("IV")), block(start), "{}", v.name);
        }
        tried += 1;
    }
    assert!(tried >= 10);
}

#[test]
fn the_tag_of_a_piece_is_the_specifications_but_for_the_lengths() {
    let mut tried = 0;
    for v in vectors() {
        let (Some(h), [], 12) = (v.get("H"), v.bytes("A"), v.bytes("IV").len()) else {
            continue;
        };
        let with = GmacKey {
            cipher: v.cipher(),
            key: v.bytes("K"),
            iv: v.bytes("IV"),
        };
        let text = v.bytes("C");
        let tag = Gmac::new(with).unwrap().of(text).unwrap();
        // A piece is additional data, in the message that it belongs to it is text.
        let lengths = mul(bits(text, &[]) ^ bits(&[], text), block(h));
        assert_eq!(block(&tag[..]) ^ lengths, block(v.bytes("T")), "{}", v.name);
        tried += 1;
    }
    assert!(tried >= 6);
}

#[test]
fn whole_and_pieces_open_to_the_published_plaintext() {
    for v in vectors() {
        let (cipher, key, iv) = (v.cipher(), v.bytes("K"), v.bytes("IV"));
        if iv.len() != 12 {
            // Streams have no others.
            assert!(cipher.encrypt(key, iv, b"").is_err());
            continue;
        }
        let (aad, plain) = (v.bytes("A"), v.bytes("P"));
        let (sealed, tag) = seal(cipher, key, iv, aad, plain).unwrap();
        assert_eq!(sealed, v.bytes("C"), "{}", v.name);
        assert_eq!(tag, v.bytes("T"), "{}", v.name);
        let opened = cipher.open(key, iv, aad, &sealed, &tag).unwrap();
        assert_eq!(&opened[..], plain, "{}", v.name);
        for piece in [16, 32, 64] {
            let with = GmacKey { cipher, key, iv };
            let opened = open_in_pieces(with, aad, &sealed, &tag, piece);
            assert_eq!(opened, plain, "{} by {piece}", v.name);
        }
    }
}
