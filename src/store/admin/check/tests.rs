//! What a check finds, without a Dovecot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::format::stream::Version;
use crate::format::trees::MAGIC as TREES;
use crate::key::PrivateKey;
use crate::store::acl::Who;
use crate::store::attributes::{Level as KeyLevel, Scope, shared_with};
use crate::store::testing::{Mailbox, Session, SharedDict, guid, keyring};
use crate::stream::{Algorithm, Encryptor, Sender};

const MAIL: &[u8] = b"From: <a@example.org>\nSubject: hi\n\nbody\n";
const UNKNOWN: Sizes = Sizes {
    recorded: None,
    with_crlf: None,
    actual: None,
};
const SECRET: &[(&str, &str)] = &[
    ("mail_crypt_private_password", "secret"),
    ("mail_crypt_password_rounds", "1"),
];

/// A check of the folder "Work".
struct Checked {
    dict: SharedDict,
    ring: Keyring,
    session: Session,
    check: Check,
}

impl Checked {
    fn new(dict: &SharedDict, settings: &[(&str, &str)], full: bool) -> Self {
        let ring = keyring(settings);
        let mut session = Session::new(dict);
        let wanted = Wanted { full, whole: true };
        let check = Check::new(wanted, &ring, &mut session).unwrap();
        let mut checked = Checked {
            dict: SharedDict::clone(dict),
            ring,
            session,
            check,
        };
        assert!(checked.begin("Work"));
        checked
    }

    fn begin(&mut self, name: &str) -> bool {
        let mut folder = Mailbox::new(&self.dict, name);
        let (ring, host) = (&mut self.ring, &mut self.session);
        let begun = self
            .check
            .begin_folder(ring, &mut folder, host, &guid(name));
        begun.unwrap()
    }

    /// Looks at a mail whose file is `file`, in pieces of `piece` bytes.
    fn mail(&mut self, uid: u32, file: &[u8], piece: usize) {
        let info = MailInfo {
            uid,
            bytes: file.len() as u64,
            sizes: UNKNOWN,
            was_encrypted: false,
        };
        self.check.begin_mail(info).unwrap();
        let mut work = Mailbox::new(&self.dict, "Work");
        let (ring, host) = (&mut self.ring, &mut self.session);
        for data in file.chunks(piece).chain([&[][..]]) {
            if !self.check.feed(ring, &mut work, host, data).unwrap() {
                break;
            }
        }
        let wrong = self.check.judge_mail(None).unwrap();
        self.check
            .end_mail(if wrong { "the GUID" } else { "" })
            .unwrap();
    }

    /// Ends the check: what is said, but for what is no more than a fact.
    fn end(mut self) -> Vec<[String; 5]> {
        self.check.end_folder().unwrap();
        let (ring, host) = (&mut self.ring, &mut self.session);
        self.check.end_user(ring, host).unwrap();
        let mut said = Vec::new();
        while let Some(row) = self.check.next_row() {
            assert_eq!(row.cells.len(), COLUMNS.len());
            let cell = |at: usize| row.cells[at].to_string();
            // record, level, uid, state, opens
            if !cell(1).is_empty() || cell(0) == "folder" || cell(0).ends_with("key") {
                said.push([cell(0), cell(1), cell(3), cell(5), cell(9)]);
            }
        }
        said
    }
}

fn has(said: &[[String; 5]], wanted: [&str; 5]) -> bool {
    said.iter().any(|line| *line == wanted)
}

/// A user with a key for "Work" under a password, and that key.
fn user() -> (SharedDict, PrivateKey) {
    let dict = SharedDict::default();
    let mut ring = keyring(SECRET);
    let mut session = Session::new(&dict);
    let mut work = Mailbox::new(&dict, "Work");
    let id = ring.sender(&mut work, &mut session).unwrap().borrow().id();
    let key = ring.private_key(&[id], &mut work, &mut session).unwrap();
    (dict, key)
}

fn encrypted(key: &PrivateKey, mail: &[u8]) -> Vec<u8> {
    let mut sender = Sender::new(key.public());
    let mut encryptor = Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
    let mut file = Vec::new();
    encryptor.update(mail, &mut file).unwrap();
    encryptor.finish(&mut file).unwrap();
    file
}

#[test]
fn each_state_is_counted_and_problems_are_named() {
    let (dict, key) = user();
    for piece in [1, 100, 1 << 20] {
        let mut checked = Checked::new(&dict, SECRET, true);
        checked.mail(1, &encrypted(&key, MAIL), piece);
        checked.mail(2, MAIL, piece);
        let mut damaged = encrypted(&key, MAIL);
        *damaged.last_mut().unwrap() ^= 1;
        checked.mail(3, &damaged, piece);
        checked.mail(4, &encrypted(&key, &encrypted(&key, MAIL)), piece);
        checked.mail(
            5,
            &encrypted(&PrivateKey::generate("prime256v1").unwrap(), MAIL),
            piece,
        );
        checked.mail(6, &encrypted(&key, MAIL)[..40], piece);
        checked.mail(7, b"", piece);
        checked.mail(8, &[&TREES[..], &[0; 600]].concat(), piece);
        let counts = *checked.check.counts();
        assert_eq!(counts.problems(), 6);
        assert_eq!(counts.plain(), 2);
        let said = checked.end();
        for (uid, state) in [
            ("2", "plain"),
            ("3", "unreadable"),
            ("4", "twice"),
            ("5", "unreadable"),
            ("6", "unreadable"),
            ("7", "plain"),
        ] {
            assert!(has(&said, ["mail", "problem", uid, state, ""]), "{said:?}");
        }
        assert!(has(&said, ["folder", "", "", "active", ""]));
        assert!(has(&said, ["folder", "note", "", "trees", ""]));
        assert!(has(&said, ["key", "", "", "active", "yes"]));
        assert!(has(&said, ["key", "", "", "older", "missing"]));
    }
}

