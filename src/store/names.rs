//! What the host's administrator calls a setting: Dovecot 2.4 renamed them all.
#![forbid(unsafe_code)]

/// A release line of Dovecot, for what its administrator writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Line {
    /// 2.3: `plugin { mail_crypt_* }`.
    #[default]
    V2_3,
    /// 2.4: `crypt_*`.
    V2_4,
}

/// A setting, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// What is written, if anything.
    Write,
    /// The curve of generated keys.
    Curve,
    /// The password of the user's key.
    Password,
    /// Keys that the user's key is encrypted to.
    UserKeyKey,
    /// No user key without protection.
    RequireEncrypted,
    /// No shared folder key without protection.
    RequireSecureSharing,
    /// Global mode: what everything is encrypted to.
    GlobalPublic,
    /// Global mode: what decrypts.
    GlobalPrivate,
    /// How often a user key's password is stretched.
    PasswordRounds,
    /// What stretches it.
    PasswordKdf,
    /// Public keys that get a copy of each user's key.
    EscrowPublic,
    /// Whether mail is served that is stored in plaintext.
    ReadPlain,
}

impl Setting {
    /// Whether Dovecot's own plugin has it, too.
    pub fn is_packaged(self) -> bool {
        !matches!(
            self,
            Setting::PasswordRounds
                | Setting::PasswordKdf
                | Setting::EscrowPublic
                | Setting::ReadPlain
        )
    }
}

/// The one table of names: 2.3's, 2.4's. A setting that has more than one is called by the first.
const NAMES: [(Setting, &str, &str); 15] = [
    (
        Setting::Write,
        "mail_crypt_save_version",
        "crypt_write_algorithm",
    ),
    (Setting::Curve, "mail_crypt_curve", "crypt_user_key_curve"),
    (
        Setting::Password,
        "mail_crypt_private_password",
        "crypt_user_key_password",
    ),
    (
        Setting::UserKeyKey,
        "mail_crypt_private_key",
        "crypt_user_key_encryption_key",
    ),
    (
        Setting::RequireEncrypted,
        "mail_crypt_require_encrypted_user_key",
        "crypt_user_key_require_encrypted",
    ),
    (
        Setting::RequireSecureSharing,
        "mail_crypt_acl_require_secure_key_sharing",
        "crypt_acl_require_secure_key_sharing",
    ),
    (
        Setting::GlobalPublic,
        "mail_crypt_global_public_key",
        "crypt_global_public_key_file",
    ),
    (
        Setting::GlobalPrivate,
        "mail_crypt_global_private_key",
        "crypt_global_private_key",
    ),
    (
        Setting::PasswordRounds,
        "mail_crypt_password_rounds",
        "crypt_password_rounds",
    ),
    (
        Setting::PasswordKdf,
        "mail_crypt_password_kdf",
        "crypt_password_kdf",
    ),
    (
        Setting::EscrowPublic,
        "mail_crypt_escrow_public_key",
        "crypt_escrow_public_key_file",
    ),
    (
        Setting::EscrowPublic,
        "mail_crypt_escrow_public_key2",
        "crypt_escrow_public_key2_file",
    ),
    (
        Setting::EscrowPublic,
        "mail_crypt_escrow_public_key3",
        "crypt_escrow_public_key3_file",
    ),
    (
        Setting::EscrowPublic,
        "mail_crypt_escrow_public_key4",
        "crypt_escrow_public_key4_file",
    ),
    (
        Setting::ReadPlain,
        "mail_crypt_read_plain",
        "crypt_read_plain",
    ),
];

/// What 2.4 has in the block of a key.
pub const IN_BLOCK: [&str; 3] = [
    "crypt_private_key_file",
    "crypt_private_key_password",
    "crypt_private_key_name",
];

