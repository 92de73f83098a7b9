//! A folder's keys while its GUID changes.

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

use super::boundary::{Handle, Opaque, entry, free, mcrs_error, put};
use super::dovecot::mailbox;
use super::mailbox::Mailbox;
use super::user::{User, busy, mcrs_user};
use crate::error::Error;
use crate::store::Carried;

/// The keys of a folder that gets another GUID.
pub struct mcrs_carried(Handle<Option<Carried>>);

impl Opaque for mcrs_carried {
    type Inner = Option<Carried>;

    fn wrap(handle: Handle<Option<Carried>>) -> Self {
        mcrs_carried(handle)
    }

    fn handle(&self) -> &Handle<Option<Carried>> {
        &self.0
    }
}

/// Takes the keys of `mailbox` along, whose GUID is about to change.
///
/// Returns 0 and sets `carried_r`, or -1: the GUID must then not change.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `mailbox` is open; `carried_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_carried_new(
    user: *mut mcrs_user,
    mailbox: *mut mailbox,
    carried_r: *mut *mut mcrs_carried,
    error: *mut mcrs_error,
) -> c_int {
    let take = |user: &mut Rc<RefCell<User>>| {
        let mut user = user.try_borrow_mut().map_err(|_| busy())?;
        // SAFETY: open for the length of this call, by this function's contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }?;
        let carried = Carried::take(&mut mailbox, &mut user.session)?;
        // SAFETY: valid, by the contract.
        unsafe { put(carried_r, mcrs_carried::give(Some(carried))) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, take) }
}

/// Stores them, once, for `mailbox`, which says by now that it has the new GUID. Returns 0, or -1: the
/// GUID must then not change.
///
/// # Safety
/// `carried` is from `mcrs_carried_new`; `mailbox` is open; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_carried_put(
    carried: *mut mcrs_carried,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    let store = |carried: &mut Option<Carried>| {
        let carried = carried
            .take()
            .ok_or_else(|| Error::store("the keys were stored already"))?;
        // SAFETY: open for the length of this call, by this function's contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }?;
        carried.put(&mut mailbox)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(carried, error, store) }
}

/// Frees them and clears the pointer.
///
/// # Safety
/// `carried` is valid, and `*carried` NULL or from `mcrs_carried_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_carried_free(carried: *mut *mut mcrs_carried) {
    // SAFETY: as this function's contract says.
    unsafe { free(carried) };
}
