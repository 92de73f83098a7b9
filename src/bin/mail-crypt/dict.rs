//! The attribute dict as a file (`mail_attribute_dict = file:..`): lines of names and values.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use mail_crypt_core::crypto::SecretText;
use mail_crypt_core::error::Error;
use mail_crypt_core::hex;
use mail_crypt_core::store::{Access, Attributes, Change, Guid, Host, Level, Scope};
use zeroize::Zeroizing;

use crate::{Result, secret};

type Entries = BTreeMap<String, Zeroizing<String>>;

/// All keys of the users whose files these are, whichever mailbox they belong to: ids are unique.
#[derive(Clone)]
pub(crate) struct FileDict {
    files: Rc<Vec<Entries>>,
    /// Look only in the file with this number.
    only: Option<usize>,
    /// Look only under this GUID.
    guid: Option<String>,
    /// Whose copies of shared keys are used.
    user: String,
}

impl FileDict {
    /// Reads the dict files at `paths`; with none there are no keys.
    pub(crate) fn read(paths: &[PathBuf], user: &str) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            let text = secret::key_text(path)?;
            let mut lines = text.lines();
            let mut entries = Entries::new();
            while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
                if name.contains("/crypt/") {
                    entries.insert(unescape(name).to_string(), unescape(value));
                }
            }
            if entries.is_empty() {
                let text = format!("{}: no keys of mail_crypt in it", path.display());
                return Err(Error::corrupt(text).into());
            }
            files.push(entries);
        }
        Ok(FileDict {
            files: Rc::new(files),
            only: None,
            guid: None,
            user: user.to_owned(),
        })
    }

    /// Each of the files alone: a user's own keys and slots are in one of them.
    pub(crate) fn each(&self) -> impl Iterator<Item = FileDict> + use<> {
        let all = self.clone();
        (0..self.files.len().max(1)).map(move |number| FileDict {
            only: Some(number),
            ..all.clone()
        })
    }

    /// Whether there is more than one file.
    pub(crate) fn is_many(&self) -> bool {
        self.files.len() > 1
    }

    /// What stands after `tree/GUID/` in each name of the tree.
    fn names(&self, scope: Scope) -> impl Iterator<Item = (&str, &Zeroizing<String>)> {
        let tree = match scope {
            Scope::Private => "priv/",
            Scope::Shared => "shared/",
        };
        let files = self.files.iter().enumerate();
        let files = files.filter(|(number, _)| self.only.is_none_or(|only| only == *number));
        let entries = files.flat_map(|(_, entries)| entries);
        entries.filter_map(move |(name, value)| {
            let (guid, rest) = name.strip_prefix(tree)?.split_once('/')?;
            let wanted = self.guid.as_ref().is_none_or(|wanted| wanted == guid);
            wanted.then_some((rest, value))
        })
    }
}

/// Undoes Dovecot's escapes for characters that a line can't hold.
fn unescape(text: &str) -> Zeroizing<String> {
    let mut out = SecretText::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\u{1}' => match chars.next() {
                Some('0') => '\0',
                Some('1') => '\u{1}',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('n') => '\n',
                Some(other) => other,
                None => break,
            },
            c => c,
        });
    }
    out.finish()
}

impl Attributes for FileDict {
    fn get(
        &mut self,
        scope: Scope,
        name: &str,
    ) -> mail_crypt_core::Result<Option<Zeroizing<String>>> {
        let mut names = self.names(scope);
        Ok(names.find(|(n, _)| *n == name).map(|(_, v)| v.clone()))
    }

    fn list(&mut self, scope: Scope, prefix: &str) -> mail_crypt_core::Result<Vec<String>> {
        let names = self
            .names(scope)
            .filter_map(|(n, _)| n.strip_prefix(prefix));
        Ok(names.map(str::to_owned).collect())
    }

    fn commit(&mut self, _: Vec<Change>) -> mail_crypt_core::Result<()> {
        Err(Error::store("the dict file is only read"))
    }

    fn lock(&mut self, _: Level) -> mail_crypt_core::Result<Box<dyn Any>> {
        Err(Error::store("the dict file is only read"))
    }

    fn mailbox(&self) -> String {
        "in the attribute dict".into()
    }

    fn access(&self) -> Access {
        match self.user.as_str() {
            "" => Access::Own,
            _ => Access::Shared,
        }
    }

    fn under(&self, guid: &Guid) -> Box<dyn Attributes + '_> {
        let mut under = self.clone();
        under.guid = Some(hex::encode(guid));
        Box::new(under)
    }
}

impl Host for FileDict {
    fn inbox(&mut self) -> mail_crypt_core::Result<Box<dyn Attributes>> {
        Ok(Box::new(self.clone()))
    }

    fn warn(&mut self, text: &str) {
        eprintln!("mail-crypt: {text}");
    }

    fn debug(&self, _: &dyn Fn() -> String) {}

    fn username(&self) -> &str {
        &self.user
    }
}
