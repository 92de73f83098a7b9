//! `doveadm mailbox crypt check`: what is wrong with a user's mail and keys.
//!
//! The caller walks the folders and their mails, and hands over what lies on disk; here is decided what that means. Nothing is
//! changed: no key is made, filed in its other place, or put under anything else.
#![forbid(unsafe_code)]

mod counts;
mod folder;
mod keys;
mod line;
mod mail;
mod shares;
mod user;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use self::folder::Folder;
use self::keys::{Protections, StoredFolderKey};
use self::line::Line;
use super::row::Row;
use crate::error::{Error, Result};
use crate::key::KeyId;
use crate::store::acl::Entry;
use crate::store::attributes::{Attributes, Guid, Host};
use crate::store::keyring::Keyring;
use crate::stream::Sizes;

pub use counts::Counts;
pub use line::{COLUMNS, Level};

/// What is asked for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wanted {
    /// All of each mail is verified.
    pub full: bool,
    /// All of the user's folders are looked at: only then it can be told what nobody needs.
    pub whole: bool,
}

/// A mail that is about to be looked at.
pub struct MailInfo {
    /// Its UID.
    pub uid: u32,
    /// Its size on disk.
    pub bytes: u64,
    /// What is known of its sizes.
    pub sizes: Sizes,
    /// The index cache says that it was encrypted when it was read before.
    pub was_encrypted: bool,
}

/// One check of one user.
pub struct Check {
    wanted: Wanted,
    protections: Protections,
    rows: VecDeque<Row>,
    counts: Counts,
    folder: Option<Folder>,
    /// Some folder couldn't be looked at to its end.
    incomplete: bool,
    /// The keys that mails are encrypted to, by the ids in their headers.
    needed: HashSet<KeyId>,
    /// The folder keys that are stored.
    stored: Vec<StoredFolderKey>,
    /// How many folder keys are under each user key.
    under: BTreeMap<KeyId, u64>,
    /// The GUIDs of the user's folders.
    guids: HashSet<String>,
    /// Under other GUIDs: their keys.
    litter: BTreeMap<String, BTreeSet<String>>,
}

impl Check {
    /// Begins a check.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where INBOX can't be asked; [`crate::ErrorKind::Setting`].
    pub fn new(wanted: Wanted, ring: &Keyring, host: &mut dyn Host) -> Result<Self> {
        ring.settings().check()?;
        Ok(Check {
            wanted,
            protections: Protections::read(host)?,
            rows: VecDeque::new(),
            counts: Counts::default(),
            folder: None,
            incomplete: false,
            needed: HashSet::new(),
            stored: Vec::new(),
            under: BTreeMap::new(),
            guids: HashSet::new(),
            litter: BTreeMap::new(),
        })
    }

    /// The next row.
    pub fn next_row(&mut self) -> Option<Row> {
        self.rows.pop_front()
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Something couldn't be looked at: it can't be told what nobody needs.
    pub fn incomplete(&mut self) {
        self.incomplete = true;
    }

    fn say(&mut self, line: Line) {
        match line.level {
            Level::Fact => {}
            Level::Note => self.counts.note(),
            Level::Problem => self.counts.problem(),
        }
        self.rows.push_back(line.row());
    }

    /// Begins with a folder, whose GUID is given. Returns whether it is a new one: masks may name one twice.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`], [`crate::ErrorKind::Setting`]: the folder can't be checked.
    pub fn begin_folder(
        &mut self,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
        guid: &Guid,
    ) -> Result<bool> {
        self.folder = None;
        if !self.guids.insert(crate::hex::encode(guid)) {
            return Ok(false);
        }
        let begun = Folder::begin(self, ring, folder, host)?;
        self.folder = Some(begun);
        Ok(true)
    }

    /// Compares the copies of the folder's keys with its ACL; `None`: nobody can be asked for it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`].
    pub fn shares(
        &mut self,
        folder: &mut dyn Attributes,
        host: &dyn Host,
        acl: Option<&[Entry]>,
    ) -> Result<()> {
        let mailbox = folder.mailbox();
        let own = self.stored.iter().filter(|key| key.mailbox == mailbox);
        let keys: Vec<KeyId> = own.map(|key| key.id).collect();
        let readers = acl.map(crate::store::acl::readers);
        let lines = shares::check(folder, host.username(), readers.as_ref(), &keys)?;
        lines.into_iter().for_each(|line| self.say(line));
        Ok(())
    }

    /// Begins with a mail of the folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where there is no folder.
    pub fn begin_mail(&mut self, info: MailInfo) -> Result<()> {
        self.current()?.begin_mail(info);
        Ok(())
    }

    /// Takes the next bytes of the mail as they are stored, none at its end. Returns whether more are wanted.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`] where a key can't be asked for.
    pub fn feed(
        &mut self,
        ring: &mut Keyring,
        at: &mut dyn Attributes,
        host: &mut dyn Host,
        data: &[u8],
    ) -> Result<bool> {
        let full = self.wanted.full;
        let mut folder = self.take_folder()?;
        let fed = folder.feed(
            (ring, at, host),
            (&self.protections, &self.stored),
            full,
            data,
        );
        self.folder = Some(folder);
        fed
    }

    /// The mail has ended. `failed`: why it couldn't be read. Returns whether something is wrong with it, so that its
    /// GUID is wanted for [`Check::end_mail`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where there is no mail.
    pub fn judge_mail(&mut self, failed: Option<Error>) -> Result<bool> {
        self.current()?.judge_mail(failed)
    }

    /// Counts the mail, and says what is wrong with it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where there is no mail.
    pub fn end_mail(&mut self, guid: &str) -> Result<()> {
        let mut folder = self.take_folder()?;
        let ended = folder.end_mail(guid, &mut self.counts, &mut self.needed);
        self.folder = Some(folder);
        if let Some(line) = ended? {
            self.say(line);
        }
        Ok(())
    }

    /// The index cache has this field of so many mails.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where there is no folder.
    pub fn cached(&mut self, field: &str, mails: u64) -> Result<()> {
        self.current()?.cached(field, mails);
        Ok(())
    }

    /// A mail of the folder has an attachment in a file of its own.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where there is no folder.
    pub fn attachment(&mut self, encrypted: bool) -> Result<()> {
        self.current()?.attachment(encrypted);
        Ok(())
    }

    /// Says what was counted in the folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where there is no folder.
    pub fn end_folder(&mut self) -> Result<()> {
        let folder = self.take_folder()?;
        for line in folder.end(&self.stored) {
            self.say(line);
        }
        Ok(())
    }

    /// The dict has this private attribute of the user, under whichever GUID.
    pub fn attribute(&mut self, path: &str) {
        user::note_litter(&mut self.litter, path);
    }

    /// Looks at the user's own keys, and at what was found in all folders.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`].
    pub fn end_user(&mut self, ring: &mut Keyring, host: &mut dyn Host) -> Result<()> {
        for line in user::end(self, ring, host)? {
            self.say(line);
        }
        Ok(())
    }

    fn current(&mut self) -> Result<&mut Folder> {
        self.folder.as_mut().ok_or_else(no_folder)
    }

    fn take_folder(&mut self) -> Result<Folder> {
        self.folder.take().ok_or_else(no_folder)
    }
}

fn no_folder() -> Error {
    Error::internal("no folder is being checked")
}
