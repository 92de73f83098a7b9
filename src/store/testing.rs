//! Mailboxes and a session in memory, for the store's tests.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::attributes::{Access, Attributes, BY_ID, Change, Guid, Host, Level, Scope};
use super::events::{Events, Happened};
use super::keyring::Keyring;
use super::names::Line;
use super::settings::Settings;
use crate::error::{Error, Result};

/// What a dict holds: `priv/MAILBOX/NAME` and `shared/MAILBOX/NAME`.
#[derive(Default)]
pub struct Dict {
    pub entries: BTreeMap<String, String>,
    /// Every call fails.
    pub down: bool,
    /// As Dovecot's Redis dict: there is no listing.
    pub cannot_list: bool,
    /// Commits fail after this many more.
    pub commits_left: Option<usize>,
    /// The first commit that fails is applied all the same, as when a database's answer is lost.
    pub answer_lost: bool,
    pub inbox_opened: usize,
    pub warnings: Vec<String>,
    pub decisions: Vec<String>,
    /// What happened, in words.
    pub events: Vec<String>,
    held: HashSet<String>,
}

/// What stands in the paths of what is filed by its id.
const ID_PLACE: &str = "/mail_crypt-by-id/";

pub type SharedDict = Rc<RefCell<Dict>>;

/// One mailbox of the dict.
pub struct Mailbox {
    pub dict: SharedDict,
    pub name: String,
    pub access: Access,
}

/// The GUID of the mailbox of this name.
pub fn guid(name: &str) -> Guid {
    let mut guid = Guid::default();
    guid[..name.len()].copy_from_slice(name.as_bytes());
    guid
}

/// The session of a user whose INBOX is in the dict.
pub struct Session {
    pub dict: SharedDict,
    pub username: String,
}

struct Lock(SharedDict, String);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.borrow_mut().held.remove(&self.1);
    }
}

impl Mailbox {
    pub fn new(dict: &SharedDict, name: &str) -> Self {
        Mailbox {
            dict: Rc::clone(dict),
            name: name.to_owned(),
            access: Access::Own,
        }
    }

    /// In these tests a mailbox's name is its GUID.
    fn named(&self, guid: &Guid) -> Self {
        Mailbox {
            dict: Rc::clone(&self.dict),
            name: String::from_utf8_lossy(guid)
                .trim_end_matches('\0')
                .to_owned(),
            access: self.access,
        }
    }

    fn path(&self, scope: Scope, name: &str) -> String {
        let tree = match scope {
            Scope::Private => "priv",
            Scope::Shared => "shared",
        };
        format!("{tree}/{}/{name}", self.name)
    }
}

impl Dict {
    fn check(&self) -> Result<()> {
        if self.down {
            return Err(Error::store("the dict is down"));
        }
        Ok(())
    }

    /// The entries under a mailbox's GUID whose path contains `part`.
    pub fn matching(&self, part: &str) -> Vec<String> {
        let paths = self.entries.keys().filter(|p| p.contains(part));
        paths.filter(|p| !p.contains(ID_PLACE)).cloned().collect()
    }

    /// The entries that are filed by an id, and whose path contains `part`.
    pub fn by_id(&self, part: &str) -> Vec<String> {
        let paths = self.entries.keys().filter(|p| p.contains(part));
        paths.filter(|p| p.contains(ID_PLACE)).cloned().collect()
    }

    /// Removes `path`, and what is filed of it by its id.
    pub fn lose(&mut self, path: &str) {
        let mut parts = path.splitn(3, '/');
        let (tree, name) = (parts.next().unwrap(), parts.nth(1).unwrap());
        self.entries.remove(path).unwrap();
        self.entries.remove(&format!("{tree}{ID_PLACE}{name}"));
    }
}

impl Attributes for Mailbox {
    fn get(&mut self, scope: Scope, name: &str) -> Result<Option<Zeroizing<String>>> {
        let dict = self.dict.borrow();
        dict.check()?;
        let value = dict.entries.get(&self.path(scope, name));
        Ok(value.cloned().map(Zeroizing::new))
    }

