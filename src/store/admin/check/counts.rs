//! What a check has counted: one line a user.
#![forbid(unsafe_code)]

use super::super::row::Column;
use super::line::many;

/// How a mail is found to be, for counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// As new mail of the folder is.
    Active,
    /// To the active key, in another form than new mail.
    OtherForm,
    /// To another key of the folder.
    OldKey,
    /// In version 1 of the format.
    Version1,
    /// Not encrypted.
    Plain,
    /// Damaged, or under a key that nothing opens.
    Unreadable,
    /// Encrypted once more inside.
    Twice,
    /// Under a key that was given up with `reset --abandon`.
    Locked,
    /// Written by the plugin TREES.
    Trees,
}

impl What {
    /// All of them, in the order of a report.
    pub(super) const ALL: [What; 9] = [
        What::Active,
        What::OtherForm,
        What::OldKey,
        What::Version1,
        What::Plain,
        What::Unreadable,
        What::Twice,
        What::Locked,
        What::Trees,
    ];

    /// For programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            What::Active => "active",
            What::OtherForm => "other-form",
            What::OldKey => "older-key",
            What::Version1 => "version-1",
            What::Plain => "plain",
            What::Unreadable => "unreadable",
            What::Twice => "twice",
            What::Locked => "locked",
            What::Trees => "trees",
        }
    }

    /// For people, after a number of mails.
    pub(super) fn words(self) -> &'static str {
        match self {
            What::Active => "encrypted to the active key",
            What::OtherForm => "encrypted to the active key in another form than new mail",
            What::OldKey => "encrypted to an older key",
            What::Version1 => "encrypted in version 1, in which changes don't show",
            What::Plain => "not encrypted",
            What::Unreadable => "not readable",
            What::Twice => "encrypted twice",
            What::Locked => "under a key that was given up",
            What::Trees => "encrypted by TREES, which doesn't prove order and completeness",
        }
    }
}

/// The numbers of one user.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts(pub [u64; Counts::COUNT]);

impl Counts {
    /// How many numbers there are.
    pub const COUNT: usize = 13;
    const MAILS: usize = 0;
    const BYTES: usize = 1;
    const FIRST_STATE: usize = 2;
    const NOTES: usize = 11;
    const PROBLEMS: usize = 12;

    /// What the numbers are; behind them stands [`Counts::text`].
    pub const COLUMNS: [Column; Counts::COUNT + 1] = [
        column(c"mails", c"Mails"),
        column(c"bytes", c"Bytes"),
        column(c"active", c"Active"),
        column(c"other-form", c"Other form"),
        column(c"older-key", c"Older key"),
        column(c"version-1", c"Version 1"),
        column(c"plain", c"Plain"),
        column(c"unreadable", c"Unreadable"),
        column(c"twice", c"Twice"),
        column(c"locked", c"Locked"),
        column(c"trees", c"TREES"),
        column(c"notes", c"Notes"),
        column(c"problems", c"Problems"),
        column(c"text", c"text"),
    ];

    pub(super) fn mail(&mut self, what: What, bytes: u64) {
        self.0[Self::MAILS] += 1;
        self.0[Self::BYTES] += bytes;
        let number = What::ALL.iter().position(|other| *other == what);
        self.0[Self::FIRST_STATE + number.unwrap_or_default()] += 1;
    }

    pub(super) fn note(&mut self) {
        self.0[Self::NOTES] += 1;
    }

    pub(super) fn problem(&mut self) {
        self.0[Self::PROBLEMS] += 1;
    }

    /// How many problems there are.
    pub fn problems(&self) -> u64 {
        self.0[Self::PROBLEMS]
    }

    /// How many mails are not encrypted.
    pub fn plain(&self) -> u64 {
        self.of(What::Plain)
    }

    /// A sentence for people.
    pub fn text(&self) -> String {
        let [mails, bytes] = [Self::MAILS, Self::BYTES].map(|at| self.0[at]);
        let mut text = format!("{}, {}", many(mails, "mail"), many(bytes, "byte"));
        for what in What::ALL {
            match self.of(what) {
                0 => {}
                count => text.push_str(&format!(", {count} {}", what.words())),
            }
        }
        text.push_str(&format!(
            "; {}, {}",
            many(self.0[Self::NOTES], "note"),
            many(self.problems(), "problem")
        ));
        text
    }

    fn of(&self, what: What) -> u64 {
        let number = What::ALL.iter().position(|other| *other == what);
        self.0[Self::FIRST_STATE + number.unwrap_or_default()]
    }
}

const fn column(key: &'static std::ffi::CStr, title: &'static std::ffi::CStr) -> Column {
    Column { key, title }
}

const _: () = assert!(Counts::FIRST_STATE + What::ALL.len() == Counts::NOTES);
