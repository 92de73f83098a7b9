//! Sharing folder keys while an ACL changes: the exports. The caller reads the ACL, looks users up and
//! changes the ACL.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::boundary::{Handle, Opaque, entry, free, mcrs_error, opaque, put};
use super::dovecot::{mail_user, mailbox};
use super::mailbox::{Mailbox, Session};
use super::user::{User, mcrs_user};
use crate::error::{Error, Result};
use crate::store::acl::{Entry, Mode, Update, Who};
use crate::store::sharing::{AclChange, Next, active_key};
use crate::store::{Host, Sharee, in_use};

/// Everyone.
pub const MCRS_WHO_ANYONE: c_int = 0;
/// Everyone who is logged in.
pub const MCRS_WHO_AUTHENTICATED: c_int = 1;
/// The members of a group.
pub const MCRS_WHO_GROUP: c_int = 2;
/// The folder's owner.
pub const MCRS_WHO_OWNER: c_int = 3;
/// One user.
pub const MCRS_WHO_USER: c_int = 4;
/// The members of a group, stronger than users.
pub const MCRS_WHO_GROUP_OVERRIDE: c_int = 5;

/// Given rights are taken away.
pub const MCRS_ACL_REMOVE: c_int = 0;
/// Given rights are added.
pub const MCRS_ACL_ADD: c_int = 1;
/// Given rights replace the old ones.
pub const MCRS_ACL_REPLACE: c_int = 2;
/// All rights are taken away.
pub const MCRS_ACL_CLEAR: c_int = 3;

/// An entry of a folder's ACL, or a change of one.
#[repr(C)]
pub struct mcrs_acl_entry {
    /// `MCRS_WHO_*`
    pub who: c_int,
    /// The user's or group's name; NULL for the others.
    pub identifier: *const c_char,
    /// It holds for all folders.
    pub global: bool,
    /// Whether its rights include reading: 1 yes, 0 no, -1 it has none.
    pub read: c_int,
    /// The same for its negative rights.
    pub denied: c_int,
    /// For a change: what it does to the rights, `MCRS_ACL_*`.
    pub mode: c_int,
    /// For a change: what it does to the negative rights.
    pub denied_mode: c_int,
}

/// A change, and the user whose folder it is about.
pub struct Share {
    user: Rc<RefCell<User>>,
    change: AclChange,
    /// The user to look up, lent to the caller until the next call.
    asked: CString,
}

/// One change of a folder's ACL.
pub struct mcrs_sharing(Handle<Share>);

opaque!(mcrs_sharing, Share);

/// Called after a key of the open `mailbox` was made, so that it can be shared. Returns 0, or -1 if that
/// failed, after logging why.
pub type mcrs_key_hook = Option<unsafe extern "C" fn(mailbox: *mut mailbox) -> c_int>;

static KEY_HOOK: AtomicPtr<()> = AtomicPtr::new(null_mut());

/// The keys are as the ACL will be: it is to be changed now.
pub const MCRS_SHARING_DONE: c_int = 0;
/// The ACL is to be read as it is now, and each of its entries given to `mcrs_sharing_entry`.
pub const MCRS_SHARING_READ_ACL: c_int = 1;
/// A user is to be looked up, for `mcrs_sharing_answer`.
pub const MCRS_SHARING_LOOK_UP: c_int = 2;

