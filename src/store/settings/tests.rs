//! What is read from settings, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

/// Why nothing is written, or no key is made, with settings that are good for reading.
pub(super) fn refused<T>(pairs: &[(&str, &str)], what: impl Fn(&Settings) -> Result<T>) -> String {
    refused_for(Line::V2_3, pairs, what)
}

pub(super) fn refused_for<T>(
    line: Line,
    pairs: &[(&str, &str)],
    what: impl Fn(&Settings) -> Result<T>,
) -> String {
    let set = load_for(line, pairs).unwrap();
    set.check().unwrap();
    what(&set).err().unwrap().to_string()
}

fn curve(set: &Settings) -> Result<Option<String>> {
    Ok(set.curve()?.map(str::to_owned))
}

fn global_public(set: &Settings) -> Result<bool> {
    assert!(set.is_global());
    Ok(set.global_public()?.is_some())
}

pub(super) fn load(pairs: &[(&str, &str)]) -> Result<Settings> {
    load_for(Line::V2_3, pairs)
}

pub(super) fn load_for(line: Line, pairs: &[(&str, &str)]) -> Result<Settings> {
    Settings::load(line, &mut |name| {
        let found = pairs.iter().find(|(n, _)| *n == name);
        found.map(|(_, v)| Zeroizing::new(v.as_bytes().to_vec()))
    })
}

fn error(pairs: &[(&str, &str)]) -> String {
    error_for(Line::V2_3, pairs)
}

