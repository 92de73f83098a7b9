//! One command for one user: does the steps of its [`Plan`], and returns rows.
//!
//! The caller walks the folders: [`Command::next_step`] says which, and [`Command::perform`] does the step
//! in each of them.
#![forbid(unsafe_code)]

use std::collections::{HashSet, VecDeque};

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Host, Level, Scope};
use super::super::keyring::Keyring;
use super::needs::Needs;
use super::password::password;
use super::plan::{Plan, Step, Task};
use super::request::{Request, Verb};
use super::row::{About, NO_FOLDER, Row, name};
use super::{
    Generated, KeyDeletion, check_new_user_key, check_without_folder, export, folder_key, import,
    list, list_without_folder, rekey_folder, rekey_target, rekey_without_folder, reset, slot,
    user_key,
};
use crate::error::{Error, Result};
use crate::format::trees;
use crate::key::{KeyId, PublicKey};
use crate::stream::{Feed, Opener};

/// A command, its steps and what has come of them.
pub struct Command {
    request: Request,
    plan: Plan,
    rows: VecDeque<Row>,
    /// Folder keys that were listed.
    listed: HashSet<KeyId>,
    /// The user key that folder keys are put under.
    target: Option<PublicKey>,
    /// Folder keys that a new user key was checked against.
    checked: HashSet<KeyId>,
    /// What is under the user's older keys.
    needs: Needs,
    deletion: Option<KeyDeletion>,
    /// Whose key is deleted, for rows: a folder's name, or empty.
    owner: String,
    /// A folder's active key, and whether it is new: others may have to get it.
    to_share: Option<Generated>,
    scan: Opener,
}

/// What a message about the keys of this mailbox (empty: the user's own) begins with.
fn prefix(mailbox: &str) -> String {
    match mailbox {
        "" => "User key: ".to_owned(),
        mailbox => format!("Mailbox {mailbox}: "),
    }
}

impl Command {
    /// Begins the command.
    pub fn new(request: Request) -> Self {
        Command {
            plan: Plan::new(&request),
            request,
            rows: VecDeque::new(),
            listed: HashSet::new(),
            target: None,
            checked: HashSet::new(),
            needs: Needs::default(),
            deletion: None,
            owner: String::new(),
            to_share: None,
            scan: Opener::default(),
        }
    }

    /// The next step; `failed`: the last one failed in one of its folders.
    pub fn next_step(&mut self, failed: bool) -> Option<Step> {
        let last = self.plan.current().map(|step| step.task);
        if failed && matches!(last, Some(Task::CheckFolder | Task::CheckMails)) {
            if let Some(deletion) = &self.deletion {
                let id = deletion.name().to_string();
                let (mailbox, id) = (self.owner.as_str(), id.as_str());
                self.rows.push_back(Row::done(false, About { mailbox, id }));
            }
        }
        self.plan.next(failed)
    }

    /// The next row that a step has produced. Where a step failed, the earlier rows still hold.
    pub fn next_row(&mut self) -> Option<Row> {
        self.rows.pop_front()
    }

    /// Does the current step in the folder `at`, or for the user's own keys in INBOX.
    ///
    /// # Errors
    /// What the step says.
    pub fn perform(
        &mut self,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let Some(Step { task, .. }) = self.plan.current() else {
            return Err(Error::internal("no step of the command"));
        };
        let done = match task {
            Task::CheckNewUserKey => self.check_new_user_key(ring, level, at, host),
            Task::FirstUserKey => self.first_user_key(ring, at, host),
            Task::Generate => self.generate(ring, level, at, host),
            Task::Rekey => self.rekey(ring, level, at, host),
            Task::List => self.list(level, at),
            Task::ListWithoutFolder => self.list_without_folder(at),
            Task::Export => self.export(ring, level, at, host),
            Task::Import => self.import(ring, level, at, host),
            Task::BeginDeletion(number) => self.begin_deletion(number, ring, level, at, host),
            Task::CheckFolder => self.deletion()?.check_folder(at, host),
            Task::CheckMails => Err(Error::internal("mails are looked at one by one")),
            Task::Delete => self.delete(ring, level, at, host),
            Task::UndoDeletion => match self.deletion.take() {
                Some(mut deletion) => deletion.undo(at),
                None => Ok(()),
            },
            Task::FindNeeds => self.find_needs(level, at, host),
            Task::Password => self.rows_of(password(ring, host, &self.request)),
            Task::SlotList => self.rows_of(slot::list(ring, host)),
            Task::SlotAdd => self.rows_of(slot::add(ring, host, &self.request)),
            Task::SlotRemove => self.rows_of(slot::remove(ring, host, &self.request)),
            Task::SlotTest => self.rows_of(slot::test(ring, host, &self.request)),
            Task::Reset => self.rows_of(reset::reset(ring, host, &self.request)),
            Task::Reopen => self.rows_of(reset::reopen(ring, host, &self.request)),
            Task::CheckRotation => reset::check_rotation(ring, host, &self.request),
            Task::Renew => self.renew(ring, at, host),
        };
        self.request.tell(task, &done, host);
        ring.settle(at, host);
        self.answered(done, level, at)
    }

