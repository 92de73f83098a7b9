//! What happens, for whoever counts it: Dovecot makes events of it, which its stats process gets.
//!
//! A field is a fixed word, the name of an algorithm, or a number. So none can hold a secret, a name or an id, and as the
//! label of a metric each has a few values only. docs/operations.md lists them.
#![forbid(unsafe_code)]

use std::fmt;
use std::rc::Rc;

use super::attributes::{Host, Level};
use crate::error::{Error, ErrorKind, Result};
use crate::format::slots::{SlotType, Stretch};
use crate::key::Protection;
use crate::stream::{Algorithm, Format, Version};

/// The most fields that anything has.
const MAX_FIELDS: usize = 4;

/// Something that has happened.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    /// What.
    pub name: Name,
    fields: [Option<(Field, Word)>; MAX_FIELDS],
    /// The size in bytes of what was read or written, if that is known.
    pub bytes: Option<u64>,
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// One of a few words.
    Fixed(&'static str),
    /// An algorithm's name.
    Algorithm(Algorithm),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Fixed(word) => f.write_str(word),
            Word::Algorithm(algorithm) => algorithm.fmt(f),
        }
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// An encrypted file was opened, or couldn't be.
    Decrypt,
    /// A mail that is stored in plaintext was opened, or refused.
    Plaintext,
    /// A file was encrypted, or couldn't be.
    Encrypt,
    /// A user key was unlocked, or couldn't be.
    Unlock,
    /// A key was made, or couldn't be.
    KeyCreated,
    /// Keys were changed, or couldn't be.
    KeyChanged,
}

/// The name of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A [`Source`].
    Source,
    /// The version of the file's format.
    Format,
    /// The cipher and the digest.
    Algorithm,
    /// What unlocks a key.
    SlotType,
    /// What stretches its secret.
    Kdf,
    /// Whose key it is.
    Level,
    /// Whether a new key is under anything.
    Protected,
    /// A [`Change`].
    Change,
    /// Why it failed: [`ErrorKind::code`].
    ErrorCode,
}

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A mail.
    Mail,
    /// A file of an fs driver.
    Fs,
}

/// What becomes of keys that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They get another password.
    Password,
    /// They get none.
    PasswordCleared,
    /// They get the last one back.
    PasswordUndone,
    /// They get a new password, by what a slot has.
    Reset,
    /// Nothing opens them any more.
    Abandoned,
    /// What nothing opened is put under the password.
    Reopened,
    /// Folder keys are put under another user key.
    Rekeyed,
    /// A key comes from elsewhere.
    Imported,
    /// A key is deleted.
    Deleted,
    /// A slot is added.
    SlotAdded,
    /// A slot is removed.
    SlotRemoved,
    /// The same password is stretched more.
    Stretched,
    /// Escrow gets copies.
    Escrowed,
    /// A folder's key goes to those who may read now, or from those who may no more.
    Shared,
}

/// Who is told.
pub trait Events {
    /// Tells what has happened, if somebody wants to know.
    fn emit(&self, happened: Happened);
}

/// Tells nobody.
pub struct Silent;

impl Events for Silent {
    fn emit(&self, _: Happened) {}
}

/// Whose files a reader or writer has, and who is told about them.
#[derive(Clone)]
pub struct Origin {
    /// Whose.
    pub source: Source,
    /// Who.
    pub events: Rc<dyn Events>,
}

impl Default for Origin {
    fn default() -> Self {
        Origin {
            source: Source::Fs,
            events: Rc::new(Silent),
        }
    }
}

/// What opened a user key, or should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    slot_type: &'static str,
    kdf: &'static str,
}

impl Way {
    /// Its string, as it is stored.
    pub fn string(protection: &Protection) -> Self {
        let (slot_type, kdf) = match protection {
            Protection::None => (NONE, NONE),
            Protection::Password => (SlotType::Password.name(), "pbkdf2"),
            Protection::Key(_) => (SlotType::Key.name(), NONE),
        };
        Way { slot_type, kdf }
    }

