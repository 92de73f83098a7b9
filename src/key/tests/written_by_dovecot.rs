//! What the packaged plugin wrote is read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn every_form_of_a_key_that_dovecot_wrote_has_the_ids_that_it_says() {
    for key in KEYS {
        let (id, old) = ids(key);
        for form in ["plain", "pem", "password"] {
            let text = vector(&format!("{key}.{form}"));
            for text in [one_line(&text), text] {
                let loaded = PrivateKey::parse_setting(&text, Some(PASSWORD)).unwrap();
                assert_eq!((loaded.id(), loaded.old_id()), (id, old), "{key}.{form}");
            }
        }
        for form in ["pub", "pub.pem"] {
            let text = vector(&format!("{key}.{form}"));
            for text in [one_line(&text), text] {
                let loaded = PublicKey::parse(&text).unwrap();
                assert_eq!((loaded.id(), loaded.old_id()), (id, old), "{key}.{form}");
            }
        }
    }
}

#[test]
fn what_dovecot_wrote_is_written_the_same() {
    for key in KEYS {
        let loaded = plain(key);
        let string = loaded.to_dovecot(Protect::None).unwrap();
        assert_eq!(*string, vector(&format!("{key}.plain")), "{key}");
        let public = loaded.public();
        assert_eq!(public.to_dovecot(), vector(&format!("{key}.pub")), "{key}");
        let pem = loaded.to_pem(None).unwrap();
        assert_eq!(pem.trim(), vector(&format!("{key}.pem")).trim(), "{key}");
        let pem = public.to_pem().unwrap();
        // 2.3 writes uncompressed points as we do.
        assert_eq!(
            pem.trim(),
            vector(&format!("{key}.pub.pem")).trim(),
            "{key}"
        );
    }
}

#[test]
fn keys_under_another_key_load_also_if_that_is_rsa() {
    let mut seen = 0;
    for key in KEYS {
        for by in KEYS {
            let name = format!("{key}.under-{by}");
            if !exists(&name) {
                continue;
            }
            seen += 1;
            let stored = StoredKey::parse(&vector(&name)).unwrap();
            assert_eq!(stored.id(), Some(ids(key).0));
            assert_eq!(stored.protection(), Protection::Key(ids(by).0));
            let unlocked = stored.unlock_with_key(&plain(by)).unwrap();
            assert_eq!(unlocked.id(), ids(key).0, "{name}");
        }
    }
    assert_eq!(seen, 25);
}

#[test]
fn version_1_strings_load() {
    for key in V1_KEYS {
        let public = PublicKey::parse(&vector(&format!("{key}.pub"))).unwrap();
        let stored = StoredKey::parse(&vector(&format!("{key}.plain"))).unwrap();
        assert_eq!(stored.protection(), Protection::None);
        assert_eq!(stored.id(), public.old_id());
        assert_eq!(stored.unlock().unwrap().id(), public.id());
        let stored = StoredKey::parse(&vector(&format!("{key}.password"))).unwrap();
        assert_eq!(stored.protection(), Protection::Password);
        let unlocked = stored
            .unlock_with_password(hex_password().as_bytes())
            .unwrap();
        assert_eq!(unlocked.id(), public.id());
        for by in ["v1-p256", "v1-p521"] {
            let under = by.strip_prefix("v1-").unwrap();
            let stored = StoredKey::parse(&vector(&format!("{key}.under-{under}"))).unwrap();
            let by = plain(by);
            assert_eq!(stored.protection(), Protection::Key(by.old_id().unwrap()));
            assert_eq!(stored.unlock_with_key(&by).unwrap().id(), public.id());
        }
    }
}

#[test]
fn version_1_passwords_that_are_wrong_or_not_hexadecimal_are_wrong_passwords() {
    let stored = StoredKey::parse(&vector("v1-p256.password")).unwrap();
    for password in [&b"00"[..], PASSWORD, b"xyz", b"0", b"\xff\xfe", b""] {
        let (kind, text) = kind_of(stored.unlock_with_password(password));
        assert_eq!(kind, ErrorKind::WrongPassword);
        let id = stored.id().unwrap();
        assert_eq!(text, format!("wrong password for key {id}"));
    }
}