fn error_for(line: Line, pairs: &[(&str, &str)]) -> String {
    match load_for(line, pairs) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn the_algorithm_of_2_4_is_used_or_refused_when_something_is_written() {
    let set = |algorithm| {
        load_for(
            Line::V2_4,
            &[
                ("mail_crypt_save_version", "2"),
                ("crypt_write_algorithm", algorithm),
            ],
        )
    };
    let chacha = set("chacha20-poly1305-sha256").unwrap();
    let algorithm = chacha.writing().unwrap().algorithm;
    assert_eq!(algorithm.to_string(), "chacha20-poly1305-sha256");
    let error = set("aes-256-ctr-sha256").unwrap().writing().err();
    let error = error.unwrap().to_string();
    assert!(error.contains("crypt_write_algorithm: "), "{error}");
    assert!(error.contains("aes-256-ctr-sha256"), "{error}");
}

#[test]
fn errors_under_2_4_name_the_block_that_a_key_is_in() {
    let text = error_for(
        Line::V2_4,
        &[
            ("mail_crypt_save_version", "2"),
            ("mail_crypt_global_private_key", "hunter2"),
            (
                "mail_crypt_global_private_key_name",
                "crypt_global_private_key main",
            ),
        ],
    );
    assert!(
        text.contains("crypt_global_private_key main: crypt_private_key_file"),
        "{text}"
    );
    assert!(!text.contains("mail_crypt_"), "{text}");
}

#[test]
fn an_old_name_in_userdb_fails_the_user_of_2_4() {
    let pairs = [
        ("mail_crypt_save_version", "2"),
        ("userdb_*1", "mail_crypt_unknown"),
        ("userdb_*2", "mail_crypt_private_password"),
    ];
    let text = error_for(Line::V2_4, &pairs);
    assert!(text.contains("use crypt_user_key_password"), "{text}");
    assert!(load_for(Line::V2_3, &pairs).is_ok());
}

#[test]
fn an_old_name_beside_the_new_one_serves_both_lines() {
    for new in ["crypt_user_key_password", "crypt_user_key_password+"] {
        let set = load_for(
            Line::V2_4,
            &[
                ("mail_crypt_save_version", "2"),
                ("userdb_*1", "mail_crypt_private_password"),
                ("userdb_*2", new),
            ],
        );
        assert!(set.is_ok(), "{new}");
    }
}

#[test]
fn a_block_that_no_list_names_fails_the_user_of_2_4() {
    let field = "crypt_user_key_encryption_key/main/crypt_private_key_file";
    let mut pairs = vec![("mail_crypt_save_version", "2"), ("userdb_*1", field)];
    let text = error_for(Line::V2_4, &pairs);
    assert!(
        text.contains("add crypt_user_key_encryption_key=main"),
        "{text}"
    );
    pairs.push((
        "mail_crypt_private_key_name",
        "crypt_user_key_encryption_key main",
    ));
    assert!(load_for(Line::V2_4, &pairs).is_ok());
}

#[test]
fn save_version_must_be_set_and_known_where_something_is_written() {
    let name = "mail_crypt_save_version";
    assert!(refused(&[], Settings::writing).contains("save_version is not set"));
    assert!(refused(&[(name, "")], Settings::writing).contains("save_version is empty"));
    for value in ["3", "2 ", "2.0", "yes"] {
        let text = refused(&[(name, value)], Settings::writing);
        assert!(text.contains(&format!("{name} is '{value}'")), "{text}");
        assert!(text.contains("use 2"), "{text}");
    }
    let set = load(&[(name, "2")]).unwrap();
    assert_eq!(set.writing().unwrap().version, SaveVersion::V2);
}

#[test]
fn a_boolean_that_says_no_is_no() {
    for (value, expected) in [("no", false), ("0", false), ("yes", true), ("1", true)] {
        let set = load(&[
            ("mail_crypt_save_version", "2"),
            ("mail_crypt_require_encrypted_user_key", value),
        ]);
        assert_eq!(set.unwrap().require_encrypted_user_key, expected, "{value}");
    }
}

#[test]
fn an_unparsable_private_key_fails_the_user_and_stays_secret() {
    for name in ["mail_crypt_private_key", "mail_crypt_global_private_key"] {
        let text = error(&[(name, "hunter2")]);
        assert!(text.contains(name), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn an_unparsable_public_key_stores_nothing_and_stays_secret() {
    let name = "mail_crypt_global_public_key";
    let text = refused(&[(name, "hunter2")], global_public);
    assert!(text.contains(name), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn an_empty_key_is_not_one_that_is_not_set() {
    for value in ["", " \n"] {
        for name in ["mail_crypt_private_key", "mail_crypt_global_private_key"] {
            let text = error(&[(name, value)]);
            assert!(
                text.contains(&format!("{name} is set, but empty")),
                "{text}"
            );
        }
        let text = refused(&[("mail_crypt_global_public_key", value)], global_public);
        assert!(
            text.contains("global_public_key is set, but empty"),
            "{text}"
        );
    }
    let key = PrivateKey::generate("prime256v1").unwrap();
    let key = key.to_dovecot(crate::key::Protect::None).unwrap();
    let pairs = [
        ("mail_crypt_global_private_key", key.as_str()),
        ("mail_crypt_global_private_key2", ""),
        ("mail_crypt_global_private_key3", &key),
    ];
    assert!(error(&pairs).contains("mail_crypt_global_private_key2 is set, but empty"));
}

#[test]
fn an_empty_key_file_of_2_4_is_named() {
    let pairs = [
        ("mail_crypt_save_version", "2"),
        ("mail_crypt_global_public_key", ""),
        ("mail_crypt_global_public_key_file", "/etc/empty.pem"),
    ];
    let text = refused_for(Line::V2_4, &pairs, global_public);
    assert!(
        text.contains("crypt_global_public_key_file: /etc/empty.pem is empty"),
        "{text}"
    );
    let text = error_for(
        Line::V2_4,
        &[
            ("mail_crypt_private_key", ""),
            (
                "mail_crypt_private_key_name",
                "crypt_user_key_encryption_key main",
            ),
            ("mail_crypt_private_key_file", "/etc/empty.pem"),
        ],
    );
    assert!(
        text.contains("main: crypt_private_key_file: /etc/empty.pem is empty"),
        "{text}"
    );
}

#[test]
fn a_path_in_a_keys_place_is_told_from_a_key() {
    let text = error(&[("mail_crypt_private_key", "/etc/dovecot/key.pem")]);
    assert!(text.contains("mail_crypt_private_key = </path"), "{text}");
    let text = error(&[("mail_crypt_private_key", "</etc/dovecot/key.pem")]);
    assert!(text.contains("in base64 on one line"), "{text}");
    assert!(!text.contains("key.pem"), "{text}");
}

#[test]
fn an_empty_password_makes_no_key() {
    let new = |set: &Settings| set.new_key_password().map(|p| p.is_some());
    let text = refused(&[("mail_crypt_private_password", "")], new);
    assert!(
        text.contains("mail_crypt_private_password is empty"),
        "{text}"
    );
    let pairs = [
        ("mail_crypt_save_version", "2"),
        ("userdb_*1", "crypt_user_key_password="),
    ];
    let text = refused_for(Line::V2_4, &pairs, new);
    assert!(text.contains("crypt_user_key_password is empty"), "{text}");
}

#[test]
fn a_session_of_a_master_user_makes_no_key_under_a_password() {
    let new = |set: &Settings| set.new_key_password().map(|p| p.is_some());
    let pairs = [
        ("mail_crypt_private_password", "x"),
        ("session_*master", "boss"),
    ];
    assert!(refused(&pairs, new).contains("'boss' is logged in"));
    assert!(!new(&load(&pairs[1..]).unwrap()).unwrap());
}

#[test]
fn further_keys_are_read_until_one_is_missing() {
    let key = PrivateKey::generate("prime256v1").unwrap();
    let text = key.to_dovecot(crate::key::Protect::None).unwrap();
    let set = load(&[
        ("mail_crypt_save_version", "2"),
        ("mail_crypt_private_key", &text),
        ("mail_crypt_private_key2", &text),
        ("mail_crypt_private_key4", "never looked at"),
    ]);
    assert_eq!(set.unwrap().user_key_keys.len(), 2);
}

#[test]
fn a_curve_that_no_key_is_made_on_fails_where_one_would_be_made() {
    for name in ["ED25519", "secp160r1", "prime192v1", "brainpoolP160r1", ""] {
        let pairs = [("mail_crypt_save_version", "2"), ("mail_crypt_curve", name)];
        let text = refused(&pairs, curve);
        assert!(text.contains("mail_crypt_curve"), "{text}");
        assert!(
            text.contains(name) && text.contains("use prime256v1"),
            "{text}"
        );
        assert!(load(&pairs).unwrap().writing().is_ok());
    }
}

#[test]
fn a_field_of_2_4_that_is_no_setting_fails_the_user_with_the_nearest_one() {
    for (field, instead) in [
        ("crypt_user_key_passwords", "use crypt_user_key_password"),
        ("crypt_user_key_pasword=", "use crypt_user_key_password"),
        (
            "crypt_user_key_private_key",
            "use crypt_user_key_encryption_key",
        ),
        (
            "crypt_user_key_password/main",
            "use crypt_user_key_password",
        ),
        (
            "crypt_private_key_file",
            "use crypt_user_key_encryption_key/NAME/crypt_private_key_file",
        ),
        (
            "crypt_user_key_encryption_key/main/crypt_private_key_pass",
            "use crypt_user_key_encryption_key/main/crypt_private_key_password",
        ),
        (
            "crypt_global_private_key/main",
            "use crypt_global_private_key/main/crypt_private_key_file",
        ),
    ] {
        let pairs = [("mail_crypt_save_version", "2"), ("userdb_*1", field)];
        let text = error_for(Line::V2_4, &pairs);
        assert!(text.contains(field.trim_end_matches('=')), "{text}");
        assert!(text.contains(instead), "{text}");
    }
}

#[test]
fn every_setting_of_2_4_is_known_in_userdb() {
    let names = Line::V2_4.names();
    let more = names.map(|name| format!("{name}+"));
    for name in names.iter().copied().chain(more.iter().map(String::as_str)) {
        let pairs = [
            ("mail_crypt_save_version", "2"),
            ("mail_crypt_read_plain", "yes"),
            ("userdb_*1", name),
        ];
        assert!(load_for(Line::V2_4, &pairs).is_ok(), "{name}");
    }
}

#[test]
fn an_empty_list_of_keys_fails_the_user_of_2_4() {
    for name in ["crypt_user_key_encryption_key", "crypt_global_private_key"] {
        let field = format!("{name}=");
        let pairs = [("mail_crypt_save_version", "2"), ("userdb_*1", &field)];
        let text = error_for(Line::V2_4, &pairs);
        assert!(
            text.contains(&format!("userdb field {name} is empty")),
            "{text}"
        );
    }
}

#[test]
fn no_unprotected_key_is_made_beside_a_field_that_nobody_hears() {
    let check = |set: &Settings| set.check_unprotected();
    for (field, instead) in [
        ("mail_crypt_private_pasword", "mail_crypt_private_password"),
        ("mail_crypt_password", "mail_crypt_private_password"),
        ("crypt_user_key_password", "mail_crypt_private_password"),
        (
            "crypt_user_key_encryption_key/main/crypt_private_key_file",
            "mail_crypt_private_key",
        ),
    ] {
        let text = refused(&[("userdb_*1", field)], check);
        assert!(text.contains(&format!("use {instead})")), "{text}");
    }
    for field in [
        "mail_crypt_curve",
        "mail_crypt_private_key2_password",
        "mail_crypt_attachments_public_key",
        "crypt_user_key_curve",
    ] {
        assert!(
            check(&load(&[("userdb_*1", field)]).unwrap()).is_ok(),
            "{field}"
        );
    }
}

#[test]
fn plaintext_is_not_served_where_nobody_knows_whether_it_may_be() {
    let version = ("mail_crypt_save_version", "2");
    let field = ("userdb_*1", "crypt_read_plain");
    let none = (
        "error_own_read",
        "Configuration has no settings struct named",
    );
    let text = error_for(Line::V2_4, &[version, field, none]);
    assert!(text.contains("crypt_read_plain is unknown"), "{text}");
    assert!(error_for(Line::V2_3, &[version, field]).contains("use mail_crypt_read_plain"));
    let text = error_for(Line::V2_4, &[version, ("error_own_read", "no luck")]);
    assert_eq!(text, "no luck");
    assert!(load_for(Line::V2_4, &[version, none]).unwrap().read_plain);
    let no = ("mail_crypt_read_plain", "no");
    assert!(
        !load_for(Line::V2_4, &[version, field, no])
            .unwrap()
            .read_plain
    );
}
