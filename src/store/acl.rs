//! What a folder's ACL says about the right to read, which decides who needs its keys.
//!
//! The order of identifiers and the meaning of negative and global rights are Dovecot's.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

/// Whom an entry is about. Later ones override earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Everyone, logged in or not.
    Anyone,
    /// Everyone who is logged in.
    Authenticated,
    /// The members of a group.
    Group(String),
    /// Whoever owns the folder.
    Owner,
    /// One user.
    User(String),
    /// The members of a group, overriding what their own entries as users say.
    GroupOverride(String),
}

/// One entry of a folder's ACL, as far as reading goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Set by the administrator for all folders; stronger than the folder's own entries.
    pub global: bool,
    /// Whom it is about.
    pub who: Who,
    /// Whether its rights include reading; `None` where it has no rights, not even an empty list.
    pub read: Option<bool>,
    /// Whether its negative rights include reading; `None` where it has none.
    pub denied: Option<bool>,
}

/// What a change does to the rights that an entry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Takes the given rights away.
    Remove,
    /// Adds the given rights.
    Add,
    /// Puts the given rights in the place of the old ones.
    Replace,
    /// Takes all rights away.
    Clear,
}

/// A change of one entry.
#[derive(Clone, Debug)]
pub struct Update {
    /// Whose entry.
    pub who: Who,
    /// What is done to the rights.
    pub mode: Mode,
    /// What is done to the negative rights.
    pub denied_mode: Mode,
    /// Whether the given rights include reading; `None` where none are given.
    pub read: Option<bool>,
    /// The same for the given negative rights.
    pub denied: Option<bool>,
}

/// Who can read a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// The users who can by entries of their own.
    pub users: BTreeSet<String>,
    /// Whether somebody else can, as anyone, or as a member of a group.
    pub others: bool,
}

impl Mode {
    fn apply(self, old: Option<bool>, given: Option<bool>) -> Option<bool> {
        match (self, given) {
            (Mode::Clear, _) => None,
            (_, None) => old,
            (Mode::Remove, Some(given)) => old.map(|old| old && !given),
            (Mode::Add, Some(given)) => Some(given || old.unwrap_or(false)),
            (Mode::Replace, Some(given)) => Some(given),
        }
    }
}

/// The entries after `update`. Global entries can't be changed.
pub fn updated(entries: &[Entry], update: &Update) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    let found = entries
        .iter()
        .position(|e| !e.global && e.who == update.who);
    let mut entry = match found {
        Some(at) => entries.swap_remove(at),
        None => Entry {
            global: false,
            who: update.who.clone(),
            read: None,
            denied: None,
        },
    };
    entry.read = update.mode.apply(entry.read, update.read);
    entry.denied = update.denied_mode.apply(entry.denied, update.denied);
    if entry.read.is_some() || entry.denied.is_some() {
        entries.push(entry);
    }
    entries
}

/// Who can read by the folder's own entries. A right that only a global entry gives is not
/// somebody's decision about this folder, and shares nothing; global entries can only restrict.
///
/// Who is in which group isn't known here: a user's own entry counts even where a group-override
/// might take the right away from that user.
pub fn readers(entries: &[Entry]) -> Readers {
    let mut readers = Readers::default();
    for entry in entries.iter().filter(|e| gives(entries, &e.who)) {
        match &entry.who {
            Who::User(name) => {
                readers.users.insert(name.clone());
            }
            _ => readers.others = true,
        }
    }
    readers
}

/// Whether the folder's own entry for `who` lets them read.
pub fn gives(entries: &[Entry], who: &Who) -> bool {
    let by_it = |matches: &dyn Fn(&Who) -> bool| {
        deciding(entries, matches).is_some_and(|e| !e.global && e.who == *who)
    };
    let logged_in = |other: &Who| matches!(other, Who::Anyone | Who::Authenticated);
    match who {
        Who::Owner => false,
        Who::Anyone => by_it(&|o| *o == Who::Anyone) || by_it(&logged_in),
        Who::Authenticated => by_it(&logged_in),
        Who::User(_) => by_it(&|o| logged_in(o) || o == who),
        Who::Group(name) | Who::GroupOverride(name) => by_it(&|o| match o {
            Who::Group(other) | Who::GroupOverride(other) => other == name,
            _ => logged_in(o),
        }),
    }
}

