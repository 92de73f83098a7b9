#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use openssl::asn1::Asn1Object;

fn all() -> impl Iterator<Item = Cipher> {
    (0..TABLE.len()).map(|i| Cipher(i as u8))
}

fn sealed(cipher: Cipher, data: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let key: Vec<u8> = (1..=cipher.key_len() as u8).collect();
    let mut iv = vec![0xff; cipher.iv_len()];
    iv[0] = 7;
    let mut stream = cipher.encrypt(&key, &iv, b"").unwrap();
    let mut out = Vec::new();
    stream.update(data, &mut out).unwrap();
    stream.finish(&mut out).unwrap();
    (key, iv, out)
}

#[test]
fn every_row_is_known_to_libcrypto_with_its_sizes() {
    for cipher in all() {
        let fetched = cipher.fetch().unwrap();
        assert_eq!(cipher.block_size(), fetched.block_size(), "{cipher}");
        if let Some(oid) = cipher.oid_der() {
            assert_eq!(Cipher::from_oid_der(oid).unwrap(), cipher);
            let nid = |text: &str| Asn1Object::from_str(text).unwrap().nid();
            if cipher.mode() != Mode::ChaChaPoly {
                let dotted = crate::crypto::oid_text(oid);
                assert_eq!(nid(&dotted), nid(cipher.name()));
            }
        }
        if cipher.name() != "chacha20" {
            assert_eq!(Cipher::from_name(cipher.name()).unwrap(), cipher);
        }
    }
    assert_eq!(
        Cipher::from_name("AES-256-GCM").unwrap(),
        Cipher::AES_256_GCM
    );
    assert_eq!(Cipher::AES_256_CTR.name(), "aes-256-ctr");
    assert_eq!(Cipher::AES_256_CBC.name(), "aes-256-cbc");
    assert!(Cipher::from_oid_der(&[]).is_err());
}

#[test]
fn any_position_decrypts_to_the_same_bytes() {
    let data: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
    for cipher in all() {
        let (key, iv, sealed) = sealed(cipher, &data);
        for offset in (0..sealed.len()).step_by(64) {
            for end in [sealed.len(), (offset + 128).min(sealed.len())] {
                let before = offset.saturating_sub(cipher.iv_len())..offset;
                let mut previous = sealed[before.clone()].to_vec();
                if cipher.mode() == Mode::Ofb {
                    previous
                        .iter_mut()
                        .zip(&data[before])
                        .for_each(|(c, p)| *c ^= p);
                }
                let at = Position {
                    offset: offset as u64,
                    previous: &previous,
                    last: end == sealed.len(),
                };
                if cipher.name() == "chacha20" {
                    continue;
                }
                let part = &sealed[offset..end];
                let out = cipher.decrypt_at(&key, &iv, at, part).unwrap();
                assert_eq!(*out, data[offset..end.min(data.len())], "{cipher} {offset}");
            }
        }
    }
}

#[test]
fn a_wrong_tag_is_tampering() {
    for name in ["aes-256-gcm", "chacha20-poly1305"] {
        let cipher = Cipher::from_name(name).unwrap();
        let (key, iv) = (vec![1; 32], vec![2; 12]);
        let mut stream = cipher.encrypt(&key, &iv, b"aad").unwrap();
        let mut out = Vec::new();
        stream.update(b"secret", &mut out).unwrap();
        stream.finish(&mut out).unwrap();
        let tag = stream.tag().unwrap();
        let open = |aad, data, tag| cipher.open(&key, &iv, aad, data, tag);
        assert_eq!(*open(b"aad", &out, &tag).unwrap(), *b"secret");
        let kind = |r: Result<Secret>| r.err().unwrap().kind();
        let mut bad = tag;
        bad[15] ^= 1;
        assert_eq!(kind(open(b"aad", &out, &bad)), ErrorKind::Tampered);
        assert_eq!(kind(open(b"aae", &out, &tag)), ErrorKind::Tampered);
        assert_eq!(kind(open(b"aad", &out[1..], &tag)), ErrorKind::Tampered);
    }
}

#[test]
fn wrong_sizes_are_errors_and_no_panics() {
    for cipher in all() {
        assert!(cipher.encrypt(&[0; 5], &[0; 3], b"").is_err());
        assert!(cipher.decrypt(&[0; 64], &[0; 64], b"").is_err());
    }
    assert!(
        Cipher::AES_256_CBC
            .open_bare(&[0; 32], &[0; 16], &[0; 15])
            .is_err()
    );
    let wrapped = aes256_cbc_encrypt(&[1; 32], &[2; 16], &[3; 60]).unwrap();
    assert_eq!(wrapped.len(), 64);
    assert_eq!(
        *Cipher::AES_256_CBC
            .open_bare(&[1; 32], &[2; 16], &wrapped)
            .unwrap(),
        [3; 60]
    );
    let there = aes256_ctr(&[1; 32], &[255; 16], &[3; 60]).unwrap();
    assert_eq!(*aes256_ctr(&[1; 32], &[255; 16], &there).unwrap(), [3; 60]);
}