#[test]
fn large_mail_that_is_encrypted_twice_is_found() {
    let (dict, key) = user();
    let inner = encrypted(&key, &MAIL.repeat(40_000));
    let mut checked = Checked::new(&dict, SECRET, true);
    checked.mail(1, &encrypted(&key, &inner), 8192);
    assert!(has(&checked.end(), ["mail", "problem", "1", "twice", ""]));
    // Without opening it, nobody can tell.
    let mut checked = Checked::new(&dict, SECRET, false);
    checked.mail(1, &encrypted(&key, &inner), 8192);
    assert_eq!(checked.check.counts().problems(), 0);
}

#[test]
fn without_a_password_keys_are_not_tried_and_nothing_is_blamed() {
    let (dict, key) = user();
    let mut checked = Checked::new(&dict, &[], true);
    checked.mail(1, &encrypted(&key, MAIL), 4096);
    let said = checked.end();
    assert!(said.iter().all(|line| line[1] != "problem"), "{said:?}");
    assert!(has(&said, ["key", "", "", "active", "not tried"]));
    assert!(has(&said, ["user-key", "", "", "active", "not tried"]));
    let mut wrong = Checked::new(&dict, &[("mail_crypt_private_password", "wrong")], true);
    wrong.mail(1, &encrypted(&key, MAIL), 4096);
    let said = wrong.end();
    assert!(has(&said, ["mail", "problem", "1", "unreadable", ""]));
    assert!(has(&said, ["user-key", "problem", "", "active", "no"]));
}

#[test]
fn a_check_changes_no_attribute_and_takes_no_lock() {
    let (dict, key) = user();
    // Nothing may be filed in its other place, nor made where it is missing.
    let by_id: Vec<_> = dict.borrow().by_id("");
    by_id
        .iter()
        .for_each(|path| drop(dict.borrow_mut().entries.remove(path)));
    let before = dict.borrow().entries.clone();
    dict.borrow_mut().commits_left = Some(0);
    let _lock = [KeyLevel::User, KeyLevel::Folder]
        .map(|level| Mailbox::new(&dict, "INBOX").lock(level).unwrap());
    for settings in [SECRET, &[]] {
        let mut checked = Checked::new(&dict, settings, true);
        checked.mail(1, &encrypted(&key, MAIL), 4096);
        assert!(!checked.begin("Work"), "the same folder twice");
        assert!(checked.begin("Other"));
        checked.end();
    }
    assert_eq!(dict.borrow().entries, before);
}

#[test]
fn copies_of_keys_are_compared_with_the_acl() {
    let (dict, key) = user();
    let may_read = |who| Entry {
        global: false,
        who,
        read: Some(true),
        denied: None,
    };
    let bob = may_read(Who::User("bob".to_owned()));
    let anyone = may_read(Who::Anyone);
    let of_bob = shared_with("Bob", &key.id());
    let open = KeyLevel::Folder.private(&key.id());
    for (copies, acl, problems) in [
        (vec![], vec![], 0),
        (vec![], vec![bob.clone()], 1),
        (vec![&of_bob], vec![bob.clone()], 0),
        (vec![&of_bob], vec![], 1),
        (vec![], vec![anyone.clone()], 1),
        (vec![&open], vec![anyone.clone()], 0),
        (vec![&open], vec![], 1),
        // A reader without a key of his own takes the unencrypted one.
        (vec![&open], vec![bob.clone()], 0),
        (vec![&open, &of_bob], vec![bob], 1),
    ] {
        let mut work = Mailbox::new(&dict, "Work");
        let changes = copies.iter().map(|name| {
            crate::store::Change::set(Scope::Shared, (*name).clone(), "2:key".to_owned().into())
        });
        work.commit(changes.collect()).unwrap();
        let mut checked = Checked::new(&dict, SECRET, false);
        let host = &checked.session;
        checked.check.shares(&mut work, host, Some(&acl)).unwrap();
        assert_eq!(
            checked.check.counts().problems(),
            problems,
            "{copies:?} {acl:?}"
        );
        let unset = |name: &&String| crate::store::Change::unset(Scope::Shared, (*name).clone());
        work.commit(copies.iter().map(unset).collect()).unwrap();
    }
}

#[test]
fn a_name_can_not_make_a_line_of_its_own() {
    let line = Line::new(
        Level::Problem,
        "mail",
        "A\nPROBLEM",
        "not encrypted",
        "Do it",
    );
    let row = line.row();
    assert_eq!(
        &**row.cells.last().unwrap(),
        "PROBLEM: A?PROBLEM: not encrypted. Do it"
    );
}