/// Begins a change of a folder's ACL: `mcrs_sharing_next` says what to do. `owner` is the folder's owner, or
/// NULL; with NULL for `update` nothing is changed, and those who lack keys get them. Returns 0 and sets
/// `sharing_r`, or -1.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `owner` is NULL or NUL-terminated; `update` is NULL or as for
/// `mcrs_sharing_entry`; the rest is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_new(
    user: *mut mcrs_user,
    owner: *const c_char,
    update: *const mcrs_acl_entry,
    sharing_r: *mut *mut mcrs_sharing,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        // SAFETY: NULL or valid, by this function's contract.
        let update = match unsafe { update.as_ref() } {
            Some(given) => Some(Update {
                // SAFETY: as the contract says.
                who: unsafe { who(given) }?,
                mode: mode(given.mode)?,
                denied_mode: mode(given.denied_mode)?,
                read: included(given.read),
                denied: included(given.denied),
            }),
            None => None,
        };
        let share = Share {
            user: Rc::clone(user),
            // SAFETY: as the contract says.
            change: AclChange::new(unsafe { name(owner) }?, update),
            asked: CString::default(),
        };
        // SAFETY: valid, by the contract.
        unsafe { put(sharing_r, mcrs_sharing::give(share)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// Goes on until the caller has to do something: returns `MCRS_SHARING_*`, with `MCRS_SHARING_LOOK_UP` the
/// user's name in `name_r`, lent until the next call; or -1: the ACL must then not change, and keys are as
/// they were. The folder's key lock is held from the second `MCRS_SHARING_READ_ACL` on, until the change is freed.
///
/// # Safety
/// `sharing` is from `mcrs_sharing_new`, `mailbox` is the folder and open; `name_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_next(
    sharing: *mut mcrs_sharing,
    mailbox: *mut mailbox,
    name_r: *mut *const c_char,
    error: *mut mcrs_error,
) -> c_int {
    let next = |share: &mut Share| {
        // SAFETY: open for the length of this call, by this function's contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }?;
        let mut user = share.user.try_borrow_mut().map_err(|_| in_use())?;
        let User { ring, session } = &mut *user;
        let name = match share.change.next(ring, &mut mailbox, session)? {
            Next::Done => return Ok(MCRS_SHARING_DONE),
            Next::ReadAcl => return Ok(MCRS_SHARING_READ_ACL),
            Next::LookUp(name) => name,
        };
        share.asked = CString::new(name).map_err(|_| Error::internal("a NUL byte in a name"))?;
        // SAFETY: valid, by the contract.
        unsafe { put(name_r, share.asked.as_ptr()) }?;
        Ok(MCRS_SHARING_LOOK_UP)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(sharing, error, next) }
}

/// Takes one entry of the ACL as it is. Returns 0 or -1.
///
/// # Safety
/// `sharing` is from `mcrs_sharing_new`; `acl_entry` is valid, its texts are NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_entry(
    sharing: *mut mcrs_sharing,
    acl_entry: *const mcrs_acl_entry,
    error: *mut mcrs_error,
) -> c_int {
    let take = |share: &mut Share| {
        // SAFETY: valid, by this function's contract.
        let given = unsafe { acl_entry.as_ref() }.ok_or_else(missing)?;
        share.change.entry(Entry {
            global: given.global,
            // SAFETY: as the contract says.
            who: unsafe { who(given) }?,
            read: included(given.read),
            denied: included(given.denied),
        })?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(sharing, error, take) }
}

/// Answers `MCRS_SHARING_LOOK_UP`: `found` is 1 for a user, who is `user`, 0 where there is no such
/// user, and -1 where it can't be told. Returns 0, or -1: the ACL must then not change.
///
/// # Safety
/// `sharing` is from `mcrs_sharing_new`; `user` lives for the length of this call, or `found` is
/// not 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_answer(
    sharing: *mut mcrs_sharing,
    found: c_int,
    user: *mut mail_user,
    error: *mut mcrs_error,
) -> c_int {
    let answer = |share: &mut Share| {
        let sharee = match found {
            0 => Ok(Sharee::Unknown),
            // SAFETY: a live user, by this function's contract.
            1 if !user.is_null() => unsafe { sharee(user) },
            _ => Err(Error::store("the user can't be looked up")),
        };
        let mut user = share.user.try_borrow_mut().map_err(|_| in_use())?;
        share.change.answer(sharee, &mut user.session)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(sharing, error, answer) }
}

