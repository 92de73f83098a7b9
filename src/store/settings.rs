//! The settings of one user.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::names::{Line, Setting};
use crate::error::{Error, Result};
use crate::key::{PrivateKey, PublicKey, check_curve};
use crate::stream::Algorithm;

/// `mail_crypt_save_version`; under 2.4 an empty `crypt_write_algorithm` is 0, any other 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveVersion {
    /// 0: read what is encrypted, write plaintext.
    ReadOnly,
    /// 1: the legacy stream without integrity.
    V1,
    /// 2: today's stream.
    V2,
}

/// One user's settings, checked and with every key loaded: a bad one fails the user here, at
/// login, and not in the middle of a delivery.
pub struct Settings {
    /// Whose words the administrator uses, for errors.
    pub line: Line,
    /// What is written.
    pub save_version: SaveVersion,
    /// What a version 2 stream is written with; under 2.3 always the default.
    pub algorithm: Algorithm,
    /// The curve of generated keys; without one none are generated.
    pub curve: Option<String>,
    /// The password of the user's key.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// Keys that the user's key may be encrypted to; the first one is used for new user keys.
    pub user_key_keys: Vec<PrivateKey>,
    /// Refuse to make a user key without protection.
    pub require_encrypted_user_key: bool,
    /// Never store a shared folder key without protection.
    pub require_secure_sharing: bool,
    /// Global mode: everything is encrypted to this key.
    pub global_public: Option<PublicKey>,
    /// Global mode: what decrypts.
    pub global_private: Vec<PrivateKey>,
}

/// Looks a setting up by its 2.3 name, whatever the line; `None` where it isn't set.
///
/// Of a 2.4 host these are asked besides: `crypt_write_algorithm`; for each key `.._name`, the
/// block that the administrator wrote; and [`FIELD`].
pub type Lookup<'a> = dyn FnMut(&str) -> Option<Value> + 'a;

/// A setting's value. What is a text is UTF-8; passwords are whatever a user's client sends.
pub type Value = Zeroizing<Vec<u8>>;

/// With a number from 1, answered with the names of userdb fields that could be meant for us.
const FIELD: &str = "userdb_*";

/// `..private_key`, `..private_key2`, ..: Dovecot reads on until one is missing, so an
/// endless supply (a look-up gone wrong) has to end somewhere.
const MAX_PRIVATE_KEYS: usize = 64;

/// More userdb fields than a look-up that works can have.
const MAX_FIELDS: usize = 256;

impl Settings {
    /// Reads and checks the settings that `lookup` answers.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] or [`crate::ErrorKind::WrongPassword`]; the text names the
    /// setting as in `line` and never its value.
    pub fn load(line: Line, lookup: &mut Lookup<'_>) -> Result<Self> {
        if line == Line::V2_4 {
            check_fields(lookup)?;
        }
        let mut ask = Ask { line, lookup };
        let curve = ask.text(Setting::Curve);
        if let Some(curve) = &curve {
            check_curve(curve).map_err(|e| e.context(line.name(Setting::Curve)))?;
        }
        Ok(Settings {
            line,
            save_version: ask.save_version()?,
            algorithm: ask.algorithm()?,
            curve: curve.map(|c| c.to_string()),
            password: (ask.lookup)(Line::V2_3.name(Setting::Password)),
            user_key_keys: ask.private_keys(Setting::UserKeyKey)?,
            require_encrypted_user_key: ask.boolean(Setting::RequireEncrypted),
            require_secure_sharing: ask.boolean(Setting::RequireSecureSharing),
            global_public: ask.public_key(Setting::GlobalPublic)?,
            global_private: ask.private_keys(Setting::GlobalPrivate)?,
        })
    }

    /// What protects a new user key, if there is a password.
    ///
    /// # Errors
    /// For an empty one, which protects nothing.
    pub fn new_key_password(&self) -> Result<Option<Value>> {
        match &self.password {
            Some(password) if password.is_empty() => Err(Error::setting(format!(
                "{} is empty, which protects nothing",
                self.name(Setting::Password)
            ))),
            password => Ok(password.clone()),
        }
    }

    /// What the administrator calls `setting`.
    pub fn name(&self, setting: Setting) -> &'static str {
        self.line.name(setting)
    }
}

