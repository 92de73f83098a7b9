//! The names of userdb fields that could be meant for us. Dovecot ignores those that it doesn't know: if a
//! setting that is meant to protect were ignored, mail or keys would be stored unprotected.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::names::{IN_BLOCK, KEYS, Line, Setting, nearest};
use super::ask::text;
use super::{FIELD, Lookup};
use crate::error::{Error, Result};

/// More userdb fields than any look-up has, unless it went wrong.
const MAX_FIELDS: usize = 256;

/// What is shown of a field's name in an error.
const MAX_SHOWN: usize = 100;

/// The fields of one user.
pub(super) struct Fields {
    line: Line,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    empty: bool,
}

impl Fields {
    /// What `lookup` answers.
    pub(super) fn read(line: Line, lookup: &mut Lookup<'_>) -> Self {
        let fields = numbered(lookup, |number| format!("{FIELD}{number}"));
        let fields = fields.iter().map(|text| match text.strip_suffix('=') {
            Some(name) => (name.to_owned(), true),
            None => (text.to_string(), false),
        });
        let fields = fields.map(|(name, empty)| Field { name, empty }).collect();
        Fields { line, fields }
    }

    /// Under 2.4 an empty setting looks as if it weren't set. Returns an error where a field of `setting`
    /// is there and empty.
    pub(super) fn empty(&self, setting: Setting) -> Option<Error> {
        if self.line != Line::V2_4 {
            return None;
        }
        let mut names = Line::V2_4.names_of(setting).map(|(_, name)| name);
        let is_empty = |name| self.fields.iter().any(|f| f.empty && f.name == name);
        names.find(|name| is_empty(*name)).map(|name| {
            Error::setting(format!(
                "userdb field {name} is empty: give it a value, or leave it out"
            ))
        })
    }

    /// Whether the setting that 2.3 calls `old`, and that isn't set, isn't meant by a field.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`], with what to do.
    pub(super) fn check_heard(&self, old: &str) -> Result<()> {
        let Some(new) = Line::renamed(old).filter(|new| self.has(new)) else {
            return Ok(());
        };
        let what = match self.line {
            Line::V2_3 => format!("is Dovecot 2.4's name, use {old}"),
            // Its configuration was read before, or without, our description of the setting.
            Line::V2_4 => "is unknown to this Dovecot. If the plugin is installed as a whole \
                           (settings/libmail_crypt_settings.so), restart Dovecot"
                .to_owned(),
        };
        Err(Error::setting(format!("userdb field {new} {what}")))
    }

    /// 2.4: whether Dovecot knows all of them.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`], with the name to use.
    pub(super) fn check_names(&self) -> Result<()> {
        let mut names = self.fields.iter().map(|field| &field.name);
        names.try_for_each(|name| self.check_name(name))
    }

    /// 2.4: whether all lists of keys have their blocks, and all blocks their lists.
    ///
    /// # Errors
    /// As [`Fields::check_names`].
    pub(super) fn check_blocks(&self, lookup: &mut Lookup<'_>) -> Result<()> {
        for setting in KEYS {
            let first = Line::V2_3.name(setting);
            let blocks = numbered(lookup, |number| match number {
                1 => format!("{first}_name"),
                _ => format!("{first}{number}_name"),
            });
            self.check_listed(Line::V2_4.name(setting), &blocks)?;
            if let Some(e) = self.empty(setting) {
                return Err(e);
            }
        }
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if let Some(new) = Line::renamed(name) {
            // A userdb that serves both lines has both names.
            if self.has(new) {
                return Ok(());
            }
            return Err(ignored_name(name, &format!("use {new}")));
        }
        if let Some(rest) = name
            .strip_prefix("set/")
            .filter(|rest| rest.starts_with("crypt_"))
        {
            return Err(ignored_name(name, &format!("use {rest}")));
        }
        if !name.starts_with("crypt_") {
            return Ok(());
        }
        let (kind, in_block) = match name.split_once('/') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (name, None),
        };
        let kind = kind.trim_end_matches('+');
        let has_blocks = KEYS.iter().any(|s| Line::V2_4.name(*s) == kind);
        match in_block {
            None if IN_BLOCK.contains(&kind) => Err(ignored_name(
                name,
                &format!("use {}/NAME/{kind}", Line::V2_4.name(Setting::UserKeyKey)),
            )),
            None if Line::V2_4.setting_of(kind).is_some() => Ok(()),
            Some(rest) if has_blocks => match rest.split_once('/') {
                Some((_, inner)) if IN_BLOCK.contains(&inner.trim_end_matches('+')) => Ok(()),
                Some((block, inner)) => Err(ignored_name(
                    name,
                    &format!("use {kind}/{block}/{}", nearest(inner, IN_BLOCK)),
                )),
                None => Err(ignored_name(
                    name,
                    &format!("use {kind}/{rest}/{}", IN_BLOCK[0]),
                )),
            },
            _ => Err(ignored_name(
                name,
                &format!("use {}", nearest(kind, Line::V2_4.names())),
            )),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| {
            let rest = field.name.strip_prefix(name);
            rest.is_some_and(|r| matches!(r.as_bytes(), [] | [b'/' | b'+', ..]))
        })
    }

    /// A block counts only where its name is in the list of names.
    fn check_listed(&self, list: &str, blocks: &[Zeroizing<String>]) -> Result<()> {
        for field in &self.fields {
            let Some((kind, rest)) = field.name.split_once('/') else {
                continue;
            };
            let block = rest.split('/').next().unwrap_or_default();
            let named = format!("{list} {block}");
            if kind == list && !blocks.iter().any(|b| **b == *named) {
                return Err(Error::setting(format!(
                    "userdb field {}: Dovecot 2.4 ignores it without the list of names, add \
                     {list}={}",
                    shown(&field.name),
                    shown(block)
                )));
            }
        }
        Ok(())
    }

    /// 2.3: a field that was perhaps meant to protect the user's key, and does nothing. Any name may be an
    /// fs driver's, so this only counts where there is no other protection.
    pub(super) fn ignored(&self) -> Option<Error> {
        if self.line != Line::V2_3 {
            return None;
        }
        self.fields.iter().find_map(|Field { name, .. }| {
            let of_fs = name.contains("_private_key") || name.ends_with("_public_key");
            let old = Line::V2_3.names();
            let instead = match Line::V2_4.setting_of(name.split('/').next().unwrap_or(name)) {
                Some(setting @ (Setting::Password | Setting::UserKeyKey)) => {
                    Line::V2_3.name(setting)
                }
                Some(_) => return None,
                None if !name.starts_with("mail_crypt_") || of_fs => return None,
                None if Line::renamed(name).is_some() => return None,
                None => nearest(name, old),
            };
            Some(Error::setting(format!(
                "no unprotected user key is made: userdb field {} is none of mail_crypt's (use \
                 {instead})",
                shown(name)
            )))
        })
    }
}

fn ignored_name(name: &str, instead: &str) -> Error {
    Error::setting(format!(
        "userdb field {}: Dovecot 2.4 ignores this name, {}",
        shown(name),
        shown(instead)
    ))
}

/// What `lookup` answers for the numbers from 1, until one isn't set.
fn numbered(lookup: &mut Lookup<'_>, name: impl Fn(usize) -> String) -> Vec<Zeroizing<String>> {
    let found = (1..=MAX_FIELDS).map_while(|number| lookup(&name(number)));
    found.map(|value| text(&value)).collect()
}

fn shown(text: &str) -> String {
    text.escape_default().take(MAX_SHOWN).collect()
}
