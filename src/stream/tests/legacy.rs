use super::forge::Forge;
use super::*;

#[test]
fn version_1_reads_back() {
    for curve in ["prime256v1", "secp521r1"] {
        let key = PrivateKey::generate(curve).unwrap();
        let mut sender = Sender::new(key.public());
        for len in [1, 15, 16, 17, 64, 300] {
            let data = plain(len);
            let file = seal_with(&Algorithm::default(), Version::V1, &mut sender, &data);
            for limits in [SMALL, LARGE] {
                assert_eq!(open(&key, limits, &file).unwrap(), data);
            }
        }
    }
}

#[test]
fn version_1_asks_for_the_old_key_id() {
    let key = key();
    let mut sender = Sender::new(key.public());
    let file = seal_with(&Algorithm::default(), Version::V1, &mut sender, b"mail");
    let asked = Opener::default().feed(&file).unwrap();
    assert_eq!(asked, Feed::NeedKey(vec![key.old_id().unwrap()]));
}

#[test]
fn version_1_with_another_content_key_is_tampered() {
    let key = key();
    let mut sender = Sender::new(key.public());
    let file = seal_with(&Algorithm::default(), Version::V1, &mut sender, b"mail");
    // The last 32 bytes of the header are the wrapped content key, before them its hash.
    for back in [5, 36, 40, 68] {
        let mut bad = file.clone();
        let at = bad.len() - back;
        bad[at] ^= 1;
        assert_eq!(
            kind(open(&key, SMALL, &bad)),
            ErrorKind::Tampered,
            "-{back}"
        );
    }
}

#[test]
fn streams_without_integrity_are_served_as_they_are() {
    let key = key();
    for cipher in [
        "aes-256-cbc",
        "camellia-128-ctr",
        "aes-192-cfb",
        "des-ede3-cbc",
    ] {
        for len in [0, 1, 2, 15, 16, 17, 200] {
            let data = plain(len);
            let file = Forge::new(cipher, Integrity::None).write(&[&key], &data);
            for limits in [SMALL, LARGE] {
                assert_eq!(open(&key, limits, &file).unwrap(), data, "{cipher} {len}");
            }
        }
    }
}

#[test]
fn chacha_and_gcm_under_the_hmac_flag_are_readable() {
    let key = key();
    for cipher in ["chacha20-poly1305", "aes-256-gcm"] {
        for len in [1, 63, 64, 65, 200] {
            let data = plain(len);
            let file = Forge::new(cipher, Integrity::Hmac).write(&[&key], &data);
            for limits in [SMALL, LARGE] {
                assert_eq!(open(&key, limits, &file).unwrap(), data, "{cipher} {len}");
                let mut bad = file.clone();
                let at = bad.len() - 40;
                bad[at] ^= 1;
                assert_ne!(open(&key, limits, &bad).ok(), Some(data.clone()));
                assert!(open(&key, limits, &bad).is_err());
            }
        }
    }
}

#[test]
fn the_same_cipher_flag_is_readable() {
    let key = key();
    for (cipher, integrity) in [
        ("aes-256-gcm", Integrity::Aead),
        ("chacha20-poly1305", Integrity::Aead),
        ("aes-128-cbc", Integrity::Hmac),
        ("camellia-256-ctr", Integrity::None),
    ] {
        let mut forge = Forge::new(cipher, integrity);
        forge.same_cipher = true;
        let file = forge.write(&[&key], &plain(100));
        for limits in [SMALL, LARGE] {
            assert_eq!(open(&key, limits, &file).unwrap(), plain(100), "{cipher}");
        }
    }
}

#[test]
fn any_of_several_recipients_can_read() {
    let keys = [key(), PrivateKey::generate("secp384r1").unwrap(), key()];
    let all: Vec<&PrivateKey> = keys.iter().collect();
    let file = Forge::new("aes-256-gcm", Integrity::Aead).write(&all, b"mail");
    for key in &keys {
        assert_eq!(open(key, SMALL, &file).unwrap(), b"mail");
    }
    let ids = keys.iter().map(PrivateKey::id).collect();
    assert_eq!(Opener::default().feed(&file).unwrap(), Feed::NeedKey(ids));
    assert_eq!(kind(open(&key(), SMALL, &file)), ErrorKind::NoKey);
}

#[test]
fn every_digest_and_number_of_rounds_is_honoured() {
    let key = key();
    for digest in Digest::all() {
        for rounds in [1, 2, 2048] {
            let mut forge = Forge::new("aes-256-cbc", Integrity::Hmac);
            forge.digest = digest;
            forge.rounds = rounds;
            let file = forge.write(&[&key], b"mail");
            assert_eq!(open(&key, SMALL, &file).unwrap(), b"mail", "{digest}");
        }
    }
}

#[test]
fn an_unknown_recipient_type_is_unsupported() {
    let key = key();
    let mut file = seal(&key, b"mail");
    let at = file.windows(32).position(|w| w == key.id().0).unwrap() - 1;
    file[at] = 3;
    let error = open(&key, SMALL, &file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "recipient key type 3");
}
