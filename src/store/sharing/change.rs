//! One change of a folder's ACL, or one check of who lacks its keys, as steps for the caller to take.
//!
//! The ACL is read twice. First without the folder's lock, so that nobody waits while users are looked up:
//! there may be many, and each lookup may be slow. Then under the lock, where only users who were added in
//! between are looked up.
#![forbid(unsafe_code)]

use std::any::Any;

use super::super::acl::{Entry, Update};
use super::super::attributes::{Attributes, Host, Level};
use super::super::keyring::Keyring;
use super::{Sharee, Sharing};
use crate::error::{Error, Result};

/// What the caller does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Reads the ACL as it is now, and gives each of its entries to [`AclChange::entry`].
    ReadAcl,
    /// Looks this user up, for [`AclChange::answer`].
    LookUp(String),
    /// Changes the ACL: keys are as it will be.
    Done,
}

/// A change, from the first look to the end of the lock.
pub struct AclChange {
    /// The folder's owner, who isn't a sharee.
    owner: String,
    /// What is going to be changed, if anything.
    update: Option<Update>,
    entries: Vec<Entry>,
    stage: Stage,
    sharing: Option<Sharing>,
    /// Whom the caller looks up.
    asked: Option<String>,
    /// Held until the ACL was changed.
    lock: Option<Box<dyn Any>>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Nothing was read yet.
    New,
    /// The caller reads the ACL.
    Reading,
    /// The ACL was read, and users are looked up.
    Asking,
    /// Keys are as the ACL will be.
    Applied,
}

impl AclChange {
    /// Begins a change. Without `update` nothing is changed: those who lack keys get them.
    pub fn new(owner: String, update: Option<Update>) -> Self {
        AclChange {
            owner,
            update,
            entries: Vec::new(),
            stage: Stage::New,
            sharing: None,
            asked: None,
            lock: None,
        }
    }