/// The settings that can be there many times: numbered and with passwords of their own in 2.3, blocks in 2.4.
pub const KEYS: [Setting; 2] = [Setting::UserKeyKey, Setting::GlobalPrivate];
/// The fields of a user who comes from TREES. Both lines of Dovecot have them by TREES' own names.
pub mod trees {
    /// Whether the user has mail of TREES.
    pub const ENABLED: &str = "trees_enabled";
    /// The format's version.
    pub const VERSION: &str = "trees_version";
    /// The user's public key, in hexadecimal digits as all keys here.
    pub const PUBLIC_KEY: &str = "trees_public_key";
    /// The private key in its box.
    pub const LOCKED_SECRETBOX: &str = "trees_locked_secretbox";
    /// The box's nonce.
    pub const SK_NONCE: &str = "trees_sk_nonce";
    /// The box's key, in place of a password.
    pub const SECRETBOX_KEY: &str = "trees_secretbox_key";
    /// The password.
    pub const PASSWORD: &str = "trees_password";
    /// What stretches it: 0 or 1.
    pub const PWHASH_ALGO: &str = "trees_pwhash_algo";
    /// How often.
    pub const PWHASH_OPSLIMIT: &str = "trees_pwhash_opslimit";
    /// In so many bytes of memory.
    pub const PWHASH_MEMLIMIT: &str = "trees_pwhash_memlimit";
    /// With this salt.
    pub const PWHASH_SALT: &str = "trees_pwhash_salt";
    /// All of them.
    pub const ALL: [&str; 11] = [
        ENABLED,
        VERSION,
        PUBLIC_KEY,
        LOCKED_SECRETBOX,
        SK_NONCE,
        SECRETBOX_KEY,
        PASSWORD,
        PWHASH_ALGO,
        PWHASH_OPSLIMIT,
        PWHASH_MEMLIMIT,
        PWHASH_SALT,
    ];
}

impl Line {
    /// The name that an administrator of this line knows.
    pub fn name(self, setting: Setting) -> &'static str {
        let found = NAMES.iter().find(|(known, _, _)| *known == setting);
        // A test makes sure that every setting is in the table.
        found.map_or("", |row| self.of(row))
    }

    /// The names of all settings.
    pub fn names(self) -> [&'static str; NAMES.len()] {
        NAMES.map(|row| self.of(&row))
    }

    /// The setting of that name.
    pub fn setting_of(self, name: &str) -> Option<Setting> {
        let found = NAMES.iter().find(|row| self.of(row) == name);
        found.map(|(setting, _, _)| *setting)
    }

    /// Whether an administrator of this line can set `name`: a setting, one of many keys, or what goes with a key.
    pub fn takes(self, name: &str) -> bool {
        self.setting_of(name).is_some()
            || match self {
                Line::V2_3 => KEYS
                    .iter()
                    .any(|keys| is_one_of_many(name, self.name(*keys))),
                Line::V2_4 => IN_BLOCK.contains(&name),
            }
    }

    /// All names of `setting`: 2.3's, and what an administrator of this line knows.
    pub fn names_of(self, setting: Setting) -> impl Iterator<Item = (&'static str, &'static str)> {
        let rows = NAMES.iter().filter(move |(known, _, _)| *known == setting);
        rows.map(move |row| (row.1, self.of(row)))
    }

    fn of(self, (_, old, new): &(Setting, &'static str, &'static str)) -> &'static str {
        match self {
            Line::V2_3 => old,
            Line::V2_4 => new,
        }
    }

    /// The 2.4 name of the 2.3 setting `name`, which may be numbered or end in `_password`; `None` if there
    /// is no such setting.
    pub fn renamed(name: &str) -> Option<&'static str> {
        let rest_is_ours = |rest: &str| {
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            digits.is_empty() || digits == "_password"
        };
        let exact = NAMES.iter().find(|(_, old, _)| *old == name);
        let numbered = || {
            NAMES.iter().find(|(_, old, _)| {
                let rest = name.strip_prefix(old);
                rest.is_some_and(rest_is_ours)
            })
        };
        exact.or_else(numbered).map(|(_, _, new)| *new)
    }
}

/// Whether `name` is `first`, perhaps with a number from 2 and `_password` after it.
fn is_one_of_many(name: &str, first: &str) -> bool {
    let Some(rest) = name.strip_prefix(first) else {
        return false;
    };
    let number = rest.strip_suffix("_password").unwrap_or(rest);
    let is_digit = |c: char| c.is_ascii_digit();
    number.is_empty() || number.chars().all(is_digit) && !number.starts_with('0') && number != "1"
}

