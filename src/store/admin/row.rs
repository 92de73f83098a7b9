//! What a command shows.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Level};
use super::request::Verb;

/// One column of what a command shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What programs know it by.
    pub key: &'static CStr,
    /// What people see; empty where the values speak for themselves.
    pub title: &'static CStr,
}

/// How the columns are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A table.
    Table,
    /// A line for each column.
    Pager,
    /// The values alone.
    Values,
}

const fn column(key: &'static CStr, title: &'static CStr) -> Column {
    Column { key, title }
}

const DONE: [Column; 3] = [
    column(c"success", c"  "),
    column(c"box", c"Folder"),
    column(c"pubid", c"Public ID"),
];
const LIST: [Column; 3] = [
    column(c"box", c"Folder"),
    column(c"active", c"Active"),
    column(c"pubid", c"Public ID"),
];
const EXPORT: [Column; 4] = [
    column(c"box", c"Folder"),
    column(c"name", c"Public ID"),
    column(c"error", c"Error"),
    column(c"key", c"Key"),
];
const RESULT: [Column; 1] = [column(c"result", c"result")];
const SECRET: [Column; 1] = [column(c"password", c"")];
const SLOTS: [Column; 7] = [
    column(c"slot", c"Slot"),
    column(c"type", c"Type"),
    column(c"label", c"Label"),
    column(c"created", c"Created"),
    column(c"kdf", c"KDF"),
    column(c"state", c"State"),
    column(c"opens", c"Opens"),
];
const OPENS: [Column; 2] = [column(c"slot", c"Slot"), column(c"opens", c"Opens")];

/// What the rows of a command consist of.
pub fn columns(verb: Verb) -> (Layout, &'static [Column]) {
    match verb {
        Verb::List => (Layout::Table, &LIST),
        Verb::Export => (Layout::Pager, &EXPORT),
        Verb::Password => (Layout::Pager, &RESULT),
        Verb::SlotList => (Layout::Table, &SLOTS),
        Verb::SlotTest => (Layout::Table, &OPENS),
        // A secret, and nothing beside it.
        Verb::SlotAdd | Verb::Reset => (Layout::Values, &SECRET),
        Verb::Generate
        | Verb::Import
        | Verb::Delete
        | Verb::SlotRemove
        | Verb::Reopen
        | Verb::Rotate => (Layout::Table, &DONE),
    }
}

/// One row, and what the administrator should know besides.
#[derive(Default)]
pub struct Row {
    /// A value for each column; empty: there is nothing to show but a note.
    pub cells: Vec<Zeroizing<String>>,
    /// For the administrator, not for programs.
    pub note: Option<String>,
    /// What went wrong with this row, where it is no error of the whole step.
    pub error: Option<String>,
}

/// What a row says about a key.
pub(super) struct About<'a> {
    pub mailbox: &'a str,
    pub id: &'a str,
}

const SUCCESS: &str = "\u{2713}";
const FAILURE: &str = "x";
/// The owner of the user's own keys.
const USER_KEY: &str = "<userkey>";
/// The owner of keys that no folder has.
pub(super) const NO_FOLDER: &str = "<no folder>";

impl Row {
    /// A row of these values.
    pub(super) fn of<const N: usize>(cells: [&str; N]) -> Self {
        Row {
            cells: cells.map(|c| Zeroizing::new(c.to_owned())).into(),
            ..Row::default()
        }
    }

    /// No row: only something to know.
    pub(super) fn note(text: String) -> Self {
        Row {
            note: Some(text),
            ..Row::default()
        }
    }

    /// That something was done with a key, or not.
    pub(super) fn done(ok: bool, About { mailbox, id }: About<'_>) -> Self {
        let mailbox = if mailbox.is_empty() {
            USER_KEY
        } else {
            mailbox
        };
        Row::of([if ok { SUCCESS } else { FAILURE }, mailbox, id])
    }
}

/// Whose keys these are, for rows; empty for the user's own.
pub(super) fn name(level: Level, at: &dyn Attributes) -> String {
    match level {
        Level::User => String::new(),
        Level::Folder => at.mailbox(),
    }
}
