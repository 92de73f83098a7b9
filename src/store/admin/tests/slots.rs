//! Slots, and what happens to them between other commands.

use std::collections::HashSet;

use super::super::{Request, Verb};
use super::*;
use crate::store::slots as stored;

impl User {
    fn with(dict: &SharedDict, password: &str) -> Self {
        let settings = [
            ("mail_crypt_private_password", password),
            ("mail_crypt_password_rounds", "1"),
        ];
        Self::again(dict, &settings)
    }

    /// Runs a command about the user's keys and the folder "Work".
    fn does(
        &mut self,
        verb: Verb,
        lines: &[&str],
        change: impl Fn(&mut Request),
    ) -> Result<Vec<String>> {
        let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut request = Request {
            verb: Some(verb),
            input: input.bytes().collect(),
            ..Request::default()
        };
        change(&mut request);
        let (rows, errors) = self.run(request);
        if let Some(e) = errors.into_iter().next() {
            return Err(e);
        }
        let cells = rows.iter().filter_map(|row| row.cells.first());
        Ok(cells.map(|cell| cell.to_string()).collect())
    }

    fn add_slot(&mut self, slot_type: &str, name: &str, lines: &[&str]) -> Option<String> {
        let said = self.does(Verb::SlotAdd, lines, |request| {
            request.slot_type = slot_type.to_owned();
            request.slot = name.to_owned();
        });
        said.unwrap().into_iter().next()
    }

    fn abandon(&mut self, new: &str) -> Result<Vec<String>> {
        self.does(Verb::Reset, &[new], |request| request.abandon = true)
    }

    fn change(&mut self, old: &str, new: &str) -> Result<Vec<String>> {
        let secret = |text: &str| Some(text.bytes().collect::<Secret>());
        self.does(Verb::Password, &[], |request| {
            request.old = secret(old);
            request.new = secret(new);
        })
    }
}

/// Whether a session with this secret opens the folder's key.
fn opens(dict: &SharedDict, secret: &str, key: &KeyId) -> bool {
    let mut user = User::with(dict, secret);
    let mut work = user.folder("Work");
    let (ring, host) = (&mut user.ring, &mut user.session);
    ring.private_key(&[*key], &mut work, host).is_ok()
}

/// A user whose folder has a key, under the password "old".
fn alice() -> (SharedDict, KeyId) {
    let dict = SharedDict::default();
    let key = User::with(&dict, "old").folder_key("Work", false).unwrap();
    (dict, key.id)
}

fn active(dict: &SharedDict) -> KeyId {
    let mut inbox = Mailbox::new(dict, "INBOX");
    filing::active(Level::User, &mut inbox).unwrap().unwrap().id
}

#[test]
fn one_secret_opens_all_that_its_slots_open() {
    for rounds in ["1", "2"] {
        let (dict, first) = alice();
        User::with(&dict, "old").add_slot("password", "a", &["old", "second"]);
        User::with(&dict, "forgotten").abandon("new").unwrap();
        let second = User::with(&dict, "new").folder_key("Work", false).unwrap();
        let settings = [
            ("mail_crypt_private_password", "new"),
            ("mail_crypt_password_rounds", rounds),
        ];
        let mut later = User::again(&dict, &settings);
        later.add_slot("password", "b", &["new", "second"]);
        assert!(opens(&dict, "second", &second.id), "{rounds}");
        assert!(opens(&dict, "second", &first), "{rounds}");
    }
}

