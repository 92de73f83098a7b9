//! What is made and written here comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn curves_that_cannot_be_used_are_refused_with_those_that_can() {
    for name in [
        "ED25519",
        "ED448",
        "Ed25519",
        "secp112r1",
        "c2tnb191v1",
        "sha256",
        "",
        "prime256v1\0",
        "rsaEncryption",
        "P-2566",
        "x25519",
        "\u{e4}",
        "Oakley-EC2N-3",
    ] {
        let (kind, text) = kind_of(check_curve(name));
        assert_eq!(kind, ErrorKind::Setting, "{name}");
        assert!(
            text.contains("prime256v1, secp384r1, secp521r1, X25519"),
            "{text}"
        );
        assert_eq!(kind_of(PrivateKey::generate(name)).0, ErrorKind::Setting);
    }
    for name in CURVES
        .iter()
        .chain(&["secp256k1", "brainpoolP256r1", "sect571k1"])
    {
        check_curve(name).unwrap();
        let key = PrivateKey::generate(name).unwrap();
        assert_eq!(key.public().curve_name(), Some(*name));
        assert_ne!(key.id(), PrivateKey::generate(name).unwrap().id());
    }
}

#[test]
fn every_curve_under_every_protection_comes_back() {
    let others: Vec<PrivateKey> = KEYS.iter().map(|key| plain(key)).collect();
    for curve in CURVES {
        let key = PrivateKey::generate(curve).unwrap();
        let text = key.to_dovecot(Protect::None).unwrap();
        assert_eq!(
            StoredKey::parse(&text).unwrap().unlock().unwrap().id(),
            key.id()
        );
        let text = key.to_dovecot(Protect::password(PASSWORD)).unwrap();
        let stored = StoredKey::parse(&text).unwrap();
        assert_eq!(stored.protection(), Protection::Password);
        assert_eq!(
            stored.unlock_with_password(PASSWORD).unwrap().id(),
            key.id()
        );
        for other in &others {
            let text = key.to_dovecot(Protect::Key(&other.public())).unwrap();
            let stored = StoredKey::parse(&text).unwrap();
            assert_eq!(stored.protection(), Protection::Key(other.id()));
            assert_eq!(stored.unlock_with_key(other).unwrap().id(), key.id());
        }
        for password in [None, Some(PASSWORD)] {
            let pem = key.to_pem(password).unwrap();
            let loaded = PrivateKey::parse_setting(&pem, password).unwrap();
            assert_eq!(loaded.id(), key.id());
        }
        let public = PublicKey::parse(&key.public().to_dovecot()).unwrap();
        assert_eq!((public.id(), public.old_id()), (key.id(), key.old_id()));
        let (ephemeral, secret) = public.agree_ephemeral().unwrap();
        assert!(key.agree(&ephemeral).unwrap() == secret);
        assert_eq!(
            kind_of(key.rsa_decrypt(&[0; 256])).0,
            ErrorKind::Unsupported
        );
    }
}

#[test]
fn what_is_written_is_fresh_every_time() {
    let key = plain("p256");
    let texts: Vec<_> = (0..2)
        .flat_map(|_| {
            [
                key.to_dovecot(Protect::password(PASSWORD)).unwrap(),
                key.to_dovecot(Protect::Key(&plain("p384").public()))
                    .unwrap(),
            ]
        })
        .collect();
    let salt = |i: usize| texts[i].split(':').nth(4).unwrap();
    assert!(salt(0) != salt(2) && salt(1) != salt(3));
    assert_eq!((salt(0).len(), salt(1).len()), (16, 16));
    let rounds = |i: usize| texts[i].split(':').nth(6).unwrap();
    assert_eq!(
        (rounds(0), rounds(1)),
        (PASSWORD_ROUNDS.to_string().as_str(), "1")
    );
}

#[test]
fn an_empty_password_is_not_taken_for_protection() {
    let key = plain("p256");
    for result in [
        key.to_dovecot(Protect::password(b"")),
        key.to_pem(Some(b"")),
    ] {
        assert_eq!(kind_of(result).0, ErrorKind::Setting);
    }
}

#[test]
fn rsa_keys_encrypt_and_agree_on_nothing() {
    let key = plain("rsa");
    let data = [7; 60];
    let sealed = key.public().rsa_encrypt(&data).unwrap();
    assert_eq!(*key.rsa_decrypt(&sealed).unwrap(), data);
    for bad in [&sealed[1..], &[0; 256], &[], &[0xff; 256], &[1; 300]] {
        assert_eq!(kind_of(key.rsa_decrypt(bad)).0, ErrorKind::Corrupt);
    }
    assert_eq!(
        kind_of(key.public().agree_ephemeral()).0,
        ErrorKind::Unsupported
    );
    assert_eq!(kind_of(key.agree(&[4; 65])).0, ErrorKind::Unsupported);
    let public = plain("p256").public();
    assert_eq!(kind_of(public.rsa_encrypt(&data)).0, ErrorKind::Unsupported);
}

#[test]
fn rsa_data_without_its_leading_zero_is_refused() {
    let key = plain("rsa");
    let mut sealed = vec![1];
    while sealed[0] != 0 {
        sealed = key.public().rsa_encrypt(&[7; 60]).unwrap();
    }
    assert!(key.rsa_decrypt(&sealed).is_ok());
    assert_eq!(kind_of(key.rsa_decrypt(&sealed[1..])).0, ErrorKind::Corrupt);
}

#[test]
fn ids_are_read_in_either_case_and_written_in_lower() {
    let (id, _) = ids("p256");
    let text = id.to_string();
    assert_eq!(text.to_uppercase().parse::<KeyId>().unwrap(), id);
    for bad in [
        &text[1..],
        &text[2..],
        &format!("{text}00"),
        &format!(" {text}"),
        "",
    ] {
        assert!(bad.parse::<KeyId>().is_err(), "{bad}");
    }
}
