//! Whole commands: the steps that they take, and the rows that they answer.

use super::super::{Command, Folders, Request, Row, Verb};
use super::*;

fn request(verb: Verb) -> Request {
    Request {
        verb: Some(verb),
        ..Request::default()
    }
}

impl User {
    /// Runs the command with the folder "Work" for all that it asks for, and answers rows and errors.
    pub(super) fn run(&mut self, request: Request) -> (Vec<Row>, Vec<Error>) {
        let mut command = Command::new(request);
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        let mut failed = false;
        while let Some(step) = command.next_step(failed) {
            let (level, name) = match step.folders {
                Folders::UserKeys => (Level::User, "INBOX"),
                _ => (Level::Folder, "Work"),
            };
            let mut at = self.folder(name);
            let done = match step.task {
                // There are no mails.
                Task::CheckMails => Ok(()),
                _ => command.perform(&mut self.ring, level, &mut at, &mut self.session),
            };
            failed = done.is_err();
            errors.extend(done.err());
        }
        while let Some(row) = command.next_row() {
            rows.push(row);
        }
        (rows, errors)
    }
}

/// The folder of each row, and whether it was done.
fn shown(rows: &[Row]) -> Vec<(&str, bool)> {
    let done = |row: &'_ Row| row.cells[0].as_str() == "\u{2713}";
    rows.iter()
        .map(|r| (r.cells[1].as_str(), done(r)))
        .collect()
}

#[test]
fn generate_mentions_the_users_first_key_only_where_it_is_new() {
    let mut user = User::new(&[]);
    let (rows, _) = user.run(request(Verb::Generate));
    assert_eq!(shown(&rows), [("<userkey>", true), ("Work", true)]);
    assert!(rows.iter().all(|row| row.note.is_none()));
    let (rows, _) = user.run(request(Verb::Generate));
    assert_eq!(shown(&rows), [("Work", true)]);
    let note = rows[0].note.as_deref();
    let expected = "Mailbox Work: Key exists. Use -f to generate a new one";
    assert_eq!(note, Some(expected));
}

#[test]
fn generate_says_which_keys_stay_under_the_older_user_key() {
    let mut user = User::new(&[]);
    user.run(request(Verb::Generate));
    let forced = Request {
        user_key: true,
        force: true,
        ..request(Verb::Generate)
    };
    let (rows, _) = user.run(forced);
    let note = rows[0].note.as_deref().unwrap();
    assert!(note.starts_with("1 folder key(s) stay under"), "{note}");
}

#[test]
fn a_failed_generation_has_a_row_that_says_why() {
    let mut user = User::new(&[]);
    user.dict.borrow_mut().down = true;
    let (rows, errors) = user.run(request(Verb::Generate));
    assert_eq!(shown(&rows), [("<userkey>", false)]);
    assert_eq!(*rows[0].cells[2], format!("ERROR: {}", errors[0]));
    assert_eq!(errors.len(), 1);
}

#[test]
fn a_key_that_is_not_deleted_has_a_row_and_stays_in_use() {
    let mut user = User::new(&[]);
    let old = user.folder_key("Work", false).unwrap().id;
    let active = user.folder_key("Work", true).unwrap().id;
    let ids = [active, old].map(|id| id.to_string());
    let delete = Request {
        key_ids: ids.to_vec(),
        ..request(Verb::Delete)
    };
    let (rows, errors) = user.run(delete);
    assert_eq!(shown(&rows), [("Work", false), ("Work", true)]);
    assert_eq!([&*rows[0].cells[2], &*rows[1].cells[2]], [&ids[0], &ids[1]]);
    assert_eq!(errors[0].kind(), ErrorKind::Refused);
    assert_eq!(user.list(Level::Folder, "Work").len(), 1);
}

#[test]
fn a_new_key_that_nobody_shares_is_an_error_where_others_have_the_older_ones() {
    let mut user = User::new(&[]);
    let key = user.folder_key("Work", true).unwrap();
    let mut folder = user.folder("Work");
    let mut command = Command::new(request(Verb::Generate));
    command.check_shared(key, None, &mut folder).unwrap();
    let failed = command.check_shared(key, Some(false), &mut folder);
    assert!(error(failed).to_string().contains("as its ACL says"));
    let name = super::super::super::attributes::shared_with("bob", &key.id);
    let copy = Change::set(Scope::Shared, name, Zeroizing::new("2:".to_owned()));
    folder.commit(vec![copy]).unwrap();
    let failed = command.check_shared(key, None, &mut folder);
    assert!(error(failed).to_string().contains("mail_crypt_acl"));
    command.check_shared(key, Some(true), &mut folder).unwrap();
}
