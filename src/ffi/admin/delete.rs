//! The deletion of a key: it is chosen, then whatever might need it is looked at, then it is deleted
//! or spared.

use std::ffi::{CStr, c_char, c_int};

use super::super::boundary::{bytes, entry, mcrs_error};
use super::super::dovecot::mailbox;
use super::super::user::User;
use super::{Admin, mcrs_admin, on_keys, row_of};
use crate::error::Error;
use crate::store::Level;
use crate::store::admin::Doomed;
use crate::stream::{Feed, Opener};

/// Chooses the key that `mcrs_admin_delete` deletes, and takes it out of use until then, or until
/// `mcrs_admin_spare`. Returns 0, or -1: it can't be.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `id` NUL-terminated, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_doom(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    id: *const c_char,
    force: bool,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, user, level, at| {
            let User { ring, session } = user;
            admin.doomed = None;
            if id.is_null() {
                return Err(Error::setting("no key id"));
            }
            // SAFETY: NUL-terminated, by the contract.
            let id = CStr::from_ptr(id).to_string_lossy();
            let mut doomed = Doomed::find(ring, level, at, session, &id, force)?;
            if level == Level::Folder && !force {
                doomed.retire(at)?;
            }
            admin.doomed = Some(doomed);
            Ok(())
        })
    }
}

/// Looks at a folder that might need the chosen user key. Returns 0, or -1: it does.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` open, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_doom_folder(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, user, _, at| {
            let doomed = admin.doomed.as_ref().ok_or_else(no_key_chosen)?;
            doomed.check_folder(at, &user.session)
        })
    }
}

/// Looks at the next bytes of a mail as it is stored; `first`: its first ones. Returns 1: more
/// are needed, 0: it doesn't need the chosen key, -1: it does, or nobody can tell.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `data` has `size` bytes, `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_doom_mail(
    admin: *mut mcrs_admin,
    uid: u32,
    first: bool,
    data: *const u8,
    size: usize,
    error: *mut mcrs_error,
) -> c_int {
    let look = |admin: &mut Admin| {
        if first {
            admin.scan = Opener::default();
        }
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        if data.is_empty() {
            return Err(Error::truncated(format!(
                "the mail with UID {uid} is cut off"
            )));
        }
        let doomed = admin.doomed.as_ref().ok_or_else(no_key_chosen)?;
        match admin.scan.feed(data) {
            Ok(Feed::More) => Ok(1),
            Ok(Feed::NeedKey(ids)) => doomed.check_mail(uid, &ids).map(|()| 0),
            Err(e) => Err(e.context(format!("the mail with UID {uid}"))),
        }
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(admin, error, look) }
}

/// Deletes the chosen key. One row. Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` as for `mcrs_admin_doom`, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_delete(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    force: bool,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, user, level, at| {
            let User { ring, session } = user;
            let doomed = admin.doomed.as_ref().ok_or_else(no_key_chosen)?;
            let row = row_of(level, at, &doomed.name().to_string());
            doomed.delete(ring, at, session, force)?;
            admin.doomed = None;
            admin.rows.push_back(row);
            Ok(())
        })
    }
}

/// Leaves the chosen key as it was, if it isn't deleted. Returns 0 or -1.
///
/// # Safety
/// As `mcrs_admin_delete`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_spare(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, _, _, at| {
            admin
                .doomed
                .take()
                .map_or(Ok(()), |mut doomed| doomed.spare(at))
        })
    }
}

fn no_key_chosen() -> Error {
    Error::setting("internal error: no key was chosen")
}