/// Dovecot 2.4 passes over what it doesn't know in userdb. A setting that is meant to protect and
/// isn't heard would store mail or keys unprotected.
fn check_fields(lookup: &mut Lookup<'_>) -> Result<()> {
    let fields = numbered(lookup, |number| format!("{FIELD}{number}"));
    let is_set = |name: &str| {
        fields.iter().any(|field| {
            let rest = field.strip_prefix(name);
            rest.is_some_and(|r| matches!(r.as_bytes(), [] | [b'/' | b'+', ..]))
        })
    };
    for field in &fields {
        // Whoever serves both lines from one userdb has both.
        if let Some(new) = Line::renamed(field).filter(|new| !is_set(new)) {
            return Err(Error::setting(format!(
                "userdb field {}: Dovecot 2.4 ignores this name, use {new}",
                field.as_str()
            )));
        }
    }
    for setting in [Setting::UserKeyKey, Setting::GlobalPrivate] {
        let first = Line::V2_3.name(setting);
        let blocks = numbered(lookup, |number| match number {
            1 => format!("{first}_name"),
            _ => format!("{first}{number}_name"),
        });
        check_blocks(Line::V2_4.name(setting), &blocks, &fields)?;
    }
    Ok(())
}

/// A block counts only where its name is in the list of names.
fn check_blocks(
    list: &str,
    blocks: &[Zeroizing<String>],
    fields: &[Zeroizing<String>],
) -> Result<()> {
    for field in fields {
        let Some((kind, rest)) = field.split_once('/') else {
            continue;
        };
        let block = rest.split('/').next().unwrap_or_default();
        let named = format!("{list} {block}");
        if kind == list && !blocks.iter().any(|b| **b == *named) {
            return Err(Error::setting(format!(
                "userdb field {}: Dovecot 2.4 ignores it without the list of names, add \
                 {list}={block}",
                field.as_str()
            )));
        }
    }
    Ok(())
}

/// What `lookup` answers for the numbers from 1, until one isn't set.
fn numbered(lookup: &mut Lookup<'_>, name: impl Fn(usize) -> String) -> Vec<Zeroizing<String>> {
    let found = (1..=MAX_FIELDS).map_while(|number| lookup(&name(number)));
    found.map(|value| text(&value)).collect()
}

fn text(value: &Value) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(value).into_owned())
}

/// The public key in the setting `name`.
///
/// # Errors
/// As [`Settings::load`].
pub(super) fn public_key(lookup: &mut Lookup<'_>, name: &str) -> Result<Option<PublicKey>> {
    let line = Line::V2_3;
    Ask { line, lookup }.public_key_at(name, name)
}

/// The private keys in the settings `first`, `first` + `2`, .., each with its `.._password`.
///
/// # Errors
/// As [`Settings::load`].
pub(super) fn private_keys(lookup: &mut Lookup<'_>, first: &str) -> Result<Vec<PrivateKey>> {
    let line = Line::V2_3;
    Ask { line, lookup }.private_keys_at(first, first)
}

/// The public key and the private keys of global mode.
///
/// # Errors
/// As [`Settings::load`].
pub(super) fn global_keys(
    lookup: &mut Lookup<'_>,
    line: Line,
) -> Result<(Option<PublicKey>, Vec<PrivateKey>)> {
    let mut ask = Ask { line, lookup };
    let public = ask.public_key(Setting::GlobalPublic)?;
    Ok((public, ask.private_keys(Setting::GlobalPrivate)?))
}

/// What is written: `None` is plaintext.
///
/// # Errors
/// As [`Settings::load`].
pub(super) fn writing(lookup: &mut Lookup<'_>, line: Line) -> Result<Option<Algorithm>> {
    let mut ask = Ask { line, lookup };
    match ask.save_version()? {
        SaveVersion::ReadOnly => Ok(None),
        SaveVersion::V1 | SaveVersion::V2 => ask.algorithm().map(Some),
    }
}

/// The look-up, and whose words errors are in.
struct Ask<'a, 'b> {
    line: Line,
    lookup: &'a mut Lookup<'b>,
}

impl Ask<'_, '_> {
    /// `None` also where it is empty.
    fn text_at(&mut self, name: &str) -> Option<Zeroizing<String>> {
        let value = (self.lookup)(name).filter(|v| !v.is_empty())?;
        Some(text(&value))
    }

    fn text(&mut self, setting: Setting) -> Option<Zeroizing<String>> {
        self.text_at(Line::V2_3.name(setting))
    }

    fn save_version(&mut self) -> Result<SaveVersion> {
        let name = self.line.name(Setting::Write);
        let value = self.text(Setting::Write);
        match value.as_ref().map_or("", |v| v.as_str()) {
            "0" => Ok(SaveVersion::ReadOnly),
            "1" => Ok(SaveVersion::V1),
            "2" => Ok(SaveVersion::V2),
            "" => Err(Error::setting(format!(
                "{name} is not set: use 2 (0 to write plaintext)"
            ))),
            _ => Err(Error::setting(format!("{name}: use 0, 1 or 2"))),
        }
    }