    /// Looks at the next bytes of a mail as it is stored; `first`: its first ones. Returns whether more
    /// are needed to tell that it doesn't need the chosen key.
    ///
    /// # Errors
    /// It does, or that can't be told.
    pub fn check_mail(&mut self, uid: u32, first: bool, data: &[u8]) -> Result<bool> {
        if first {
            self.scan = Opener::default();
            // It needs none of these keys.
            if trees::is_trees(data) {
                return Ok(false);
            }
        }
        if data.is_empty() {
            let text = format!("the mail with UID {uid} is cut off");
            return Err(Error::truncated(text));
        }
        match self.scan.feed(data) {
            Ok(Feed::More) => Ok(true),
            Ok(Feed::NeedKey(ids)) => self.deletion()?.check_mail(uid, &ids).map(|()| false),
            Err(e) => Err(e.context(format!("the mail with UID {uid}"))),
        }
    }

    /// The folder key that the last step made or found, which others may have to get. The caller tells the
    /// sharing module, and [`Command::check_shared`] judges what came of it.
    pub fn take_to_share(&mut self) -> Option<Generated> {
        self.to_share.take()
    }

    /// Makes sure that those with whom the folder is shared have its keys. `shared`: whether they were
    /// shared as the ACL says, or `None` if nobody shares keys. Some may have had no key when that began,
    /// and have one now.
    ///
    /// # Errors
    /// They don't have them.
    pub fn check_shared(
        &mut self,
        key: Generated,
        shared: Option<bool>,
        folder: &mut dyn Attributes,
    ) -> Result<()> {
        let level = Level::Folder;
        let done = match shared {
            Some(true) => Ok(()),
            None if !key.fresh => Ok(()),
            _ => match (folder.list(Scope::Shared, &level.private_prefix()), shared) {
                (Err(e), _) => Err(e),
                (Ok(others), None) if others.is_empty() => Ok(()),
                (Ok(_), None) => Err(Error::store(
                    "the new key is not shared with those who have the older ones: mail_crypt_acl \
                     is not loaded",
                )),
                (Ok(_), Some(_)) => Err(Error::store("its keys are not shared as its ACL says")),
            },
        };
        self.answered(done, level, folder)
    }

    /// Adds a row for a failure, if the command has a row for everything that it does.
    fn answered(&mut self, done: Result<()>, level: Level, at: &dyn Attributes) -> Result<()> {
        let Err(e) = &done else {
            return done;
        };
        let task = self.plan.current().map(|step| step.task);
        let id = match (self.request.verb, task) {
            (Some(Verb::Password), _) => {
                self.rows.push_back(Row::of([&e.to_log()]));
                return done;
            }
            (Some(Verb::Generate | Verb::Import | Verb::Rotate), _) => {
                format!("ERROR: {}", e.to_log())
            }
            (_, Some(Task::BeginDeletion(number))) => self
                .request
                .key_ids
                .get(number)
                .cloned()
                .unwrap_or_default(),
            (_, Some(Task::Delete)) => match &self.deletion {
                Some(deletion) => deletion.name().to_string(),
                None => return done,
            },
            _ => return done,
        };
        let (mailbox, id) = (name(level, at), id.as_str());
        let mailbox = mailbox.as_str();
        self.rows.push_back(Row::done(false, About { mailbox, id }));
        done
    }

    fn check_new_user_key(
        &mut self,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let found = match level {
            Level::Folder => check_new_user_key(ring, at, host, self.moves_folder_keys()),
            Level::User => check_without_folder(ring, at, host, self.moves_folder_keys()),
        }?;
        self.checked.extend(found);
        Ok(())
    }

    fn first_user_key(
        &mut self,
        ring: &mut Keyring,
        inbox: &dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let Generated { id, fresh } = user_key(ring, host, false)?;
        if fresh {
            self.done(Level::User, inbox, &id);
        }
        Ok(())
    }

    fn generate(
        &mut self,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let key = match level {
            Level::User => user_key(ring, host, self.force())?,
            Level::Folder => {
                let key = folder_key(ring, at, host, self.force())?;
                self.to_share = Some(key);
                key
            }
        };
        let note = if key.fresh {
            self.stays_behind()
        } else {
            let keys = match level {
                Level::User => "User key".to_owned(),
                Level::Folder => format!("Mailbox {}", at.mailbox()),
            };
            Some(format!("{keys}: Key exists. Use -f to generate a new one"))
        };
        let (mailbox, id) = (name(level, at), key.id.to_string());
        let about = About {
            mailbox: &mailbox,
            id: &id,
        };
        self.rows.push_back(Row {
            note,
            ..Row::done(true, about)
        });
        Ok(())
    }

    fn stays_behind(&self) -> Option<String> {
        let count = self.checked.len();
        (count > 0 && !self.moves_folder_keys()).then(|| {
            format!(
                "{count} folder key(s) stay under the older user key(s): generate -R puts them under \
                 the new one"
            )
        })
    }

