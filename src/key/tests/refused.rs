//! What must be refused is, and cheaply.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use super::*;

#[test]
fn settings_that_hold_something_else_are_refused_without_showing_it() {
    let secret = "Xq7SecretThing";
    for text in [
        vector("p256.pub"),
        vector("p256.pub.pem"),
        vector("v1-p256.pub"),
        vector("p256.under-p384"),
        vector("p256.password"),
        secret.to_owned(),
        format!("2:{secret}"),
        format!("2:1.2.840.10045.3.1.7:0:{secret}:{}", ids("p256").0),
        format!("1\t415\t0\t{secret}\t{}", ids("p256").0),
        format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"),
        vector("p256.plain").replace(':', "\t"),
        String::new(),
        "x".repeat(100_000),
        "ÄÖ".to_owned(),
    ] {
        let (kind, error) = kind_of(PrivateKey::parse_setting(&text, None));
        assert_eq!(kind, ErrorKind::Setting, "{text}");
        assert!(!error.contains(secret) && error.len() < 300, "{error}");
    }
    for text in [vector("p256.plain"), vector("p256.pem"), secret.to_owned()] {
        let (kind, _) = kind_of(PublicKey::parse_setting(&text));
        assert_eq!(kind, ErrorKind::Setting);
    }
}

#[test]
fn rounds_beyond_the_bounds_cost_nothing() {
    let started = Instant::now();
    for name in ["p256.password", "p256.under-p384"] {
        for rounds in [
            "0",
            "2000001",
            "200000000",
            "4294967295",
            "99999999999",
            "-1",
            "+1",
            "",
        ] {
            let text = vector(name).replace(":2048:", &format!(":{rounds}:"));
            assert_eq!(
                kind_of(StoredKey::parse(&text)).0,
                ErrorKind::Corrupt,
                "{rounds}"
            );
        }
    }
    let sealed =
        crate::format::keyinfo::write_encrypted(&[1; 8], 2_000_000_000, &[2; 16], &[3; 64]);
    let pem = crate::format::pem::write("ENCRYPTED PRIVATE KEY", &sealed);
    let (kind, text) = kind_of(PrivateKey::parse_setting(&pem, Some(PASSWORD)));
    assert_eq!(kind, ErrorKind::Setting, "{text}");
    assert!(started.elapsed().as_millis() < 500);
}

#[test]
fn sizes_beyond_the_bounds_are_refused() {
    let text = vector("p256.password");
    let parts: Vec<&str> = text.split(':').collect();
    let with = |at: usize, value: &str| {
        let mut parts = parts.clone();
        parts[at] = value;
        parts.join(":")
    };
    for bad in [
        with(4, ""),
        with(4, &"00".repeat(65)),
        with(7, ""),
        with(7, &"00".repeat(13_000)),
        with(8, "00"),
        with(8, &"00".repeat(33)),
        with(1, ""),
        with(1, &"1".repeat(81)),
        with(3, "aes 256"),
        format!("{text}:"),
        format!("{text}:{}", "00:".repeat(100)),
    ] {
        assert_eq!(
            kind_of(StoredKey::parse(&bad)).0,
            ErrorKind::Corrupt,
            "{bad}"
        );
    }
    let (kind, _) = kind_of(StoredKey::parse(&with(2, "3")));
    assert_eq!(kind, ErrorKind::Unsupported);
    // The longest salt that is allowed still only makes it a wrong password.
    let stored = StoredKey::parse(&with(4, &"00".repeat(64))).unwrap();
    let (kind, _) = kind_of(stored.unlock_with_password(PASSWORD));
    assert_eq!(kind, ErrorKind::WrongPassword);
}

#[test]
fn private_numbers_out_of_range_are_refused() {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let id = ids("p256").0;
    let string = |number: &str| {
        let len = number.len() / 2;
        format!("2:1.2.840.10045.3.1.7:0:{len:08x}{number}:{id}")
    };
    let number = vector("p256.plain")
        .split(':')
        .nth(3)
        .map(|mpi| mpi[8..].to_owned())
        .unwrap();
    for good in [
        number.clone(),
        format!("00{number}"),
        format!("0000000000{number}"),
    ] {
        assert_eq!(
            PrivateKey::parse_setting(&string(&good), None)
                .unwrap()
                .id(),
            id
        );
    }
    for bad in [
        "00".to_owned(),
        "0000".to_owned(),
        format!("00{ORDER}"),
        format!("00{}", ORDER.replace("2551", "2552")),
        "7f".repeat(34),
        "7f".repeat(4000),
        // Negative.
        "81".to_owned(),
        ORDER.to_owned(),
    ] {
        let stored = StoredKey::parse(&string(&bad)).unwrap();
        assert_eq!(kind_of(stored.unlock()).0, ErrorKind::Corrupt, "{bad}");
    }
    // One less than the order is a key.
    let last = format!("00{}", ORDER.replace("2551", "2550"));
    let (kind, text) = kind_of(StoredKey::parse(&string(&last)).unwrap().unlock());
    assert!(
        kind == ErrorKind::Corrupt && text.contains("is really key"),
        "{text}"
    );
    for mpi in ["", "00000001", "0000000201", "0000000101ff", "ff"] {
        let text = format!("2:1.2.840.10045.3.1.7:0:{mpi}:{id}");
        let unlocked = StoredKey::parse(&text).and_then(|stored| stored.unlock());
        assert_eq!(kind_of(unlocked).0, ErrorKind::Corrupt, "{mpi}");
    }
}