#[test]
fn a_slots_secret_protects_no_new_user_key() {
    let (dict, key) = alice();
    let code = User::with(&dict, "old")
        .add_slot("app", "phone", &["old"])
        .unwrap();
    let backup = User::with(&dict, "old")
        .export(Level::User, "INBOX", &active(&dict))
        .unwrap();
    let before = dict.borrow().entries.clone();
    let generate = |request: &mut Request| {
        request.user_key = true;
        request.force = true;
    };
    let import = |request: &mut Request| {
        request.user_key = true;
        request.input = backup.bytes().collect();
    };
    let rotate = |_: &mut Request| {};
    for done in [
        User::with(&dict, &code).does(Verb::Generate, &[], generate),
        User::with(&dict, &code).does(Verb::Import, &[], import),
        User::with(&dict, &code).does(Verb::Rotate, &[], rotate),
    ] {
        let e = error(done);
        assert_eq!(e.kind(), ErrorKind::Refused);
        assert!(e.to_string().contains("slot phone"), "{e}");
    }
    assert!(dict.borrow().entries == before);
    assert!(opens(&dict, "old", &key));
}

#[test]
fn giving_up_that_was_interrupted_locks_nobody_out() {
    for left in 0..8 {
        let (dict, key) = alice();
        dict.borrow_mut().commits_left = Some(left);
        let done = User::with(&dict, "forgotten").abandon("new").is_ok();
        dict.borrow_mut().commits_left = None;
        // The password turns up. What says that it has worked has worked.
        let changed = User::with(&dict, "old").change("old", "newer").is_ok();
        let now = if changed { "newer" } else { "old" };
        assert!(opens(&dict, now, &key), "{left}");
        let made = filing::listed(Level::User, &mut Mailbox::new(&dict, "INBOX"))
            .unwrap()
            .len();
        let today = if made > 1 && !changed { "new" } else { now };
        let reopened = User::with(&dict, today).does(Verb::Reopen, &[now], |_| {});
        let is_locked = "has no locked key";
        if let Err(e) = reopened {
            assert!(e.to_string().contains(is_locked), "{left}: {e}");
        }
        assert!(opens(&dict, today, &key), "{left}");
        User::with(&dict, today).change(today, "last").unwrap();
        assert!(opens(&dict, "last", &key), "{left}");
        if done {
            break;
        }
    }
}

#[test]
fn reopening_that_was_interrupted_is_finished_by_the_next() {
    let mut interrupted = 0;
    for left in 0..8 {
        let (dict, key) = alice();
        User::with(&dict, "forgotten").abandon("new").unwrap();
        let reopen = || User::with(&dict, "new").does(Verb::Reopen, &["old"], |_| {});
        dict.borrow_mut().commits_left = Some(left);
        let done = reopen().is_ok();
        dict.borrow_mut().commits_left = None;
        if done {
            break;
        }
        interrupted += 1;
        reopen().unwrap_or_else(|e| panic!("{left}: {e}"));
        let entries = User::with(&dict, "new").list(Level::User, "INBOX");
        assert!(entries.iter().all(|entry| !entry.locked), "{left}");
        User::with(&dict, "new").change("new", "newer").unwrap();
        assert!(opens(&dict, "newer", &key), "{left}");
    }
    assert!(interrupted > 1);
}

#[test]
fn importing_a_locked_key_that_was_interrupted_is_finished_by_the_next() {
    let mut interrupted = 0;
    for left in 0..8 {
        let (dict, key) = alice();
        let id = active(&dict);
        let backup = User::with(&dict, "old")
            .export(Level::User, "INBOX", &id)
            .unwrap();
        User::with(&dict, "forgotten").abandon("new").unwrap();
        let import = || {
            User::with(&dict, "new").does(Verb::Import, &[], |request| {
                request.user_key = true;
                request.input = backup.bytes().collect();
            })
        };
        dict.borrow_mut().commits_left = Some(left);
        let _ = import();
        dict.borrow_mut().commits_left = None;
        let mut entries = User::with(&dict, "new")
            .list(Level::User, "INBOX")
            .into_iter();
        if !entries.any(|entry| entry.locked) {
            break;
        }
        interrupted += 1;
        // Either way mends it.
        match left % 2 {
            0 => import(),
            _ => User::with(&dict, "new").does(Verb::Reopen, &["old"], |_| {}),
        }
        .unwrap_or_else(|e| panic!("{left}: {e}"));
        User::with(&dict, "new").change("new", "newer").unwrap();
        assert!(opens(&dict, "newer", &key), "{left}");
    }
    assert!(interrupted > 1);
}