    fn algorithm(&mut self) -> Result<Algorithm> {
        let name = self.line.name(Setting::Write);
        let value = match self.line {
            Line::V2_3 => None,
            Line::V2_4 => self.text_at(name),
        };
        let Some(value) = value else {
            return Ok(Algorithm::default());
        };
        value
            .parse()
            .map_err(|e| Error::setting(format!("{name}: {e}")))
    }

    /// Dovecot's own reading of a boolean: set, and not beginning like "no", "false" or "0".
    fn boolean(&mut self, setting: Setting) -> bool {
        let value = (self.lookup)(Line::V2_3.name(setting));
        value.is_some_and(|v| !matches!(v.first(), Some(b'n' | b'N' | b'f' | b'F' | b'0')))
    }

    fn public_key(&mut self, setting: Setting) -> Result<Option<PublicKey>> {
        let (name, said) = (Line::V2_3.name(setting), self.line.name(setting));
        self.public_key_at(name, said)
    }

    fn private_keys(&mut self, setting: Setting) -> Result<Vec<PrivateKey>> {
        let (first, said) = (Line::V2_3.name(setting), self.line.name(setting));
        self.private_keys_at(first, said)
    }

    /// The key under `name`, which errors call `said`.
    fn public_key_at(&mut self, name: &str, said: &str) -> Result<Option<PublicKey>> {
        match self.text_at(name) {
            Some(text) => PublicKey::parse_setting(&text)
                .map(Some)
                .map_err(|e| Error::setting(format!("{said}: {e}"))),
            None => Ok(None),
        }
    }

    fn private_keys_at(&mut self, first: &str, said: &str) -> Result<Vec<PrivateKey>> {
        let mut keys = Vec::new();
        let mut name = first.to_owned();
        while let Some(text) = self.text_at(&name) {
            if keys.len() == MAX_PRIVATE_KEYS {
                return Err(Error::setting(format!("{said}: too many keys")));
            }
            keys.push(self.private_key(&name, &text)?);
            name = format!("{first}{}", keys.len() + 1);
        }
        Ok(keys)
    }

    fn private_key(&mut self, name: &str, text: &str) -> Result<PrivateKey> {
        let password_name = format!("{name}_password");
        let password = (self.lookup)(&password_name);
        let key = PrivateKey::parse_setting(text, password.as_ref().map(|p| p.as_slice()));
        let block = match self.line {
            Line::V2_3 => None,
            Line::V2_4 => self.text_at(&format!("{name}_name")),
        };
        let (key_name, password_name) = match block {
            Some(block) => (
                format!("{}: crypt_private_key_file", &*block),
                format!("{}: crypt_private_key_password", &*block),
            ),
            None => (name.to_owned(), password_name),
        };
        key.map_err(|e| match e.kind() {
            crate::ErrorKind::WrongPassword => e.context(&password_name),
            _ => Error::setting(format!("{key_name}: {e}")),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Settings> {
        load_for(Line::V2_3, pairs)
    }

    fn load_for(line: Line, pairs: &[(&str, &str)]) -> Result<Settings> {
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
    fn the_algorithm_of_2_4_is_used_or_refused_when_it_is_read() {
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
        assert_eq!(chacha.algorithm.to_string(), "chacha20-poly1305-sha256");
        let error = set("aes-256-ctr-sha256").err().unwrap().to_string();
        assert!(error.contains("crypt_write_algorithm: "), "{error}");
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
            ("userdb_*3", "crypt_user_key_passwords"),
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
    fn save_version_must_be_set_and_known() {
        assert!(error(&[]).contains("mail_crypt_save_version is not set"));
        assert!(error(&[("mail_crypt_save_version", "3")]).contains("0, 1 or 2"));
        let set = load(&[("mail_crypt_save_version", "2")]).unwrap();
        assert_eq!(set.save_version, SaveVersion::V2);
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
    fn an_unparsable_key_fails_the_user_and_stays_secret() {
        for name in [
            "mail_crypt_private_key",
            "mail_crypt_global_private_key",
            "mail_crypt_global_public_key",
        ] {
            let text = error(&[("mail_crypt_save_version", "2"), (name, "hunter2")]);
            assert!(text.contains(name), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
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
    fn an_unknown_curve_fails_the_user() {
        let text = error(&[
            ("mail_crypt_save_version", "2"),
            ("mail_crypt_curve", "ED25519"),
        ]);
        assert!(text.contains("mail_crypt_curve"), "{text}");
    }
}