/// The one of `names` that is most like `name`: first by the words that they share, then by letters. What ends
/// in `password` was meant for one, and not for something about passwords.
pub fn nearest<const N: usize>(name: &str, names: [&'static str; N]) -> &'static str {
    let password = |name: &str| name.ends_with("password");
    let by_all = |known: &&'static str| {
        let lost = password(name) && !password(known);
        (lost, other_words(name, known), distance(name, known))
    };
    names.into_iter().min_by_key(by_all).unwrap_or_default()
}

/// How many words only one of the names has.
fn other_words(a: &str, b: &str) -> usize {
    let mut rest: Vec<&str> = b.split('_').collect();
    let mut only_a = 0;
    for word in a.split('_') {
        match rest.iter().position(|other| *other == word) {
            Some(at) => drop(rest.swap_remove(at)),
            None => only_a += 1,
        }
    }
    only_a + rest.len()
}

/// How far `a` is from `b`: one for each letter to add, two for each to take away, since names get
/// shorter by mistake. Only the beginning of a long name counts.
fn distance(a: &str, b: &str) -> usize {
    let a = &a.as_bytes()[..a.len().min(100)];
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = 2 * (i + 1);
        for (j, y) in b.iter().enumerate() {
            let same = if x == y { diagonal } else { usize::MAX };
            diagonal = row[j + 1];
            row[j + 1] = same.min(row[j] + 1).min(diagonal + 2);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod manual;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_name_in_both_lines() {
        for (setting, old, new) in NAMES {
            assert_eq!(Line::V2_3.setting_of(old), Some(setting));
            assert_eq!(Line::V2_4.setting_of(new), Some(setting));
            assert!(Line::V2_4.names_of(setting).any(|row| row == (old, new)));
            assert!(old.starts_with("mail_crypt_") && new.starts_with("crypt_"));
            assert_eq!(Line::renamed(old), Some(new));
        }
    }

    #[test]
    fn numbered_keys_and_their_passwords_are_known_as_renamed() {
        for (old, new) in [
            (
                "mail_crypt_private_key2",
                Some("crypt_user_key_encryption_key"),
            ),
            (
                "mail_crypt_private_key12_password",
                Some("crypt_user_key_encryption_key"),
            ),
            (
                "mail_crypt_global_private_key_password",
                Some("crypt_global_private_key"),
            ),
            (
                "mail_crypt_escrow_public_key2",
                Some("crypt_escrow_public_key2_file"),
            ),
            (
                "mail_crypt_escrow_public_key5",
                Some("crypt_escrow_public_key_file"),
            ),
            ("mail_crypt_private_keys", None),
            ("mail_crypt", None),
            ("crypt_user_key_curve", None),
        ] {
            assert_eq!(Line::renamed(old), new, "{old}");
        }
    }

    #[test]
    fn a_line_takes_its_own_names_and_numbered_keys() {
        for name in [
            "mail_crypt_curve",
            "mail_crypt_private_key",
            "mail_crypt_private_key2",
            "mail_crypt_private_key_password",
            "mail_crypt_global_private_key12_password",
            "mail_crypt_escrow_public_key4",
        ] {
            assert!(Line::V2_3.takes(name) && !Line::V2_4.takes(name), "{name}");
        }
        for name in ["crypt_user_key_curve", "crypt_private_key_file"] {
            assert!(Line::V2_4.takes(name) && !Line::V2_3.takes(name), "{name}");
        }
        for name in [
            "mail_crypt_curve2",
            "mail_crypt_curve_password",
            "mail_crypt_private_key1",
            "mail_crypt_private_key02",
            "mail_crypt_private_keys",
            "mail_crypt_escrow_public_key5",
            "mail_crypt",
        ] {
            assert!(!Line::V2_3.takes(name) && !Line::V2_4.takes(name), "{name}");
        }
    }

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        for (name, meant) in [
            ("crypt_user_key_pasword", "crypt_user_key_password"),
            ("crypt_user_password", "crypt_user_key_password"),
            ("crypt_user_key_curves", "crypt_user_key_curve"),
            (
                "crypt_user_key_private_key",
                "crypt_user_key_encryption_key",
            ),
            ("crypt_password", "crypt_user_key_password"),
            ("crypt_password_round", "crypt_password_rounds"),
            ("crypt_escrow_public_key2", "crypt_escrow_public_key2_file"),
            ("crypt_global_public_key", "crypt_global_public_key_file"),
            ("crypt_global_private_keys", "crypt_global_private_key"),
        ] {
            assert_eq!(nearest(name, Line::V2_4.names()), meant);
        }
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 6);
        assert_eq!(distance("kitten", "sitting"), 7);
    }
}
