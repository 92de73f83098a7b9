//! What `doveconf -n` writes, of both lines.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use std::fmt;

use mail_crypt_core::crypto::SecretText;
use mail_crypt_core::store::Line;
use mail_crypt_core::store::names::KEYS;
use mail_crypt_core::store::{Setting, names::IN_BLOCK};
use zeroize::Zeroizing;

/// What stands in the place of a secret, whole or in part.
const HIDDEN: [&str; 2] = ["# hidden", "#hidden_use-P_to_show#"];

/// The fields of userdb and passdb that hold settings.
const FIELD_LISTS: [&str; 3] = ["args", "default_fields", "override_fields"];

/// A release of Dovecot: 2.3.19.1 is [2, 3, 19, 1].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(Vec<u32>);

impl Version {
    /// Only the numbers at the beginning count: 2.4.1-4 is 2.4.1.
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let text = text.get(..end.unwrap_or(text.len()))?;
        let numbers: Option<Vec<u32>> = text.split('.').map(|n| n.parse().ok()).collect();
        numbers.filter(|n| n.len() >= 2).map(Version)
    }

    /// Whether it is at least this one.
    pub(crate) fn reaches(&self, other: &[u32]) -> bool {
        self.0.as_slice() >= other
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// A block `{ .. }`; the file itself has neither kind nor name.
#[derive(Default)]
pub(crate) struct Block {
    /// `protocol`
    pub kind: String,
    /// `imap`; empty where there is none.
    pub name: String,
    /// Settings and their values, unquoted.
    pub entries: Vec<(String, Zeroizing<String>)>,
    /// What is inside.
    pub blocks: Vec<Block>,
}

/// A setting, wherever it stands.
pub(crate) struct Place<'a> {
    /// `protocol imap / plugin`; empty at the top.
    pub within: String,
    /// The kind of the block that it is in.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its value; a secret may be hidden.
    pub value: &'a str,
}

impl Place<'_> {
    /// How it is called in a finding.
    pub(crate) fn title(&self) -> String {
        if self.within.is_empty() {
            return self.name.to_owned();
        }
        format!("{}: {}", self.within, self.name)
    }
}

/// A configuration.
pub(crate) struct Conf {
    /// Whose words it is in.
    pub line: Line,
    /// The Dovecot that wrote it.
    pub version: Version,
    /// All of it.
    pub top: Block,
}

impl Conf {
    /// Reads it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let version = text.lines().find_map(|line| {
            let first = line.strip_prefix("# ")?.split(' ').next()?;
            Version::parse(first)
        });
        let version =
            version.ok_or("it doesn't begin with a version, as what doveconf -n writes does")?;
        let line = if version.reaches(&[2, 4]) {
            Line::V2_4
        } else {
            Line::V2_3
        };
        let mut open = vec![Block::default()];
        for (number, text) in text.lines().enumerate() {
            read_line(text.trim(), &mut open).map_err(|e| format!("line {}: {e}", number + 1))?;
        }
        match (open.pop(), open.is_empty()) {
            (Some(top), true) => Ok(Conf { line, version, top }),
            _ => Err("it ends within a block".into()),
        }
    }

    /// A setting of the top; none where it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.top.get(name).filter(|value| !value.is_empty())
    }

    /// All settings: those of plugin {} and other blocks, and those that userdb's and passdb's lists of fields have.
    pub(crate) fn places(&self) -> Vec<Place<'_>> {
        let mut found = Vec::new();
        self.top.places("", &mut found);
        found
    }

    /// Whether `setting` is there, for anybody.
    pub(crate) fn has(&self, setting: Setting) -> bool {
        let is_it = |name: &str| match self.line {
            Line::V2_3 => {
                let mut all = self.line.names_of(setting);
                all.any(|(name_of, _)| name == name_of)
            }
            Line::V2_4 => self.line.setting_of(name) == Some(setting),
        };
        let is_set = |p: &Place<'_>| !p.value.is_empty() && is_it(field_name(p.name));
        self.places().iter().any(is_set)
            || KEYS.contains(&setting) && self.top.any_block(self.line.name(setting))
    }
}

