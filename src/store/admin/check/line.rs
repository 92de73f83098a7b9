//! What a check says: one row for each thing that it has found.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::row::{Column, Row};
use crate::key::KeyId;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Nothing to say.
    Fact,
    /// Good to know; nobody has to do anything.
    Note,
    /// Somebody should do something.
    Problem,
}

/// One row.
pub(super) struct Line {
    pub level: Level,
    /// What it is about, for programs.
    pub record: &'static str,
    /// The folder; empty for what belongs to the user.
    pub mailbox: String,
    pub uid: Option<u32>,
    pub guid: String,
    pub state: &'static str,
    pub mails: Option<u64>,
    pub bytes: Option<u64>,
    pub key: Option<KeyId>,
    pub opens: &'static str,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// `count` of them, in words: `1 mail`, `2 mails`.
pub(super) fn many(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

const fn column(key: &'static std::ffi::CStr) -> Column {
    Column { key, title: key }
}

/// The columns of a report. The last one is a sentence for people, with all that the others say.
pub const COLUMNS: [Column; 13] = [
    column(c"record"),
    column(c"level"),
    column(c"box"),
    column(c"uid"),
    column(c"guid"),
    column(c"state"),
    column(c"mails"),
    column(c"bytes"),
    column(c"key"),
    column(c"opens"),
    column(c"reason"),
    column(c"advice"),
    column(c"text"),
];

impl Line {
    /// A line of this level about such a record, with a reason and an advice, which may be empty.
    pub(super) fn new(
        level: Level,
        record: &'static str,
        mailbox: &str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Line {
            level,
            record,
            mailbox: mailbox.to_owned(),
            uid: None,
            guid: String::new(),
            state: "",
            mails: None,
            bytes: None,
            key: None,
            opens: "",
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// With the key that it is about.
    pub(super) fn about_key(mut self, id: KeyId, state: &'static str, opens: &'static str) -> Self {
        (self.key, self.state, self.opens) = (Some(id), state, opens);
        self
    }

    /// With how many mails it is about, and their size on disk, where that matters.
    pub(super) fn about_mails(mut self, mails: u64, bytes: Option<u64>) -> Self {
        (self.mails, self.bytes) = (Some(mails), bytes);
        self
    }

    fn level_name(&self) -> &'static str {
        match self.level {
            Level::Fact => "",
            Level::Note => "note",
            Level::Problem => "problem",
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        match self.level {
            Level::Fact => {}
            Level::Note => text.push_str("note: "),
            Level::Problem => text.push_str("PROBLEM: "),
        }
        if !self.mailbox.is_empty() {
            text.push_str(&format!("{}: ", self.mailbox));
        }
        if let Some(uid) = self.uid {
            text.push_str(&format!("UID {uid}"));
            if !self.guid.is_empty() {
                text.push_str(&format!(" (GUID {})", self.guid));
            }
            text.push_str(": ");
        }
        text.push_str(&self.what);
        if !self.advice.is_empty() {
            text.push_str(&format!(". {}", self.advice));
        }
        // One line, whatever a folder's name has in it.
        text.replace(|c: char| c.is_control(), "?")
    }

    /// The row, as [`COLUMNS`] has it.
    pub(super) fn row(self) -> Row {
        let number = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
        let text = self.text();
        let level = self.level_name();
        let cells = [
            self.record.to_owned(),
            level.to_owned(),
            self.mailbox,
            number(self.uid.map(u64::from)),
            self.guid,
            self.state.to_owned(),
            number(self.mails),
            number(self.bytes),
            self.key.map_or_else(String::new, |id| id.to_string()),
            self.opens.to_owned(),
            self.what,
            self.advice,
            text,
        ];
        Row {
            cells: cells.map(Zeroizing::new).into(),
            ..Row::default()
        }
    }
}