#[test]
fn points_that_are_not_keys_are_refused() {
    let key = plain("p256");
    let (ephemeral, secret) = key.public().agree_ephemeral().unwrap();
    assert_eq!(ephemeral.len(), 65);
    assert!(key.agree(&ephemeral).unwrap() == secret);
    let mut compressed = ephemeral[..33].to_vec();
    compressed[0] = 2 + (ephemeral[64] & 1);
    assert!(key.agree(&compressed).unwrap() == secret);

    let mut off = ephemeral.clone();
    off[64] ^= 1;
    let mut hybrid = ephemeral.clone();
    hybrid[0] = 6 + (ephemeral[64] & 1);
    let mut beyond_the_field = vec![0xff; 65];
    beyond_the_field[0] = 4;
    let mut no_root = vec![0; 33];
    no_root[0] = 2;
    no_root[32] = 1;
    for bad in [
        &off[..],
        &hybrid,
        &beyond_the_field,
        &no_root,
        &[0],
        &[],
        &[4],
        &ephemeral[..64],
        &[&ephemeral[..], &[0]].concat(),
    ] {
        let (kind, _) = kind_of(key.agree(bad));
        assert_eq!(kind, ErrorKind::Corrupt, "{bad:02x?}");
    }
    for (name, len) in [("x25519", 32), ("x448", 56)] {
        let key = plain(name);
        for bad in [vec![], vec![0; len], vec![9; len - 1], vec![9; len + 1]] {
            assert_eq!(kind_of(key.agree(&bad)).0, ErrorKind::Corrupt, "{name}");
        }
    }
}

#[test]
fn points_of_a_small_order_are_refused() {
    // (0, 1), of order 2: the secret would show whether the private number is odd.
    let mut point = vec![0; 145];
    (point[0], point[144]) = (4, 1);
    let (kind, text) = kind_of(plain("sect571k1").agree(&point));
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(text.contains("order"), "{text}");
}

#[test]
fn json_web_keys_whose_halves_differ_are_refused() {
    let d = |text: &str| text.split("\"d\":\"").nth(1).unwrap()[..43].to_owned();
    for key in ["p256", "x25519"] {
        let text = vector(&format!("{key}.jwk"));
        let other = "A".repeat(42) + "E";
        let (kind, _) = kind_of(StoredKey::parse(&text.replace(&d(&text), &other)));
        assert_eq!(kind, ErrorKind::Corrupt, "{key}");
    }
    let text = vector("p256.jwk").replace("P-256", "P-384");
    assert_eq!(kind_of(StoredKey::parse(&text)).0, ErrorKind::Corrupt);
    let text = vector("p256.jwk").replace("P-256", "Ed25519");
    assert_eq!(kind_of(StoredKey::parse(&text)).0, ErrorKind::Unsupported);
    let text = vector("rsa.jwk").replacen("\"p\":\"", "\"p\":\"AAAA", 1);
    assert!(StoredKey::parse(&text).is_ok());
    let text = vector("rsa.jwk").replacen("\"p\":\"", "\"p\":\"AAAB", 1);
    assert_eq!(kind_of(StoredKey::parse(&text)).0, ErrorKind::Corrupt);
}

/// Dovecot after 2.4.4 makes ML-KEM keys, too.
#[test]
fn keys_of_kinds_that_came_later_are_unsupported() {
    for arc in 1..=3u8 {
        let id = "0".repeat(64);
        let text = format!("2:2.16.840.1.101.3.4.4.{arc}:0:{}:{id}", "00".repeat(64));
        let unlocked = StoredKey::parse(&text).and_then(|key| key.unlock());
        assert_eq!(kind_of(unlocked).0, ErrorKind::Unsupported, "{arc}");
        let oid = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 4, arc];
        let der = [&[0x30, 0x1c, 0x30, 11], &oid[..], &[3, 13, 0], &[7; 12]].concat();
        let public = PublicKey::from_spki(&der);
        assert_eq!(kind_of(public).0, ErrorKind::Unsupported, "{arc}");
    }
}