/// Of the entries that `matches` picks, all about one person: the one that lets that person read, or
/// `None`.
fn deciding<'a>(entries: &'a [Entry], matches: &dyn Fn(&Who) -> bool) -> Option<&'a Entry> {
    let mut mine: Vec<&Entry> = entries.iter().filter(|e| matches(&e.who)).collect();
    mine.sort_by_key(|e| (e.global, &e.who));
    let mut rights = None;
    let mut denied = false;
    let mut global = false;
    for entry in mine {
        if entry.global && !global {
            // What the folder denies doesn't hold against what the administrator gives.
            global = true;
            denied = false;
        }
        if entry.read.is_some() {
            rights = Some(entry);
        }
        denied = entry.denied.unwrap_or(denied);
    }
    rights.filter(|entry| entry.read == Some(true) && !denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Who {
        Who::User(name.to_owned())
    }

    fn group(name: &str) -> Who {
        Who::Group(name.to_owned())
    }

    /// `who` with rights that include reading, or not.
    fn rights(who: Who, read: bool) -> Entry {
        Entry {
            global: false,
            who,
            read: Some(read),
            denied: None,
        }
    }

    fn denied(who: Who) -> Entry {
        Entry {
            global: false,
            who,
            read: None,
            denied: Some(true),
        }
    }

    fn global(entry: Entry) -> Entry {
        Entry {
            global: true,
            ..entry
        }
    }

    fn found(entries: &[Entry]) -> (Vec<String>, bool) {
        let readers = readers(entries);
        (readers.users.into_iter().collect(), readers.others)
    }

    fn users(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn only_a_right_to_read_makes_a_reader() {
        let entries = [
            rights(Who::Anyone, false),
            rights(group("staff"), false),
            rights(user("bob"), true),
            rights(user("carol"), false),
        ];
        assert_eq!(found(&entries), (users(&["bob"]), false));
        assert_eq!(found(&[rights(Who::Owner, true)]), (vec![], false));
        for who in [
            Who::Anyone,
            Who::Authenticated,
            group("g"),
            Who::GroupOverride("g".into()),
        ] {
            assert_eq!(found(&[rights(who, true)]), (vec![], true));
        }
    }

    #[test]
    fn a_negative_right_takes_reading_away() {
        let bob = Entry {
            denied: Some(true),
            ..rights(user("bob"), true)
        };
        assert_eq!(found(&[bob]), (vec![], false));
        // It also holds for stronger identifiers that have no negative rights of their own.
        let entries = [denied(Who::Anyone), rights(user("bob"), true)];
        assert_eq!(found(&entries), (vec![], false));
        let bob = Entry {
            denied: Some(false),
            ..rights(user("bob"), true)
        };
        assert_eq!(found(&[denied(Who::Anyone), bob]), (users(&["bob"]), false));
        // Denied to one, still given to the others.
        let entries = [rights(Who::Anyone, true), denied(user("bob"))];
        assert_eq!(found(&entries), (vec![], true));
    }

    #[test]
    fn a_stronger_identifier_replaces_what_a_weaker_one_gives() {
        let entries = [rights(Who::Anyone, true), rights(Who::Authenticated, false)];
        // Who isn't logged in still reads.
        assert_eq!(found(&entries), (vec![], true));
        let entries = [
            rights(group("staff"), true),
            rights(Who::GroupOverride("staff".into()), false),
        ];
        assert_eq!(found(&entries), (vec![], false));
        let entries = [rights(Who::Anyone, true), rights(user("bob"), true)];
        assert_eq!(found(&entries), (users(&["bob"]), true));
    }

    #[test]
    fn global_rights_restrict_and_never_share() {
        assert_eq!(found(&[global(rights(user("bob"), true))]), (vec![], false));
        let entries = [
            rights(Who::Anyone, true),
            global(rights(Who::Anyone, false)),
        ];
        assert_eq!(found(&entries), (vec![], false));
        // The order in which they are listed means nothing.
        let entries = [
            global(rights(Who::Anyone, false)),
            rights(user("bob"), true),
        ];
        assert_eq!(found(&entries), (vec![], false));
        let entries = [
            denied(user("bob")),
            rights(user("bob"), true),
            global(Entry {
                read: None,
                ..denied(Who::Owner)
            }),
        ];
        assert_eq!(found(&entries[1..]), (users(&["bob"]), false));
    }

    fn update(who: Who, mode: Mode, read: Option<bool>) -> Update {
        Update {
            who,
            mode,
            denied_mode: mode,
            read,
            denied: None,
        }
    }

    #[test]
    fn updates_do_what_dovecot_does() {
        let old = [rights(user("bob"), true)];
        let after = |mode, read| found(&updated(&old, &update(user("bob"), mode, read))).0;
        assert_eq!(after(Mode::Replace, Some(false)), users(&[]));
        assert_eq!(after(Mode::Replace, Some(true)), users(&["bob"]));
        assert_eq!(after(Mode::Add, Some(false)), users(&["bob"]));
        assert_eq!(after(Mode::Remove, Some(false)), users(&["bob"]));
        assert_eq!(after(Mode::Remove, Some(true)), users(&[]));
        assert_eq!(after(Mode::Remove, None), users(&["bob"]));
        assert_eq!(after(Mode::Clear, None), users(&[]));
        let carol = update(user("carol"), Mode::Add, Some(true));
        assert_eq!(found(&updated(&old, &carol)).0, users(&["bob", "carol"]));
        assert!(updated(&[], &update(user("bob"), Mode::Remove, Some(true))).is_empty());
    }

    #[test]
    fn clearing_negative_rights_gives_reading_back() {
        let bob = Entry {
            denied: Some(true),
            ..rights(user("bob"), true)
        };
        let clear = Update {
            who: user("bob"),
            mode: Mode::Remove,
            denied_mode: Mode::Clear,
            read: None,
            denied: None,
        };
        assert_eq!(found(&updated(&[bob], &clear)).0, users(&["bob"]));
    }

    #[test]
    fn an_update_leaves_global_entries_alone() {
        let old = [global(rights(user("bob"), false))];
        let after = updated(&old, &update(user("bob"), Mode::Replace, Some(true)));
        assert_eq!(after.len(), 2);
        assert_eq!(found(&after), (vec![], false));
    }
}