    /// Goes on until the caller has to do something.
    ///
    /// # Errors
    /// The ACL must not change; keys are as they were.
    pub fn next(
        &mut self,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Next> {
        loop {
            match self.stage {
                Stage::New => return Ok(self.read()),
                // Nearly every folder: nobody waits for a lock where a key is shared with nobody.
                Stage::Reading if self.update.is_none() && self.entries.is_empty() => {
                    self.stage = Stage::Applied;
                }
                Stage::Reading => self.plan(ring, folder)?,
                Stage::Asking => {
                    let sharing = self.sharing.as_mut().ok_or_else(out_of_order)?;
                    if let Some(name) = sharing.wanted() {
                        self.asked = Some(name.clone());
                        return Ok(Next::LookUp(name));
                    }
                    if self.lock.is_none() {
                        self.lock = Some(folder.lock(Level::Folder)?);
                        return Ok(self.read());
                    }
                    sharing.apply(ring, folder, host)?;
                    self.stage = Stage::Applied;
                }
                Stage::Applied => return Ok(Next::Done),
            }
        }
    }

    fn read(&mut self) -> Next {
        self.entries.clear();
        self.stage = Stage::Reading;
        Next::ReadAcl
    }

    fn plan(&mut self, ring: &Keyring, folder: &mut dyn Attributes) -> Result<()> {
        let update = self.update.clone();
        let sharing = Sharing::new(&self.owner, &self.entries, update, ring, folder)?;
        self.sharing = Some(match self.sharing.take() {
            Some(earlier) => sharing.knowing(earlier),
            None => sharing,
        });
        self.stage = Stage::Asking;
        Ok(())
    }

    /// Takes one entry of the ACL, after [`Next::ReadAcl`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where it wasn't asked for.
    pub fn entry(&mut self, entry: Entry) -> Result<()> {
        if !matches!(self.stage, Stage::Reading) {
            return Err(out_of_order());
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Takes what was found out about the user of [`Next::LookUp`], or why nothing could be.
    ///
    /// # Errors
    /// Where the change would let that user read, but without the keys.
    pub fn answer(&mut self, found: Result<Sharee>, host: &mut dyn Host) -> Result<()> {
        let name = self.asked.take().ok_or_else(out_of_order)?;
        let sharing = self.sharing.as_mut().ok_or_else(out_of_order)?;
        let unknown = found.as_ref().err().map(Error::to_string);
        sharing.answer(&name, found)?;
        if let Some(why) = unknown {
            host.warn(&format!("the key of user {name} is not known: {why}"));
        }
        Ok(())
    }

    /// Takes the change of keys back, because the ACL could not be changed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`]: then keys and rights differ.
    pub fn undo(&mut self, folder: &mut dyn Attributes) -> Result<()> {
        self.sharing.as_mut().ok_or_else(out_of_order)?.undo(folder)
    }
}

fn out_of_order() -> Error {
    Error::internal("sharing keys: steps out of order")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::key::PrivateKey;
    use crate::store::acl::{Mode, Who};
    use crate::store::testing::{Mailbox, Session, SharedDict, keyring};

    struct User {
        folder: Mailbox,
        session: Session,
        ring: Keyring,
    }

    /// A user with a folder that has a key.
    fn user() -> User {
        let dict = SharedDict::default();
        let mut user = User {
            folder: Mailbox::new(&dict, "Work"),
            session: Session::new(&dict),
            ring: keyring(&[]),
        };
        user.ring
            .sender(&mut user.folder, &mut user.session)
            .unwrap();
        user
    }

    impl User {
        fn next(&mut self, change: &mut AclChange) -> Result<Next> {
            change.next(&mut self.ring, &mut self.folder, &mut self.session)
        }
    }

    fn bob() -> Who {
        Who::User("bob".to_owned())
    }

    fn reading(who: Who) -> Entry {
        Entry {
            global: false,
            who,
            read: Some(true),
            denied: None,
        }
    }

    fn granting() -> AclChange {
        let update = Update {
            who: bob(),
            mode: Mode::Replace,
            denied_mode: Mode::Clear,
            read: Some(true),
            denied: None,
        };
        AclChange::new("alice".to_owned(), Some(update))
    }

    fn found() -> Result<Sharee> {
        Ok(Sharee::User {
            name: "bob".to_owned(),
            key: Some(PrivateKey::generate("prime256v1").unwrap().public()),
        })
    }

    fn copies(user: &User) -> usize {
        let shared = |path: &String| path.starts_with("shared/Work/");
        let dict = user.folder.dict.borrow();
        let copies = dict.matching("/privkeys/");
        copies.into_iter().filter(shared).count()
    }

    #[test]
    fn users_are_looked_up_before_the_lock_and_once() {
        let mut user = user();
        let mut change = granting();
        assert_eq!(user.next(&mut change).unwrap(), Next::ReadAcl);
        let look_up = Next::LookUp("bob".to_owned());
        assert_eq!(user.next(&mut change).unwrap(), look_up);
        drop(user.folder.lock(Level::Folder).unwrap());
        change.answer(found(), &mut user.session).unwrap();
        assert_eq!(user.next(&mut change).unwrap(), Next::ReadAcl);
        assert_eq!(copies(&user), 0);
        assert_eq!(user.next(&mut change).unwrap(), Next::Done);
        assert_eq!(copies(&user), 1);
        assert_eq!(user.next(&mut change).unwrap(), Next::Done);
        change.undo(&mut user.folder).unwrap();
        assert_eq!(copies(&user), 0);
        drop(change);
        drop(user.folder.lock(Level::Folder).unwrap());
    }

    #[test]
    fn who_came_in_between_is_looked_up_under_the_lock() {
        let mut user = user();
        let mut change = AclChange::new("alice".to_owned(), None);
        assert_eq!(user.next(&mut change).unwrap(), Next::ReadAcl);
        change.entry(reading(Who::Owner)).unwrap();
        assert_eq!(user.next(&mut change).unwrap(), Next::ReadAcl);
        change.entry(reading(bob())).unwrap();
        let look_up = Next::LookUp("bob".to_owned());
        assert_eq!(user.next(&mut change).unwrap(), look_up);
        change.answer(found(), &mut user.session).unwrap();
        assert_eq!(user.next(&mut change).unwrap(), Next::Done);
        assert_eq!(copies(&user), 1);
    }

    #[test]
    fn a_new_key_of_a_folder_without_an_acl_waits_for_no_lock() {
        let mut user = user();
        let lock = user.folder.lock(Level::Folder).unwrap();
        let mut change = AclChange::new("alice".to_owned(), None);
        assert_eq!(user.next(&mut change).unwrap(), Next::ReadAcl);
        assert_eq!(user.next(&mut change).unwrap(), Next::Done);
        drop(lock);
        assert_eq!(copies(&user), 0);
    }

    #[test]
    fn nothing_is_granted_to_somebody_who_is_not_known() {
        let mut user = user();
        let mut change = granting();
        user.next(&mut change).unwrap();
        user.next(&mut change).unwrap();
        let unknown = change.answer(Ok(Sharee::Unknown), &mut user.session);
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NoKey);
    }

    #[test]
    fn steps_out_of_order_are_errors() {
        let mut user = user();
        let mut change = granting();
        assert!(change.answer(found(), &mut user.session).is_err());
        assert!(change.undo(&mut user.folder).is_err());
        assert!(change.entry(reading(bob())).is_err());
    }
}