#[test]
fn keys_are_not_reopened_under_the_secret_of_a_slot() {
    let (dict, key) = alice();
    User::with(&dict, "forgotten").abandon("new").unwrap();
    User::with(&dict, "new").add_slot("password", "second", &["new", "second"]);
    let before = dict.borrow().entries.clone();
    let reopen = |today: &str| User::with(&dict, today).does(Verb::Reopen, &["old"], |_| {});
    assert_eq!(error(reopen("second")).kind(), ErrorKind::Refused);
    assert!(dict.borrow().entries == before);
    reopen("new").unwrap();
    assert!(opens(&dict, "new", &key));
}

#[test]
fn a_code_resets_nothing_where_it_opens_only_some_of_the_keys() {
    let (dict, key) = alice();
    let code = User::with(&dict, "old")
        .add_slot("recovery", "paper", &["old"])
        .unwrap();
    // Another server has made a user key of its own, and its dict came along.
    let (other, _) = alice();
    let id = active(&other);
    let backup = User::with(&other, "old")
        .export(Level::User, "INBOX", &id)
        .unwrap();
    let slots = dict.borrow().entries.clone();
    User::with(&dict, "old")
        .does(Verb::Import, &[], |request| {
            request.user_key = true;
            request.force = true;
            request.input = backup.bytes().collect();
        })
        .unwrap();
    let slots = slots
        .into_iter()
        .filter(|(name, _)| name.ends_with("/slots"));
    dict.borrow_mut().entries.extend(slots);
    let before = dict.borrow().entries.clone();
    let e = error(User::with(&dict, "forgotten").does(Verb::Reset, &[&code, "new"], |_| {}));
    assert!(e.to_string().contains(&id.to_string()), "{e}");
    assert!(e.to_string().contains("Nothing was changed"), "{e}");
    assert!(dict.borrow().entries == before);
    // What it says helps, and what the code opens is there again.
    User::with(&dict, "forgotten").abandon("new").unwrap();
    User::with(&dict, "new")
        .does(Verb::Reopen, &[&code], |_| {})
        .unwrap();
    assert!(opens(&dict, "new", &key));
}

#[test]
fn a_locked_key_that_is_imported_is_locked_no_more() {
    let (dict, key) = alice();
    let code = User::with(&dict, "old")
        .add_slot("app", "phone", &["old"])
        .unwrap();
    let id = active(&dict);
    let backup = User::with(&dict, "old")
        .export(Level::User, "INBOX", &id)
        .unwrap();
    User::with(&dict, "forgotten").abandon("new").unwrap();
    let import = |request: &mut Request| {
        request.user_key = true;
        request.input = backup.bytes().collect();
    };
    User::with(&dict, "new")
        .does(Verb::Import, &[], import)
        .unwrap();
    assert!(opens(&dict, "new", &key));
    let entries = User::with(&dict, "new").list(Level::User, "INBOX");
    assert!(entries.iter().all(|entry| !entry.locked));
    User::with(&dict, "new").change("new", "newer").unwrap();
    for secret in ["newer", &code] {
        assert!(opens(&dict, secret, &key), "{secret}");
    }
}

#[test]
fn slots_that_cannot_be_read_are_not_left_behind_in_silence() {
    for damage in ["1 x", "9 1", ""] {
        let (dict, _) = alice();
        User::with(&dict, "old").add_slot("recovery", "paper", &["old"]);
        for (name, value) in &mut dict.borrow_mut().entries {
            if name.ends_with("/slots") {
                *value = value.replacen("1 1", damage, 1);
            }
        }
        let before = dict.borrow().warnings.len();
        let rotated = User::with(&dict, "old").does(Verb::Rotate, &["old"], |_| {});
        let warned = dict.borrow().warnings[before..].join("\n");
        let said = warned + &rotated.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("slots"), "{damage}: {said}");
        // None of it is overwritten.
        let inbox = Mailbox::new(&dict, "INBOX").get(Scope::Private, &Level::User.slots());
        assert!(inbox.unwrap().unwrap().contains("slot paper"));
    }
}

