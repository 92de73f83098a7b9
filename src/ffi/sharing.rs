//! Sharing folder keys while an ACL changes: the exports. The caller reads the ACL, looks users up and
//! changes the ACL.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::boundary::{Handle, Opaque, entry, free, mcrs_error, opaque, put};
use super::dovecot::{self as dc, acl_rights, acl_rights_update, mail_user, mailbox};
use super::mailbox::{Mailbox, Session};
use super::user::{User, mcrs_user};
use crate::error::{Error, Result};
use crate::store::acl::{Entry, Mode, Update, Who};
use crate::store::sharing::{AclChange, Next, active_key};
use crate::store::{Host, Sharee, in_use};

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
/// `user` is from `mcrs_user_new`; `owner` is NULL or NUL-terminated; `update` is NULL or valid; the rest is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_new(
    user: *mut mcrs_user,
    owner: *const c_char,
    update: *const acl_rights_update,
    sharing_r: *mut *mut mcrs_sharing,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        // SAFETY: NULL or valid, by this function's contract.
        let update = match unsafe { update.as_ref() } {
            Some(given) => {
                // SAFETY: valid, by the contract.
                let entry = unsafe { acl_entry(&given.rights) }?;
                Some(Update {
                    who: entry.who,
                    mode: mode(given.modify_mode)?,
                    denied_mode: mode(given.neg_modify_mode)?,
                    read: entry.read,
                    denied: entry.denied,
                })
            }
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
/// `sharing` is from `mcrs_sharing_new`; `rights` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_entry(
    sharing: *mut mcrs_sharing,
    rights: *const acl_rights,
    error: *mut mcrs_error,
) -> c_int {
    let take = |share: &mut Share| {
        // SAFETY: valid, by this function's contract.
        let rights = unsafe { rights.as_ref() }.ok_or_else(missing)?;
        // SAFETY: as above.
        share.change.entry(unsafe { acl_entry(rights) }?)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(sharing, error, take) }
}

/// Answers `MCRS_SHARING_LOOK_UP` with `user`. Where that is NULL there is no such user, or `why` says why it
/// can't be told. Returns 0, or -1: the ACL must then not change.
///
/// # Safety
/// `sharing` is from `mcrs_sharing_new`; `user` is NULL or lives for the length of this call; `why` is NULL or
/// NUL-terminated; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_sharing_answer(
    sharing: *mut mcrs_sharing,
    user: *mut mail_user,
    why: *const c_char,
    error: *mut mcrs_error,
) -> c_int {
    let answer = |share: &mut Share| {
        let sharee = if !user.is_null() {
            // SAFETY: a live user, by this function's contract.
            unsafe { sharee(user) }
        } else if why.is_null() {
            Ok(Sharee::Unknown)
        } else {
            // SAFETY: NUL-terminated, by the contract.
            let why = unsafe { CStr::from_ptr(why) }.to_string_lossy();
            Err(Error::store(format!("the user can't be looked up: {why}")))
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

/// # Safety
/// `rights` is Dovecot's, or made as Dovecot makes it: its lists end with NULL, its texts with NUL.
pub(super) unsafe fn acl_entry(rights: &acl_rights) -> Result<Entry> {
    // SAFETY: as this function's contract says.
    unsafe {
        Ok(Entry {
            global: rights.global(),
            who: who(rights)?,
            read: reading(rights.rights),
            denied: reading(rights.neg_rights),
        })
    }
}

/// Whether reading is among `rights`; `None` where there are none, not even an empty list.
///
/// # Safety
/// `rights` is NULL, or a list of NUL-terminated texts that ends with NULL.
unsafe fn reading(mut rights: *const *const c_char) -> Option<bool> {
    if rights.is_null() {
        return None;
    }
    // SAFETY: as this function's contract says; nothing is read behind the end.
    unsafe {
        while !(*rights).is_null() {
            if CStr::from_ptr(*rights).to_bytes_with_nul() == dc::MAIL_ACL_READ {
                return Some(true);
            }
            rights = rights.add(1);
        }
    }
    Some(false)
}

fn mode(mode: dc::acl_modify_mode) -> Result<Mode> {
    match mode {
        dc::ACL_MODIFY_MODE_REMOVE => Ok(Mode::Remove),
        dc::ACL_MODIFY_MODE_ADD => Ok(Mode::Add),
        dc::ACL_MODIFY_MODE_REPLACE => Ok(Mode::Replace),
        dc::ACL_MODIFY_MODE_CLEAR => Ok(Mode::Clear),
        _ => Err(missing()),
    }
}

/// # Safety
/// The identifier is NULL or NUL-terminated.
unsafe fn who(rights: &acl_rights) -> Result<Who> {
    // SAFETY: as this function's contract says.
    let name = || unsafe { name(rights.identifier) };
    match rights.id_type {
        dc::ACL_ID_ANYONE => Ok(Who::Anyone),
        dc::ACL_ID_AUTHENTICATED => Ok(Who::Authenticated),
        dc::ACL_ID_GROUP => Ok(Who::Group(name()?)),
        dc::ACL_ID_OWNER => Ok(Who::Owner),
        dc::ACL_ID_USER => Ok(Who::User(name()?)),
        dc::ACL_ID_GROUP_OVERRIDE => Ok(Who::GroupOverride(name()?)),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::ptr::null;

    fn rights(list: *const *const c_char) -> acl_rights {
        // SAFETY: plain data, for which all-zero is valid.
        let mut rights: acl_rights = unsafe { std::mem::zeroed() };
        rights.id_type = dc::ACL_ID_OWNER;
        rights.rights = list;
        rights
    }

    #[test]
    fn only_the_right_to_read_is_reading_and_no_rights_are_not_an_empty_list() {
        let with = |list: *const *const c_char| {
            // SAFETY: the lists below and their texts end as they must, or it is NULL.
            let entry = unsafe { acl_entry(&rights(list)) }.unwrap();
            assert_eq!(entry.denied, None);
            entry.read
        };
        let [read, lookup, other] = [c"read", c"lookup", c"read-only"].map(CStr::as_ptr);
        assert_eq!(with([lookup, read, null()].as_ptr()), Some(true));
        assert_eq!(with([lookup, other, null()].as_ptr()), Some(false));
        assert_eq!(with([null()].as_ptr()), Some(false));
        assert_eq!(with(null()), None);
    }
}