#[test]
fn key_strings_with_other_ciphers_load_and_unknown_ones_are_unsupported() {
    for cipher in ["aes-256-cbc", "aes-128-ctr", "aes-128-cbc"] {
        let text = vector(&format!("p256.password-{cipher}"));
        let stored = StoredKey::parse(&text).unwrap();
        let unlocked = stored.unlock_with_password(PASSWORD).unwrap();
        assert_eq!(unlocked.id(), ids("p256").0, "{cipher}");
        let (kind, _) = kind_of(stored.unlock_with_password(b"wrong"));
        assert_eq!(kind, ErrorKind::WrongPassword, "{cipher}");
    }
    for cipher in ["aes-256-gcm", "chacha20"] {
        let stored = StoredKey::parse(&vector(&format!("p256.password-{cipher}"))).unwrap();
        let (kind, text) = kind_of(stored.unlock_with_password(PASSWORD));
        assert_eq!(kind, ErrorKind::Unsupported, "{cipher}");
        assert!(text.contains(cipher), "{text}");
    }
    let text = vector("p256.password").replace(":sha256:", ":whirlpool9:");
    let stored = StoredKey::parse(&text).unwrap();
    let (kind, _) = kind_of(stored.unlock_with_password(PASSWORD));
    assert_eq!(kind, ErrorKind::Unsupported);
}

#[test]
fn a_wrong_password_is_said_to_be_one_and_names_the_key() {
    for key in KEYS {
        let stored = StoredKey::parse(&vector(&format!("{key}.password"))).unwrap();
        assert_eq!(stored.protection(), Protection::Password);
        let (kind, text) = kind_of(stored.unlock_with_password(b"wrong"));
        assert_eq!(kind, ErrorKind::WrongPassword);
        assert_eq!(text, format!("wrong password for key {}", ids(key).0));
        let text = vector(&format!("{key}.password"));
        let (kind, _) = kind_of(PrivateKey::parse_setting(&text, Some(b"")));
        assert_eq!(kind, ErrorKind::WrongPassword);
    }
}

#[test]
fn a_key_that_is_not_the_one_it_is_under_is_told_apart_from_damage() {
    let text = vector("p256.under-p384");
    let stored = StoredKey::parse(&text).unwrap();
    let (kind, error) = kind_of(stored.unlock_with_key(&plain("p521")));
    assert_eq!(kind, ErrorKind::NoKey);
    for key in ["p256", "p384", "p521"] {
        assert!(error.contains(&ids(key).0.to_string()), "{error}");
    }
    // The encrypted number, the salt and the ephemeral point: none of them may be changed.
    for field in [7, 4, 8] {
        let mut parts: Vec<String> = text.split(':').map(str::to_owned).collect();
        let last = if parts[field].ends_with('0') {
            "1"
        } else {
            "0"
        };
        let len = parts[field].len();
        parts[field].replace_range(len - 1.., last);
        let stored = StoredKey::parse(&parts.join(":")).unwrap();
        let (kind, error) = kind_of(stored.unlock_with_key(&plain("p384")));
        assert_eq!(kind, ErrorKind::WrongPassword);
        let (by, id) = (ids("p384").0, ids("p256").0);
        assert_eq!(error, format!("key {by} does not unlock key {id}"));
    }
}