    /// A slot.
    pub fn slot(slot_type: SlotType, stretch: &Stretch) -> Self {
        let kdf = match stretch {
            Stretch::None => NONE,
            Stretch::Pbkdf2 { .. } => "pbkdf2",
            Stretch::Argon2id { .. } => "argon2id",
        };
        let slot_type = slot_type.name();
        Way { slot_type, kdf }
    }
}

const NONE: &str = "none";

impl Happened {
    fn new(name: Name) -> Self {
        Happened {
            name,
            fields: [None; MAX_FIELDS],
            bytes: None,
        }
    }

    fn with(self, field: Field, word: &'static str) -> Self {
        self.with_word(field, Word::Fixed(word))
    }

    fn with_word(mut self, field: Field, word: Word) -> Self {
        if let Some(free) = self.fields.iter_mut().find(|field| field.is_none()) {
            *free = Some((field, word));
        }
        self
    }

    fn failed(self, error: Option<ErrorKind>) -> Self {
        match error {
            Some(kind) => self.with(Field::ErrorCode, kind.code()),
            None => self,
        }
    }

    /// A file was read or written. `format`: of what it is, as far as that is known.
    pub fn file(
        name: Name,
        source: Source,
        format: Option<Format>,
        bytes: Option<u64>,
        error: Option<ErrorKind>,
    ) -> Self {
        let mut event = Self::new(name).with(Field::Source, source.word());
        if let Some(Format { version, algorithm }) = format {
            let version = match version {
                Version::V1 => "1",
                Version::V2 => "2",
            };
            event = event
                .with(Field::Format, version)
                .with_word(Field::Algorithm, Word::Algorithm(algorithm));
        }
        event.bytes = bytes;
        event.failed(error)
    }

    /// A user key was unlocked.
    pub fn unlocked(way: Way, error: Option<ErrorKind>) -> Self {
        Self::new(Name::Unlock)
            .with(Field::SlotType, way.slot_type)
            .with(Field::Kdf, way.kdf)
            .failed(error)
    }

    /// A key was made.
    pub fn created(level: Level, protected: bool, error: Option<ErrorKind>) -> Self {
        let level = match level {
            Level::User => "user",
            Level::Folder => "folder",
        };
        Self::new(Name::KeyCreated)
            .with(Field::Level, level)
            .with(Field::Protected, if protected { "yes" } else { "no" })
            .failed(error)
    }

    /// Keys were changed.
    pub fn changed(change: Change, error: Option<ErrorKind>) -> Self {
        Self::new(Name::KeyChanged)
            .with(Field::Change, change.word())
            .failed(error)
    }

    /// The fields, without the number.
    pub fn fields(&self) -> impl Iterator<Item = (Field, Word)> {
        self.fields.into_iter().flatten()
    }

    /// Whether nothing but the number differs.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.name, self.bytes.is_some(), self.fields)
            == (other.name, other.bytes.is_some(), other.fields)
    }
}

impl Source {
    fn word(self) -> &'static str {
        match self {
            Source::Mail => "mail",
            Source::Fs => "fs",
        }
    }
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Change::Password => "password",
            Change::PasswordCleared => "password_clear",
            Change::PasswordUndone => "password_undo",
            Change::Reset => "reset",
            Change::Abandoned => "abandon",
            Change::Reopened => "reopen",
            Change::Rekeyed => "rekey",
            Change::Imported => "import",
            Change::Deleted => "delete",
            Change::SlotAdded => "slot_add",
            Change::SlotRemoved => "slot_remove",
            Change::Stretched => "stretch",
            Change::Escrowed => "escrow",
            Change::Shared => "share",
        }
    }
}

/// What kind of error it was, if it was one.
pub fn kind<T>(result: &Result<T>) -> Option<ErrorKind> {
    result.as_ref().err().map(Error::kind)
}

/// Tells of a change of keys, unless there was nothing to do: `Ok(false)`.
pub fn tell(change: Change, done: &Result<bool>, host: &dyn Host) {
    if !matches!(done, Ok(false)) {
        host.events().emit(Happened::changed(change, kind(done)));
    }
}

#[cfg(test)]
mod tests;
