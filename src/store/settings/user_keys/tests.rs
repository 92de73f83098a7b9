//! How user keys are stretched and who gets copies: what is read, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::Settings;
use super::super::tests::{load, load_for, refused, refused_for};
use super::*;
use crate::key::PrivateKey;
use crate::store::Line;
use zeroize::Zeroizing;

fn kdf(value: &str, limit: Option<u64>) -> std::result::Result<PasswordKdf, String> {
    let mut lookup = |name: &str| {
        (name == "mail_crypt_password_kdf").then(|| Zeroizing::new(value.as_bytes().to_vec()))
    };
    let fields = Fields::read(Line::V2_3, &mut lookup);
    let mut ask = Ask::new(Line::V2_3, &mut lookup);
    super::kdf(&mut ask, &fields, || limit).map_err(|e| e.to_string())
}

#[test]
fn a_password_takes_no_more_than_a_quarter_of_the_processs_memory() {
    for (value, expected, enough, instead) in [
        ("argon2id", ARGON2ID, 76, "or use pbkdf2"),
        ("argon2id-strong", ARGON2ID_STRONG, 256, "or use argon2id"),
    ] {
        assert_eq!(kdf(value, None).unwrap(), expected);
        assert_eq!(kdf(value, Some(enough * MIB)).unwrap(), expected);
        let text = kdf(value, Some(enough * MIB - 1)).unwrap_err();
        let write = format!("vsz_limit = {enough}M, {instead}");
        assert!(text.starts_with("mail_crypt_password_kdf is argon2id"));
        assert!(text.ends_with(&write), "{text}");
    }
    assert_eq!(kdf("pbkdf2", Some(1)).unwrap(), PasswordKdf::Pbkdf2);
}

#[test]
fn the_limit_is_what_the_kernel_says() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max cpu time              unlimited            unlimited            seconds   \n\
                  Max address space         268435456            536870912            bytes     \n";
    assert_eq!(address_space_in(limits), Some(256 * MIB));
    let none = limits.replace("268435456", "unlimited");
    assert_eq!(address_space_in(&none), None);
    assert_eq!(address_space_in(""), None);
}

#[test]
fn rounds_are_what_is_set_or_the_default() {
    let name = "mail_crypt_password_rounds";
    let rounds = |pairs: &[(&str, &str)]| load(pairs).unwrap().password_rounds().unwrap();
    assert_eq!(rounds(&[]), 100_000);
    for (value, expected) in [("1", 1), ("2000000", 2_000_000), ("00500", 500)] {
        assert_eq!(rounds(&[(name, value)]), expected);
    }
}

#[test]
fn rounds_that_are_none_make_no_user_key() {
    for value in [
        "",
        "0",
        "2000001",
        "-1",
        "+1",
        "1 ",
        "100k",
        "99999999999999",
    ] {
        let old = refused(
            &[("mail_crypt_password_rounds", value)],
            Settings::password_rounds,
        );
        assert!(old.starts_with("mail_crypt_password_rounds is "), "{old}");
        assert!(old.contains("use 100000 (1 to 2000000"), "{old}");
        let pairs = [("mail_crypt_password_rounds", value)];
        let new = refused_for(Line::V2_4, &pairs, Settings::password_rounds);
        assert!(new.starts_with("crypt_password_rounds is "), "{new}");
    }
}

#[test]
fn a_password_is_stretched_as_the_setting_says() {
    let kdf = |pairs: &[(&str, &str)]| load(pairs).unwrap().password_kdf().unwrap();
    let argon2id = |memory_kib, passes| PasswordKdf::Argon2id {
        memory_kib,
        passes,
        lanes: 1,
    };
    assert_eq!(kdf(&[]), PasswordKdf::Pbkdf2);
    for (value, expected) in [
        ("pbkdf2", PasswordKdf::Pbkdf2),
        ("argon2id", argon2id(19_456, 2)),
        ("argon2id-strong", argon2id(65_536, 3)),
    ] {
        assert_eq!(kdf(&[("mail_crypt_password_kdf", value)]), expected);
    }
}

#[test]
fn an_unknown_way_to_stretch_makes_no_user_key() {
    for value in ["", "PBKDF2", "argon2", "argon2id-weak", "yes"] {
        let pairs = [("mail_crypt_password_kdf", value)];
        let old = refused(&pairs, Settings::password_kdf);
        assert!(old.starts_with("mail_crypt_password_kdf is "), "{old}");
        assert!(old.contains("use pbkdf2 (or argon2id"), "{old}");
        let new = refused_for(Line::V2_4, &pairs, Settings::password_kdf);
        assert!(new.starts_with("crypt_password_kdf is "), "{new}");
    }
}

fn public_text() -> (PublicKey, String) {
    let key = PrivateKey::generate("prime256v1").unwrap();
    (key.public().clone(), key.public().to_dovecot())
}

fn count(set: &Settings) -> Result<usize> {
    set.escrow().map(<[_]>::len)
}

