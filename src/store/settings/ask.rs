//! Looks up one setting at a time, and says what is wrong with it.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::names::{Line, Setting};
use super::{FAILED_TREES, Lookup, SaveVersion, Trees, Value, Writing};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{PrivateKey, PublicKey, check_curve};
use crate::stream::Algorithm;

/// `..private_key`, `..private_key2`, ..: Dovecot reads on until one is missing, so an
/// endless supply (a look-up gone wrong) has to end somewhere.
const MAX_PRIVATE_KEYS: usize = 64;

/// What 2.4 says where it was started before ours was installed.
const NOT_DESCRIBED: &str = "no settings struct named";

/// What 2.4 says where it was started with another release of ours.
const DESCRIBED_OTHERWISE: &str = "mismatch";

/// What is shown of a value in an error.
const MAX_SHOWN: usize = 40;

/// A value as text.
pub(super) fn text(value: &Value) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(value).into_owned())
}

/// The public key in the setting `name`.
///
/// # Errors
/// As [`super::Settings::load`].
pub(crate) fn public_key(lookup: &mut Lookup<'_>, name: &str) -> Result<Option<PublicKey>> {
    Ask::new(Line::V2_3, lookup).public_key_at(name, name)
}

/// The private keys in the settings `first`, `first` + `2`, .., each with its `.._password`.
///
/// # Errors
/// As [`super::Settings::load`].
pub(crate) fn private_keys(lookup: &mut Lookup<'_>, first: &str) -> Result<Vec<PrivateKey>> {
    Ask::new(Line::V2_3, lookup).private_keys_at(first, first)
}

/// The public key of global mode, which is only needed for writing, and its private keys.
pub(crate) fn global_keys(
    lookup: &mut Lookup<'_>,
    line: Line,
) -> (Result<Option<PublicKey>>, Result<Vec<PrivateKey>>) {
    let mut ask = Ask::new(line, lookup);
    let public = ask.public_key(Setting::GlobalPublic);
    (public, ask.private_keys(Setting::GlobalPrivate))
}

/// What is written: `None` is plaintext.
///
/// # Errors
/// As [`super::Settings::load`].
pub(crate) fn writing(lookup: &mut Lookup<'_>, line: Line) -> Result<Option<Algorithm>> {
    let writing = Ask::new(line, lookup).writing()?;
    Ok(match writing.version {
        SaveVersion::ReadOnly => None,
        SaveVersion::V1 | SaveVersion::V2 => Some(writing.algorithm),
    })
}

/// A look-up, and the line whose names errors use.
pub(super) struct Ask<'a, 'b> {
    line: Line,
    lookup: &'a mut Lookup<'b>,
}

impl<'a, 'b> Ask<'a, 'b> {
    pub(super) fn new(line: Line, lookup: &'a mut Lookup<'b>) -> Self {
        Ask { line, lookup }
    }
}

impl Ask<'_, '_> {
    pub(super) fn line(&self) -> Line {
        self.line
    }

    /// Empty where it is set to nothing.
    pub(super) fn text_at(&mut self, name: &str) -> Option<Zeroizing<String>> {
        (self.lookup)(name).as_ref().map(text)
    }

    /// 2.4: why settings of our own, of which `name` tells, can't be had. Where Dovecot was started before ours was
    /// installed, it is none: none of them is in its configuration, and [`super::fields::Fields::check_heard`] finds
    /// those in userdb.
    pub(super) fn failed(&mut self, name: &str) -> Option<String> {
        let why = self.text_at(name)?;
        if why.contains(NOT_DESCRIBED) {
            return None;
        }
        let hint = if why.contains(DESCRIBED_OTHERWISE) {
            ". Dovecot has read its configuration with another release of the plugin: restart it"
        } else {
            ""
        };
        Some(format!("{}{hint}", &*why))
    }

    pub(super) fn trees(&mut self) -> Trees {
        match self.failed(FAILED_TREES) {
            Some(why) => Trees::unusable(Error::setting(why)),
            None => Trees::load(self.lookup),
        }
    }

    pub(super) fn value(&mut self, setting: Setting) -> Option<Value> {
        (self.lookup)(Line::V2_3.name(setting))
    }

    pub(super) fn writing(&mut self) -> Result<Writing> {
        Ok(Writing {
            version: self.save_version()?,
            algorithm: self.algorithm()?,
        })
    }

    fn save_version(&mut self) -> Result<SaveVersion> {
        let name = self.line.name(Setting::Write);
        let value = self.value(Setting::Write).as_ref().map(text);
        let wrong = match value.as_ref().map(|v| v.as_str()) {
            Some("0") => return Ok(SaveVersion::ReadOnly),
            Some("1") => return Ok(SaveVersion::V1),
            Some("2") => return Ok(SaveVersion::V2),
            None => "is not set".to_owned(),
            Some("") => "is empty".to_owned(),
            Some(other) => format!("is '{}'", shown(other)),
        };
        Err(Error::setting(format!(
            "{name} {wrong}, and nothing is stored: use 2 (0 to write plaintext)"
        )))
    }

    fn algorithm(&mut self) -> Result<Algorithm> {
        let name = self.line.name(Setting::Write);
        let value = match self.line {
            Line::V2_3 => None,
            Line::V2_4 => self.text_at(name).filter(|v| !v.is_empty()),
        };
        let Some(value) = value else {
            return Ok(Algorithm::default());
        };
        value
            .parse()
            .map_err(|e| Error::setting(format!("{name}: {e}")))
    }