    fn list(&mut self, scope: Scope, prefix: &str) -> Result<Vec<String>> {
        let dict = self.dict.borrow();
        dict.check()?;
        if dict.cannot_list {
            return Err(Error::store("the dict can't list"));
        }
        let prefix = self.path(scope, prefix);
        let names = dict.entries.keys().filter_map(|p| p.strip_prefix(&prefix));
        Ok(names.map(str::to_owned).collect())
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<()> {
        let mut dict = self.dict.borrow_mut();
        dict.check()?;
        let failed = dict.commits_left == Some(0);
        if failed && !std::mem::take(&mut dict.answer_lost) {
            return Err(Error::store("the dict failed"));
        }
        dict.commits_left = dict.commits_left.map(|left| left.saturating_sub(1));
        for change in changes {
            let mut paths = vec![self.path(change.scope, &change.name)];
            if let Some((scope, name)) = change.filed_by_id() {
                paths.push(self.named(&BY_ID).path(scope, &name));
            }
            for path in paths {
                match &change.value {
                    Some(value) => dict.entries.insert(path, value.to_string()),
                    None => dict.entries.remove(&path),
                };
            }
        }
        if failed {
            return Err(Error::store("the dict's answer is lost"));
        }
        Ok(())
    }

    fn lock(&mut self, level: Level) -> Result<Box<dyn Any>> {
        let name = format!("{level:?}");
        let fresh = self.dict.borrow_mut().held.insert(name.clone());
        assert!(fresh, "a process must not wait for its own lock");
        Ok(Box::new(Lock(Rc::clone(&self.dict), name)))
    }

    fn mailbox(&self) -> String {
        self.name.clone()
    }

    fn access(&self) -> Access {
        self.access
    }

    fn under(&self, guid: &Guid) -> Box<dyn Attributes + '_> {
        Box::new(self.named(guid))
    }
}

impl Session {
    pub fn new(dict: &SharedDict) -> Self {
        Session {
            dict: Rc::clone(dict),
            username: "alice".to_owned(),
        }
    }
}

/// Writes down what happens.
pub struct Heard(pub SharedDict);

impl Events for Heard {
    fn emit(&self, happened: Happened) {
        let mut words = vec![format!("{:?}", happened.name)];
        words.extend(
            happened
                .fields()
                .map(|(field, word)| format!("{field:?}={word}")),
        );
        words.extend(happened.bytes.map(|bytes| format!("Bytes={bytes}")));
        self.0.borrow_mut().events.push(words.join(" "));
    }
}

impl Host for Session {
    fn inbox(&mut self) -> Result<Box<dyn Attributes>> {
        self.dict.borrow_mut().inbox_opened += 1;
        Ok(Box::new(Mailbox::new(&self.dict, "INBOX")))
    }

    fn warn(&mut self, text: &str) {
        self.dict.borrow_mut().warnings.push(text.to_owned());
    }

    fn debug(&self, text: &dyn Fn() -> String) {
        self.dict.borrow_mut().decisions.push(text());
    }

    fn events(&self) -> Rc<dyn Events> {
        Rc::new(Heard(Rc::clone(&self.dict)))
    }

    fn username(&self) -> &str {
        &self.username
    }
}

/// A keyring with these settings besides `save_version = 2` and the curve P-256.
pub fn keyring(settings: &[(&str, &str)]) -> Keyring {
    let defaults = [
        ("mail_crypt_save_version", "2"),
        ("mail_crypt_curve", "prime256v1"),
    ];
    let all: Vec<_> = settings.iter().chain(&defaults).collect();
    let settings = Settings::load(Line::V2_3, &mut |name| {
        let found = all.iter().find(|(n, _)| *n == name);
        found.map(|(_, v)| Zeroizing::new(v.as_bytes().to_vec()))
    });
    Keyring::new(settings.unwrap())
}