#[test]
fn up_to_four_keys_get_copies_whatever_their_numbers() {
    let keys: Vec<_> = (0..4).map(|_| public_text()).collect();
    let name = "mail_crypt_escrow_public_key";
    let set = |numbers: &[usize]| {
        let names: Vec<_> = ["", "2", "3", "4"].map(|n| format!("{name}{n}")).into();
        let pairs: Vec<(&str, &str)> = numbers
            .iter()
            .map(|n| (names[*n].as_str(), keys[*n].1.as_str()))
            .collect();
        load(&pairs).unwrap()
    };
    assert_eq!(count(&set(&[])).unwrap(), 0);
    assert_eq!(count(&set(&[0, 1, 2, 3])).unwrap(), 4);
    let some = set(&[1, 3]);
    let ids: Vec<_> = some.escrow().unwrap().iter().map(PublicKey::id).collect();
    assert!(ids == [keys[1].0.id(), keys[3].0.id()]);
    let twice = [
        (name, keys[0].1.as_str()),
        ("mail_crypt_escrow_public_key2", keys[0].1.as_str()),
    ];
    assert_eq!(count(&load(&twice).unwrap()).unwrap(), 1);
}

#[test]
fn a_key_for_copies_that_is_none_makes_no_user_key_and_stays_secret() {
    let (_, good) = public_text();
    let private = PrivateKey::generate("prime256v1").unwrap();
    let private = private.to_dovecot(crate::key::Protect::None).unwrap();
    for (value, why) in [
        ("", "is set, but empty"),
        ("hunter2", "mail_crypt_escrow_public_key2: "),
        (private.as_str(), "private key"),
        ("/etc/escrow.pem", "Is it a path?"),
    ] {
        let pairs = [
            ("mail_crypt_escrow_public_key", good.as_str()),
            ("mail_crypt_escrow_public_key2", value),
        ];
        let text = refused(&pairs, count);
        assert!(text.contains("mail_crypt_escrow_public_key2"), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(value.is_empty() || !text.contains(value), "{text}");
    }
    let pairs = [
        ("mail_crypt_save_version", "2"),
        ("mail_crypt_escrow_public_key3", "hunter2"),
    ];
    let text = refused_for(Line::V2_4, &pairs, count);
    assert!(text.contains("crypt_escrow_public_key3_file: "), "{text}");
}

#[test]
fn a_key_for_copies_that_nobody_reads_is_noticed_at_once() {
    let (_, good) = public_text();
    for number in ["0", "1", "5"] {
        let name = format!("mail_crypt_escrow_public_key{number}");
        let text = refused(&[(&name, &good)], count);
        assert!(text.contains(&format!("{name} is not used")), "{text}");
    }
    for field in [
        "crypt_escrow_public_key_file=",
        "crypt_escrow_public_key4_file=",
    ] {
        let pairs = [("mail_crypt_save_version", "2"), ("userdb_*1", field)];
        let text = refused_for(Line::V2_4, &pairs, count);
        assert!(
            text.contains(&format!(
                "userdb field {} is empty",
                field.trim_end_matches('=')
            )),
            "{text}"
        );
    }
}

#[test]
fn a_field_about_user_keys_that_dovecot_ignores_makes_no_user_key() {
    let (_, good) = public_text();
    let field = ("userdb_*1", "crypt_escrow_public_key2_file");
    let text = refused(&[field], count);
    assert!(text.contains("use mail_crypt_escrow_public_key2"), "{text}");
    let value = ("mail_crypt_escrow_public_key2", good.as_str());
    assert_eq!(count(&load(&[field, value]).unwrap()).unwrap(), 1);

    let version = ("mail_crypt_save_version", "2");
    let text = refused_for(Line::V2_4, &[version, field], count);
    assert!(text.contains("restart Dovecot"), "{text}");
    let set = load_for(Line::V2_4, &[version, field, value]).unwrap();
    assert_eq!(count(&set).unwrap(), 1);
    for name in ["crypt_password_rounds", "crypt_password_kdf"] {
        let set = load_for(Line::V2_4, &[version, ("userdb_*1", name)]).unwrap();
        let text = set.password_rounds().err().or(set.password_kdf().err());
        assert!(text.unwrap().to_string().contains(name), "{name}");
    }
}

#[test]
fn settings_of_our_own_that_cant_be_had_make_no_user_key() {
    let pairs = [
        ("mail_crypt_save_version", "2"),
        ("error_own_keys", "no luck"),
    ];
    let set = load_for(Line::V2_4, &pairs).unwrap();
    assert!(set.check().is_ok() && set.writing().is_ok());
    assert!(set.password_rounds().is_err() && set.password_kdf().is_err());
    let text = count(&set).err().unwrap().to_string();
    assert_eq!(text, "no user key is made: no luck");

    let other = (
        "error_own_keys",
        "settings struct dovecot_mail_crypt count mismatch",
    );
    let text = refused_for(Line::V2_4, &[pairs[0], other], count);
    assert!(
        text.contains("another release of the plugin: restart"),
        "{text}"
    );

    let none = (
        "error_own_keys",
        "Configuration has no settings struct named",
    );
    let set = load_for(Line::V2_4, &[pairs[0], none]).unwrap();
    assert_eq!(set.password_rounds().unwrap(), 100_000);
    let field = ("userdb_*1", "crypt_password_kdf");
    let text = refused_for(Line::V2_4, &[pairs[0], none, field], Settings::password_kdf);
    assert!(text.contains("crypt_password_kdf is unknown"), "{text}");
}

#[test]
fn mistakes_about_user_keys_leave_mail_readable_and_writable() {
    let set = load(&[
        ("mail_crypt_save_version", "2"),
        ("mail_crypt_password_rounds", "many"),
        ("mail_crypt_password_kdf", "many"),
        ("mail_crypt_escrow_public_key", "many"),
    ])
    .unwrap();
    assert!(set.check().is_ok() && set.writing().is_ok());
}