/// A line into the innermost block that is open.
fn read_line(line: &str, open: &mut Vec<Block>) -> Result<(), String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    if line == "}" {
        let (Some(closed), Some(outer)) = (open.pop(), open.last_mut()) else {
            return Err("a block ends that has not begun".into());
        };
        outer.blocks.push(closed);
        return Ok(());
    }
    if let Some(head) = line.strip_suffix('{') {
        let (kind, name) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
        open.push(Block {
            kind: kind.to_owned(),
            name: unquoted(name.trim()).to_string(),
            ..Block::default()
        });
        return Ok(());
    }
    // What has no = is the rest of a value of many lines, of which nothing is needed.
    if let (Some((name, value)), Some(block)) = (line.split_once('='), open.last_mut()) {
        let value = unquoted(value.trim());
        block.entries.push((name.trim().to_owned(), value));
    }
    Ok(())
}

/// A value without its quotes and what they need.
fn unquoted(text: &str) -> Zeroizing<String> {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let Some(inner) = inner else {
        return Zeroizing::new(text.to_owned());
    };
    let mut out = SecretText::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' {
            chars.next().unwrap_or(c)
        } else {
            c
        });
    }
    out.finish()
}

/// The setting that a field of userdb or passdb is about: `userdb_` stands before it in passdb, a block's list and
/// name in 2.4.
pub(crate) fn field_name(name: &str) -> &str {
    name.strip_prefix("userdb_").unwrap_or(name)
}

/// Whether a value isn't shown.
pub(crate) fn is_hidden(value: &str) -> bool {
    HIDDEN.iter().any(|mark| value.contains(mark))
}

/// Whether a setting of 2.4 is one of a key's block.
pub(crate) fn in_key_block(name: &str) -> bool {
    IN_BLOCK.contains(&name)
}

impl Block {
    /// A setting of this block.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.entries.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first block of a kind in this one.
    pub(crate) fn block(&self, kind: &str) -> Option<&Block> {
        self.blocks.iter().find(|block| block.kind == kind)
    }

    /// Whether a block of that kind is anywhere.
    pub(crate) fn any_block(&self, kind: &str) -> bool {
        let mut blocks = self.blocks.iter();
        blocks.any(|block| block.kind == kind || block.any_block(kind))
    }

    /// `protocol imap`
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.kind, self.name).trim_end().to_owned()
    }

    fn places<'a>(&'a self, within: &str, found: &mut Vec<Place<'a>>) {
        for (name, value) in &self.entries {
            let place = |name, value| Place {
                within: within.to_owned(),
                kind: self.kind.as_str(),
                name,
                value,
            };
            found.push(place(name.as_str(), value.as_str()));
            if matches!(self.kind.as_str(), "userdb" | "passdb")
                && FIELD_LISTS.contains(&name.as_str())
            {
                let fields = value.split_whitespace().filter_map(|f| f.split_once('='));
                found.extend(fields.map(|(name, value)| place(name, value)));
            }
        }
        for block in &self.blocks {
            let title = match within {
                "" => block.title(),
                _ => format!("{within} / {}", block.title()),
            };
            block.places(&title, found);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_quotes_and_versions_are_read() {
        let text = "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf\n# OS: Linux\n\
                    mail_plugins = \" mail_crypt \\\"x\\\"\"\nmail_location =\n\
                    plugin {\n  a = b = c\n}\nlocal 10.0.0.1 {\n  protocol imap {\n    x = y\n  }\n}\n";
        let conf = Conf::parse(text).unwrap();
        assert!(conf.line == Line::V2_3 && conf.version.to_string() == "2.3.19.1");
        assert!(conf.version.reaches(&[2, 3, 19]) && !conf.version.reaches(&[2, 3, 20]));
        assert_eq!(conf.get("mail_plugins"), Some(" mail_crypt \"x\""));
        assert_eq!(conf.get("mail_location"), None);
        let titles: Vec<String> = conf.places().iter().map(Place::title).collect();
        assert!(titles.contains(&"plugin: a".to_owned()));
        assert!(titles.contains(&"local 10.0.0.1 / protocol imap: x".to_owned()));
        let newer = Conf::parse("# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\n").unwrap();
        assert!(newer.line == Line::V2_4 && newer.version.to_string() == "2.4.1");
    }

    #[test]
    fn what_doveconf_has_not_written_is_refused() {
        for text in [
            "",
            "mail_plugins = x\n",
            "# 2.3.19 (x): y\na {\n",
            "# 2.3.19 (x): y\n}\n",
        ] {
            assert!(Conf::parse(text).is_err(), "{text}");
        }
    }
}