    /// Whether folder keys are put under the new user key by the same command.
    fn moves_folder_keys(&self) -> bool {
        self.request.rekey || self.request.verb == Some(Verb::Rotate)
    }

    /// Whether a new key is made where there is one.
    fn force(&self) -> bool {
        self.request.force || self.request.verb == Some(Verb::Rotate)
    }

    /// Adds what was done with the key `id`.
    fn done(&mut self, level: Level, at: &dyn Attributes, id: &KeyId) {
        let (mailbox, id) = (name(level, at), id.to_string());
        let (mailbox, id) = (mailbox.as_str(), id.as_str());
        self.rows.push_back(Row::done(true, About { mailbox, id }));
    }

    fn rows_of(&mut self, rows: Result<Vec<Row>>) -> Result<()> {
        self.rows.extend(rows?);
        Ok(())
    }

    fn renew(
        &mut self,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        if let Some(key) = reset::renew(ring, folder, host)? {
            let text = format!("new key {} for mailbox {}", key.id, folder.mailbox());
            self.rows.push_back(Row::note(text));
            self.to_share = Some(key);
        }
        Ok(())
    }

    fn find_needs(
        &mut self,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        match level {
            Level::Folder => self.needs.of_folder(at, host),
            Level::User => {
                let notes = self.needs.of_user(at)?;
                self.rows.extend(notes.into_iter().map(Row::note));
                Ok(())
            }
        }
    }

    fn rekey(
        &mut self,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let target = match self.target.take() {
            Some(key) => key,
            None => rekey_target(ring, host)?,
        };
        let target = self.target.insert(target);
        match level {
            Level::User => {
                for id in rekey_without_folder(ring, at, host, target)? {
                    let (mailbox, id) = (NO_FOLDER, id.to_string());
                    self.rows
                        .push_back(Row::done(true, About { mailbox, id: &id }));
                }
            }
            Level::Folder => {
                for id in rekey_folder(ring, at, host, target)? {
                    self.done(level, at, &id);
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, level: Level, at: &mut dyn Attributes) -> Result<()> {
        for key in list(level, at)? {
            self.listed.extend(key.name.parse::<KeyId>());
            let active = match (key.active, key.locked) {
                (true, _) => "yes",
                (false, true) => "locked",
                (false, false) => "no",
            };
            let row = Row::of([&name(level, at), active, &key.name]);
            self.rows.push_back(row);
        }
        Ok(())
    }

    fn list_without_folder(&mut self, inbox: &mut dyn Attributes) -> Result<()> {
        for key in list_without_folder(inbox, &self.listed)? {
            self.rows.push_back(Row::of([NO_FOLDER, "no", &key.name]));
        }
        Ok(())
    }

    fn export(
        &mut self,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        for key in list(level, at)? {
            let exported = export(ring, level, at, host, &key.name);
            let exported = exported.map_err(|e| {
                if key.locked {
                    e.context("it is locked, see reopen")
                } else {
                    e
                }
            });
            let mailbox = name(level, at);
            self.rows.push_back(match exported {
                // openssl wants BEGIN at the beginning of a line.
                Ok(pem) => Row::of([
                    &mailbox,
                    &key.name,
                    "",
                    &Zeroizing::new(format!("\n{}", *pem)),
                ]),
                Err(e) => Row {
                    error: Some(format!("{}{e}", prefix(&mailbox))),
                    ..Row::of([&mailbox, &key.name, &format!("ERROR: {e}"), ""])
                },
            });
        }
        Ok(())
    }

    fn import(
        &mut self,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let text = std::str::from_utf8(&self.request.input)
            .map_err(|_| Error::corrupt("the key to import is not text"))?;
        let imported = import(ring, level, at, host, text, self.request.force)?;
        if level == Level::Folder {
            let (id, fresh) = (imported.id, true);
            self.to_share = Some(Generated { id, fresh });
        }
        self.done(level, at, &imported.id);
        Ok(())
    }

    fn begin_deletion(
        &mut self,
        number: usize,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        self.deletion = None;
        let Some(id) = self.request.key_ids.get(number) else {
            return Err(Error::internal("no such key among those to delete"));
        };
        let force = self.request.force;
        let mut deletion = KeyDeletion::find(ring, level, at, host, id, force)?;
        if level == Level::Folder && !force {
            deletion.retire(at)?;
        }
        self.deletion = Some(deletion);
        self.owner = name(level, at);
        Ok(())
    }

    fn delete(
        &mut self,
        ring: &mut Keyring,
        level: Level,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<()> {
        let deletion = self.deletion()?;
        let id = deletion.name().to_string();
        deletion.delete(ring, at, host, self.request.force)?;
        self.deletion = None;
        let about = About {
            mailbox: &name(level, at),
            id: &id,
        };
        self.rows.push_back(Row::done(true, about));
        Ok(())
    }

    fn deletion(&self) -> Result<&KeyDeletion> {
        let missing = || Error::internal("no key was chosen");
        self.deletion.as_ref().ok_or_else(missing)
    }
}