/// Takes the change of keys back, where the ACL could not be changed. Returns 0 or -1.
///
/// # Safety
/// `sharing` is from `mcrs_sharing_new`, `mailbox` is the folder and open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_undo(
    sharing: *mut mcrs_sharing,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    let undo = |share: &mut Share| {
        // SAFETY: open for the length of this call, by this function's contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }?;
        share.change.undo(&mut mailbox)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(sharing, error, undo) }
}

/// Ends the change, gives the lock back if it was taken, and clears the pointer.
///
/// # Safety
/// `sharing` is valid, and `*sharing` NULL or from `mcrs_sharing_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_free(sharing: *mut *mut mcrs_sharing) {
    // SAFETY: as this function's contract says.
    unsafe { free(sharing) };
}

/// Sets what is called after a key of a folder was made; NULL for nothing. One hook a process.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_set_key_hook(hook: mcrs_key_hook) {
    let address = hook.map_or(null_mut(), |hook| hook as *mut ());
    KEY_HOOK.store(address, Ordering::Release);
}

/// Tells the sharing module, if it is loaded, that `mailbox` has a new key. Not from inside an export's
/// closure: the hook calls back in, with the same user. Returns whether the key is shared as it should be, or
/// `None` if nobody shares keys.
///
/// # Safety
/// `mailbox` is open.
pub unsafe fn key_made(mailbox: *mut mailbox) -> Option<bool> {
    let address = KEY_HOOK.load(Ordering::Acquire);
    // SAFETY: NULL, which is None, or an address that `mcrs_set_key_hook` took from this type.
    let hook: mcrs_key_hook = unsafe { std::mem::transmute(address) };
    // SAFETY: open, by this function's contract.
    hook.map(|hook| unsafe { hook(mailbox) } == 0)
}

/// # Safety
/// `user` lives for the length of this call.
unsafe fn sharee(user: *mut mail_user) -> Result<Sharee> {
    // SAFETY: as this function's contract says; the session goes before the user.
    let mut session = unsafe { Session::new(user) };
    let key = active_key(session.inbox()?.as_mut())?;
    let name = session.username().to_owned();
    Ok(Sharee::User { name, key })
}

fn missing() -> Error {
    Error::internal("sharing keys: something is missing")
}

fn included(given: c_int) -> Option<bool> {
    match given {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn mode(mode: c_int) -> Result<Mode> {
    match mode {
        MCRS_ACL_REMOVE => Ok(Mode::Remove),
        MCRS_ACL_ADD => Ok(Mode::Add),
        MCRS_ACL_REPLACE => Ok(Mode::Replace),
        MCRS_ACL_CLEAR => Ok(Mode::Clear),
        _ => Err(missing()),
    }
}

/// # Safety
/// The identifier is NULL or NUL-terminated.
unsafe fn who(given: &mcrs_acl_entry) -> Result<Who> {
    // SAFETY: as this function's contract says.
    let name = || unsafe { name(given.identifier) };
    match given.who {
        MCRS_WHO_ANYONE => Ok(Who::Anyone),
        MCRS_WHO_AUTHENTICATED => Ok(Who::Authenticated),
        MCRS_WHO_GROUP => Ok(Who::Group(name()?)),
        MCRS_WHO_OWNER => Ok(Who::Owner),
        MCRS_WHO_USER => Ok(Who::User(name()?)),
        MCRS_WHO_GROUP_OVERRIDE => Ok(Who::GroupOverride(name()?)),
        _ => Err(missing()),
    }
}

/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn name(text: *const c_char) -> Result<String> {
    if text.is_null() {
        return Ok(String::new());
    }
    // SAFETY: NUL-terminated, by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    // A name that isn't UTF-8 would be another one in the attributes.
    let text = text
        .to_str()
        .map_err(|_| Error::corrupt("a name that isn't UTF-8"))?;
    Ok(text.to_owned())
}