    pub(super) fn curve(&mut self) -> Result<Option<String>> {
        let name = self.line.name(Setting::Curve);
        let Some(curve) = self.value(Setting::Curve).as_ref().map(text) else {
            return Ok(None);
        };
        if curve.is_empty() {
            return Err(Error::setting(format!(
                "{name} is empty, and no key is made: use prime256v1"
            )));
        }
        check_curve(&curve).map_err(|e| e.context(name))?;
        Ok(Some(curve.to_string()))
    }

    /// A boolean as Dovecot reads it: true if it is set and doesn't begin like "no", "false" or "0". Set to
    /// nothing, it is true, too.
    pub(super) fn boolean(&mut self, setting: Setting) -> bool {
        let value = self.value(setting);
        value.is_some_and(|v| !matches!(v.first(), Some(b'n' | b'N' | b'f' | b'F' | b'0')))
    }

    /// The same, but true where it isn't set.
    pub(super) fn boolean_or_true(&mut self, setting: Setting) -> bool {
        self.value(setting).is_none() || self.boolean(setting)
    }

    pub(super) fn public_key(&mut self, setting: Setting) -> Result<Option<PublicKey>> {
        let (name, shown_as) = (Line::V2_3.name(setting), self.line.name(setting));
        self.public_key_at(name, shown_as)
    }

    pub(super) fn private_keys(&mut self, setting: Setting) -> Result<Vec<PrivateKey>> {
        let (first, shown_as) = (Line::V2_3.name(setting), self.line.name(setting));
        self.private_keys_at(first, shown_as)
    }

    /// The key under `name`, which errors call `shown_as`: the name that the administrator knows.
    pub(super) fn public_key_at(
        &mut self,
        name: &str,
        shown_as: &str,
    ) -> Result<Option<PublicKey>> {
        let Some(text) = self.text_at(name) else {
            return Ok(None);
        };
        self.check_not_empty(name, shown_as, &text)?;
        PublicKey::parse_setting(&text)
            .map(Some)
            .map_err(|e| self.unparsable(shown_as, &text, &e))
    }

    fn private_keys_at(&mut self, first: &str, shown_as: &str) -> Result<Vec<PrivateKey>> {
        let mut keys = Vec::new();
        let mut name = first.to_owned();
        while let Some(text) = self.text_at(&name) {
            if keys.len() == MAX_PRIVATE_KEYS {
                return Err(Error::setting(format!("{shown_as}: too many keys")));
            }
            keys.push(self.private_key(&name, &text)?);
            name = format!("{first}{}", keys.len() + 1);
        }
        Ok(keys)
    }

    fn private_key(&mut self, name: &str, text: &str) -> Result<PrivateKey> {
        let block = match self.line {
            Line::V2_3 => None,
            Line::V2_4 => self.text_at(&format!("{name}_name")),
        };
        let password_name = format!("{name}_password");
        let password = (self.lookup)(&password_name);
        let (key_name, password_name) = match block {
            Some(block) => (
                format!("{}: crypt_private_key_file", &*block),
                format!("{}: crypt_private_key_password", &*block),
            ),
            None => (name.to_owned(), password_name),
        };
        self.check_not_empty(name, &key_name, text)?;
        let key = PrivateKey::parse_setting(text, password.as_ref().map(|p| p.as_slice()));
        key.map_err(|e| match e.kind() {
            ErrorKind::WrongPassword if password.is_some_and(|p| p.is_empty()) => {
                Error::setting(format!("{password_name} is empty"))
            }
            ErrorKind::WrongPassword => e.context(&password_name),
            _ => self.unparsable(&key_name, text, &e),
        })
    }

    /// An empty setting is a mistake, and not the same as none: what it was meant to do wouldn't be done.
    fn check_not_empty(&mut self, name: &str, shown_as: &str, text: &str) -> Result<()> {
        if !text.trim().is_empty() {
            return Ok(());
        }
        let what = match (self.line, self.text_at(&format!("{name}_file"))) {
            (Line::V2_4, Some(file)) => format!("{shown_as}: {} is empty", file.escape_debug()),
            (Line::V2_4, None) => format!("{shown_as} is empty"),
            (Line::V2_3, _) => {
                format!("{shown_as} is set, but empty (where it is < and a file, that is)")
            }
        };
        Err(Error::setting(format!(
            "{what}: put a key into it, or take it out"
        )))
    }

    /// For a text that isn't a key. It isn't shown: it may hold one all the same.
    fn unparsable(&self, shown_as: &str, text: &str, e: &Error) -> Error {
        let text = text.trim();
        let hint = match text.as_bytes() {
            _ if self.line == Line::V2_4 || text.contains('\n') => String::new(),
            [b'/', ..] => {
                format!(". Is it a path? {shown_as} = </path reads the key from a file")
            }
            [b'<', ..] => ". Only dovecot.conf reads a file with <: a userdb field takes the key \
                           itself, in base64 on one line"
                .to_owned(),
            _ => String::new(),
        };
        Error::setting(format!("{shown_as}: {e}{hint}"))
    }
}

/// What is shown of a value in an error.
pub(super) fn shown(text: &str) -> String {
    text.escape_default().take(MAX_SHOWN).collect()
}