#[test]
fn each_protection_needs_its_own_means() {
    let under_key = StoredKey::parse(&vector("p256.under-p384")).unwrap();
    let under_password = StoredKey::parse(&vector("p256.password")).unwrap();
    let encrypted = StoredKey::parse(&vector("p256.encrypted.pem")).unwrap();
    for result in [
        under_key.unlock(),
        under_key.unlock_with_password(PASSWORD),
        under_password.unlock(),
        under_password.unlock_with_key(&plain("p384")),
        encrypted.unlock(),
        encrypted.unlock_with_key(&plain("p384")),
    ] {
        assert_eq!(kind_of(result).0, ErrorKind::NoKey);
    }
    let unprotected = StoredKey::parse(&vector("p256.plain")).unwrap();
    assert!(unprotected.unlock_with_password(b"x").is_ok());
    assert!(unprotected.unlock_with_key(&plain("p384")).is_ok());
}

#[test]
fn pem_under_a_password_loads_and_never_prompts() {
    for key in ["p256", "rsa", "x25519"] {
        let text = vector(&format!("{key}.encrypted.pem"));
        let loaded = PrivateKey::parse_setting(&text, Some(PASSWORD)).unwrap();
        assert_eq!(loaded.id(), ids(key).0);
        let (kind, _) = kind_of(PrivateKey::parse_setting(&text, Some(b"wrong")));
        assert_eq!(kind, ErrorKind::WrongPassword);
        let (kind, _) = kind_of(PrivateKey::parse_setting(&text, Some(&[b'x'; 2000])));
        assert_eq!(kind, ErrorKind::WrongPassword);
        let (kind, _) = kind_of(PrivateKey::parse_setting(&text, Some(b"")));
        assert_eq!(kind, ErrorKind::WrongPassword);
        let (kind, _) = kind_of(PrivateKey::parse_setting(&text, None));
        assert_eq!(kind, ErrorKind::Setting);
    }
}

#[test]
fn an_id_that_is_not_the_keys_is_noticed() {
    let (a, b) = (ids("p256").0.to_string(), ids("p384").0.to_string());
    let swap = |name: &str| vector(name).replace(&a, &b);
    let stored = StoredKey::parse(&swap("p256.plain")).unwrap();
    assert_eq!(kind_of(stored.unlock()).0, ErrorKind::Corrupt);
    let stored = StoredKey::parse(&swap("p256.password")).unwrap();
    let (kind, _) = kind_of(stored.unlock_with_password(PASSWORD));
    assert_eq!(kind, ErrorKind::WrongPassword);
    assert_eq!(
        kind_of(PublicKey::parse(&swap("p256.pub"))).0,
        ErrorKind::Corrupt
    );
}

#[test]
fn a_string_may_name_either_id() {
    let (id, old) = ids("p256");
    let old = old.unwrap().to_string();
    for name in ["p256.plain", "p256.password"] {
        let text = vector(name).replace(&id.to_string(), &old);
        let stored = StoredKey::parse(&text).unwrap();
        assert_eq!(stored.unlock_with_password(PASSWORD).unwrap().id(), id);
    }
    let text = vector("p256.under-p384");
    let (by, old) = ids("p384");
    let text = text.replace(&by.to_string(), &old.unwrap().to_string());
    let stored = StoredKey::parse(&text).unwrap();
    assert_eq!(stored.unlock_with_key(&plain("p384")).unwrap().id(), id);
}

#[test]
fn json_web_keys_load() {
    for key in ["p256", "x25519", "rsa"] {
        for text in [
            vector(&format!("{key}.jwk")),
            one_line(&vector(&format!("{key}.jwk"))),
        ] {
            let loaded = PrivateKey::parse_setting(&text, Some(b"not needed")).unwrap();
            assert_eq!(loaded.id(), ids(key).0, "{key}");
            let (kind, _) = kind_of(PublicKey::parse(&text));
            assert_eq!(kind, ErrorKind::Corrupt, "{key}");
        }
        let text = vector(&format!("{key}.pub.jwk"));
        assert_eq!(PublicKey::parse(&text).unwrap().id(), ids(key).0, "{key}");
        let (kind, _) = kind_of(PrivateKey::parse_setting(&text, None));
        assert_eq!(kind, ErrorKind::Setting, "{key}");
    }
}
