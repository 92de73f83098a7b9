//! Where keys live: the names of the mailbox attributes (docs/format.md lists them), and what the store asks of its host.
#![forbid(unsafe_code)]

use std::any::Any;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::events::{Events, Silent};
use crate::error::Result;
use crate::hex;
use crate::key::KeyId;

/// Which of the two attribute trees of a mailbox; Dovecot's `priv/` and `shared/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Seen by the accessing user only, kept in that user's own dict.
    Private,
    /// Seen by everyone who can access the mailbox, kept in its owner's dict.
    Shared,
}

/// What Dovecot files a mailbox's attributes under.
pub type Guid = [u8; 16];

/// What keys are filed under besides their mailbox's GUID: here each is found by its id, whatever becomes of GUIDs.
/// It looks like a GUID, since an SQL dict may take nothing else, and is none: Dovecot's begin with a
/// number of nanoseconds, which is lower.
pub const BY_ID: Guid = *b"mail_crypt-by-id";

/// Whose keys: the user's (kept on INBOX) or one folder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The user's own key pair, on INBOX's attributes.
    User,
    /// A folder's key pairs, on that folder's attributes.
    Folder,
}

/// Whose mailbox it is, as the accessing user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The user's own mailbox.
    Own,
    /// Another user's mailbox, shared with this one.
    Shared,
    /// A mailbox that no user owns.
    Public,
}

/// One attribute to set (`Some`) or to unset (`None`).
pub struct Change {
    /// The tree.
    pub scope: Scope,
    /// The name inside the tree, as [`Level`]'s functions make it.
    pub name: String,
    /// The new value.
    pub value: Option<Zeroizing<String>>,
    /// Not to be filed by its id.
    pub only_here: bool,
}

impl Change {
    /// Sets `name` in `scope` to `value`.
    pub fn set(scope: Scope, name: String, value: Zeroizing<String>) -> Self {
        Change {
            scope,
            name,
            value: Some(value),
            only_here: false,
        }
    }

    /// The same, but not filed by its id: more may be stored there.
    pub fn set_only_here(scope: Scope, name: String, value: Zeroizing<String>) -> Self {
        Change {
            only_here: true,
            ..Change::set(scope, name, value)
        }
    }

    /// Removes `name` from `scope`.
    pub fn unset(scope: Scope, name: String) -> Self {
        Change {
            scope,
            name,
            value: None,
            only_here: false,
        }
    }

    /// Where the same change belongs under [`BY_ID`]: keys have the same name there. Of the active keys only
    /// the user's is there, as a private attribute: the shared attributes of all users may be in one table.
    pub fn filed_by_id(&self) -> Option<(Scope, String)> {
        if self.only_here {
            return None;
        }
        if self.scope == Scope::Shared && self.name == Level::User.active() {
            return Some((Scope::Private, Level::User.active_by_id()));
        }
        if self.name == Level::User.slots() {
            return Some((self.scope, self.name.clone()));
        }
        let is_key = [Level::User, Level::Folder].iter().any(|level| {
            self.name.starts_with(&level.private_prefix())
                || self.name.starts_with(&level.public_prefix())
        });
        is_key.then(|| (self.scope, self.name.clone()))
    }
}

/// The attributes of one open mailbox.
pub trait Attributes {
    /// The value of `name`, or `None` where it isn't set.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where the dict can't answer: "can't say" is never "not set".
    fn get(&mut self, scope: Scope, name: &str) -> Result<Option<Zeroizing<String>>>;

    /// The rest of each name that begins with `prefix`.
    ///
    /// # Errors
    /// As [`Attributes::get`].
    fn list(&mut self, scope: Scope, prefix: &str) -> Result<Vec<String>>;

    /// Applies `changes` in one transaction, each also where [`Change::filed_by_id`] says.
    ///
    /// # Errors
    /// As [`Attributes::get`]; some dicts may then have applied a part.
    fn commit(&mut self, changes: Vec<Change>) -> Result<()>;

    /// Keeps other processes from changing this mailbox's keys of `level` until the result is dropped.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where the lock can't be had in time.
    fn lock(&mut self, level: Level) -> Result<Box<dyn Any>>;

    /// The mailbox's name, for messages.
    fn mailbox(&self) -> String;

    /// Whose mailbox this is.
    fn access(&self) -> Access;

    /// The same mailbox's attributes as they are filed under another GUID.
    fn under(&self, guid: &Guid) -> Box<dyn Attributes + '_>;
}

/// What the store asks of the user's session.
pub trait Host {
    /// Opens the user's INBOX, where the user's own keys are kept.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where it can't be opened.
    fn inbox(&mut self) -> Result<Box<dyn Attributes>>;

    /// Puts a warning into the server's log.
    fn warn(&mut self, text: &str);

    /// Puts a decision about keys into the server's log, if it is asked for; else `text` isn't made.
    fn debug(&self, text: &dyn Fn() -> String);

    /// Who is told what happens to the user's mail and keys.
    fn events(&self) -> Rc<dyn Events> {
        Rc::new(Silent)
    }

    /// The user's name, as Dovecot has it.
    fn username(&self) -> &str;
}

/// Whose keys those of `level` at `at` are, for messages.
pub fn owner(level: Level, at: &dyn Attributes, host: &dyn Host) -> String {
    match level {
        Level::User => format!("user {}", host.username()),
        Level::Folder => format!("mailbox {}", at.mailbox()),
    }
}

const FOLDER_PREFIX: &str = "vendor/vendor.dovecot/pvt/crypt/";
const USER_PREFIX: &str = "vendor/vendor.dovecot/pvt/server/vendor/vendor.dovecot/pvt/crypt/";

impl Level {
    /// What all attributes of this level begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Level::User => USER_PREFIX,
            Level::Folder => FOLDER_PREFIX,
        }
    }

    /// Names the key that new data is encrypted to (in [`Scope::Shared`]).
    pub fn active(self) -> String {
        format!("{}active", self.prefix())
    }

    /// Under [`BY_ID`]: names the user's active key (in [`Scope::Private`]). Among the private keys, since an SQL dict
    /// may have no place for other private names.
    pub fn active_by_id(self) -> String {
        format!("{}active", self.private_prefix())
    }

    /// Holds the public key `id` (in [`Scope::Shared`]).
    pub fn public(self, id: &KeyId) -> String {
        format!("{}{id}", self.public_prefix())
    }

    /// What the names of public keys begin with.
    pub fn public_prefix(self) -> String {
        format!("{}pubkeys/", self.prefix())
    }

    /// Holds the user's slots (in [`Scope::Private`]): see [`crate::format::slots`].
    pub fn slots(self) -> String {
        format!("{}slots", self.prefix())
    }

    /// Holds the private key `id`: in [`Scope::Private`] under the user's protection, in
    /// [`Scope::Shared`] without any (shared with everyone who can see the folder).
    pub fn private(self, id: &KeyId) -> String {
        format!("{}{id}", self.private_prefix())
    }

    /// What the names of private keys begin with.
    pub fn private_prefix(self) -> String {
        format!("{}privkeys/", self.prefix())
    }
}

/// Holds a folder's private key `id` encrypted to `user`'s key (in [`Scope::Shared`]).
pub fn shared_with(user: &str, id: &KeyId) -> String {
    format!("{}{id}", shared_with_prefix(user))
}

/// What the names of a folder's private keys encrypted to `user`'s key begin with.
pub fn shared_with_prefix(user: &str) -> String {
    let user = hex::encode(user.as_bytes());
    format!("{}{user}/", Level::Folder.private_prefix())
}