#[test]
fn what_has_no_room_is_refused_and_changes_nothing() {
    let (dict, _) = alice();
    for number in 0..16 {
        User::with(&dict, "old").add_slot("recovery", &format!("paper-{number}"), &["old"]);
    }
    let before = dict.borrow().entries.clone();
    let one_more = User::with(&dict, "old").does(Verb::SlotAdd, &["old"], |request| {
        request.slot_type = "app".to_owned();
    });
    assert_eq!(error(one_more).kind(), ErrorKind::Refused);
    assert!(dict.borrow().entries == before);
    // Every rotation takes room for its key in all of them.
    let mut made = 0;
    let e = loop {
        let before = dict.borrow().entries.clone();
        match User::with(&dict, "old").does(Verb::Rotate, &["old"], |_| {}) {
            Ok(_) => made += 1,
            Err(e) => {
                assert!(dict.borrow().entries == before);
                break e;
            }
        }
        assert!(made < 50);
    };
    assert!(made > 2, "{made}");
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("delete"), "{e}");
    // What it says helps.
    let mut inbox = Mailbox::new(&dict, "INBOX");
    let now = active(&dict);
    let old = filing::listed(Level::User, &mut inbox).unwrap();
    for id in old.into_iter().filter(|id| *id != now) {
        User::with(&dict, "old")
            .delete(Level::User, "INBOX", &id, true)
            .unwrap();
    }
    User::with(&dict, "old")
        .does(Verb::Rotate, &["old"], |_| {})
        .unwrap();
}

#[test]
fn every_secret_is_stretched_once_at_most() {
    let (dict, key) = alice();
    for number in 0..5 {
        let secret = format!("second-{number}");
        User::with(&dict, "old").add_slot("password", &secret, &["old", &secret]);
    }
    let found = stored::read(&mut Mailbox::new(&dict, "INBOX")).unwrap();
    let stretches: HashSet<_> = found.slots().map(|s| s.stretch.clone()).collect();
    assert_eq!(stretches.len(), 1);
    for number in 0..5 {
        assert!(opens(&dict, &format!("second-{number}"), &key));
    }
}

#[test]
fn a_mark_that_is_damaged_is_named_and_can_be_removed() {
    let (dict, _) = alice();
    User::with(&dict, "forgotten").abandon("new").unwrap();
    for (name, value) in &mut dict.borrow_mut().entries {
        if name.ends_with("/slots") {
            *value = value.replacen("locked ", "lockd ", 1);
        }
    }
    let (rows, _) = User::with(&dict, "new").run(Request {
        verb: Some(Verb::SlotList),
        ..Request::default()
    });
    let named = rows[0].cells[0].to_string();
    let said = User::with(&dict, "new").does(Verb::SlotRemove, &[], |request| {
        request.slot = named.clone();
        request.force = true;
    });
    said.unwrap();
    let found = stored::read(&mut Mailbox::new(&dict, "INBOX")).unwrap();
    assert!(found.records.is_empty());
}

#[test]
fn an_unprotected_key_is_not_kept_once_it_is_protected() {
    let dict = SharedDict::default();
    let mut user = User::again(&dict, &[]);
    let key = user.folder_key("Work", false).unwrap();
    user.does(Verb::Password, &[], |request| {
        request.new = Some(b"new".iter().copied().collect());
    })
    .unwrap();
    let found = stored::read(&mut Mailbox::new(&dict, "INBOX")).unwrap();
    assert!(found.records.is_empty());
    let undo = |request: &mut Request| request.undo = true;
    let e = error(User::again(&dict, &[]).does(Verb::Password, &[], undo));
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(opens(&dict, "new", &key.id));
}
