//! Copying mails as they are on disk: the exports.

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

use super::boundary::{bytes, entry, entry_new};
use super::user::{User, mcrs_user};
use crate::store::copy::{self, Copying};
use crate::store::{Settings, in_use};

/// A mail that is to be copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mcrs_copying {
    /// It stays in its folder.
    pub same_folder: bool,
    /// It stays this user's.
    pub same_user: bool,
    /// The namespaces of its two folders have the same owner.
    pub same_owner: bool,
    /// `lazy_expunge` moves it because it was expunged.
    pub expunged: bool,
}

impl From<mcrs_copying> for Copying {
    fn from(copying: mcrs_copying) -> Self {
        Copying {
            same_folder: copying.same_folder,
            same_user: copying.same_user,
            same_owner: copying.same_owner,
            expunged: copying.expunged,
        }
    }
}

/// From `mcrs_copy_raw`: always.
pub const MCRS_COPY_RAW: c_int = 1;
/// From `mcrs_copy_raw`: if `mcrs_is_global` says yes.
pub const MCRS_COPY_RAW_IF_GLOBAL: c_int = 2;
/// From `mcrs_copy_raw`: if it can't be read, and that isn't temporary.
pub const MCRS_COPY_RAW_IF_UNREADABLE: c_int = 4;

/// When a mail may be copied as it is on disk into a folder of `user` (NULL where mail_crypt isn't enabled for the
/// user). Returns the reasons (`MCRS_COPY_RAW*`) of which each is enough; without any it is to be saved anew.
///
/// # Safety
/// `user` is NULL or from `mcrs_user_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_copy_raw(user: *mut mcrs_user, copying: mcrs_copying) -> c_int {
    let decide = |settings: Option<&Settings>| {
        let raw = copy::raw(settings, copying.into());
        let reasons = [
            (raw.always, MCRS_COPY_RAW),
            (raw.if_global, MCRS_COPY_RAW_IF_GLOBAL),
            (raw.if_unreadable, MCRS_COPY_RAW_IF_UNREADABLE),
        ];
        Ok(reasons
            .iter()
            .filter(|(given, _)| *given)
            .map(|(_, reason)| reason)
            .sum())
    };
    let ask = |user: &mut Rc<RefCell<User>>| {
        let user = user.try_borrow().map_err(|_| in_use())?;
        decide(Some(user.ring.settings()))
    };
    let none = std::ptr::null_mut();
    // SAFETY: as this function's contract says; no error text is wanted.
    let ret = unsafe {
        if user.is_null() {
            entry_new(none, || decide(None))
        } else {
            entry(user, none, ask)
        }
    };
    ret.max(0)
}

/// From `mcrs_is_global`: more of the mail is needed.
pub const MCRS_IS_GLOBAL_MORE: c_int = 2;

/// Whether the mail that begins with `data` on disk is encrypted to the user's global key alone. 1 yes, 0 no,
/// `MCRS_IS_GLOBAL_MORE`: more of its header is needed to tell, -1 error.
///
/// # Safety
/// `user` is from `mcrs_user_new`, `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_is_global(
    user: *mut mcrs_user,
    data: *const u8,
    size: usize,
) -> c_int {
    let ask = |user: &mut Rc<RefCell<User>>| {
        let user = user.try_borrow().map_err(|_| in_use())?;
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        let is_global = copy::is_global(user.ring.settings(), data);
        Ok(is_global.map_or(MCRS_IS_GLOBAL_MORE, c_int::from))
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, std::ptr::null_mut(), ask) }
}
