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
}

/// The one table of names: 2.3's, 2.4's.
const NAMES: [(Setting, &str, &str); 8] = [
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
];

impl Line {
    /// The name that an administrator of this line knows.
    pub fn name(self, setting: Setting) -> &'static str {
        let found = NAMES.iter().find(|(known, _, _)| *known == setting);
        // Every setting is in the table: a test looks.
        found.map_or("", |(_, old, new)| match self {
            Line::V2_3 => old,
            Line::V2_4 => new,
        })
    }

    /// The 2.4 name of what `name`, numbered or with `_password`, is under 2.3, if it is anything.
    pub fn renamed(name: &str) -> Option<&'static str> {
        let rest_is_ours = |rest: &str| {
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            digits.is_empty() || digits == "_password"
        };
        NAMES.iter().find_map(|(_, old, new)| {
            let rest = name.strip_prefix(old)?;
            rest_is_ours(rest).then_some(*new)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_name_in_both_lines() {
        for (setting, old, new) in NAMES {
            assert_eq!(Line::V2_3.name(setting), old);
            assert_eq!(Line::V2_4.name(setting), new);
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
            ("mail_crypt_private_keys", None),
            ("mail_crypt", None),
            ("crypt_user_key_curve", None),
        ] {
            assert_eq!(Line::renamed(old), new, "{old}");
        }
    }
}
