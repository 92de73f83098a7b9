//! What a file is by its first bytes: the exports.

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

use super::boundary::{bytes, entry, entry_new, mcrs_error};
use super::user::{User, mcrs_user};
use crate::error::{Error, ErrorKind};
use crate::format::trees::is_trees;
use crate::store::events::{Name, kind};
use crate::store::{Happened, Origin, in_use};
use crate::stream::{
    Sizes, begins_as_text, is_encrypted, may_be_ciphertext_size, refuse_damaged, refuse_twice,
};

/// Bytes that [`mcrs_is_encrypted`] needs to see.
pub const MCRS_MAGIC_SIZE: usize = 9;
const _: () = assert!(MCRS_MAGIC_SIZE == crate::stream::MAGIC.len());

/// Whether a stream that begins with these bytes is encrypted.
///
/// # Safety
/// `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_is_encrypted(data: *const u8, size: usize) -> bool {
    // SAFETY: as this function's contract says.
    is_encrypted(unsafe { bytes(data, size) })
}

/// Whether a stream that begins with these bytes, as many as [`MCRS_MAGIC_SIZE`], was written by TREES.
///
/// # Safety
/// `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_is_trees(data: *const u8, size: usize) -> bool {
    // SAFETY: as this function's contract says.
    is_trees(unsafe { bytes(data, size) })
}

/// Whether `recorded` may be the size that Dovecot notes for a mail of `stored` bytes of ciphertext when it mends an
/// sdbox or mdbox file. The mail's own size may look like that, too.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_may_be_ciphertext_size(recorded: u64, stored: u64) -> bool {
    may_be_ciphertext_size(recorded, stored)
}

/// Whether a mail that isn't encrypted and begins with these bytes is certainly text. If not,
/// `mcrs_refuse_damaged` has to look at it.
///
/// # Safety
/// `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_begins_as_text(data: *const u8, size: usize) -> bool {
    // SAFETY: as this function's contract says.
    begins_as_text(unsafe { bytes(data, size) })
}

/// The first bytes of a mail, within which nearly every header ends.
pub const MCRS_LOOK_SIZE: usize = 4096;

/// The sizes of a mail that isn't encrypted; `UINT64_MAX`: unknown.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mcrs_sizes {
    /// The mail's when it was stored.
    pub recorded: u64,
    /// The same with CRLF for each LF.
    pub with_crlf: u64,
    /// The file's now.
    pub actual: u64,
}

impl From<mcrs_sizes> for Sizes {
    fn from(sizes: mcrs_sizes) -> Self {
        let known = |n| (n != u64::MAX).then_some(n);
        Sizes {
            recorded: known(sizes.recorded),
            with_crlf: known(sizes.with_crlf),
            actual: known(sizes.actual),
        }
    }
}

/// A mail that isn't encrypted is served: for whoever counts.
///
/// # Safety
/// `user` is from `mcrs_user_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_plain_served(user: *mut mcrs_user) {
    let tell = |user: &mut Rc<RefCell<User>>| {
        tell_plain(&*user.try_borrow().map_err(|_| in_use())?, None);
        Ok(0)
    };
    // SAFETY: as this function's contract says; nobody asks why it can't be told.
    unsafe { entry(user, std::ptr::null_mut(), tell) };
}

fn tell_plain(user: &User, error: Option<ErrorKind>) {
    let Origin { source, events } = user.session.origin();
    events.emit(Happened::file(Name::Plaintext, source, None, None, error));
}

/// Serves a mail that isn't encrypted, or refuses one that begins with these bytes, up to `MCRS_LOOK_SIZE` of it, if it was
/// once encrypted: that is `known`, or the bytes and `sizes` show it. Returns 0, or -1 where it must not be served.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `data` has `size` bytes; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_refuse_damaged(
    user: *mut mcrs_user,
    known: bool,
    data: *const u8,
    size: usize,
    sizes: mcrs_sizes,
    error: *mut mcrs_error,
) -> c_int {
    let look = |user: &mut Rc<RefCell<User>>| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let looked = refuse_damaged(unsafe { bytes(data, size) }, sizes.into())
            .map_err(|e| e.context("not the mail that was stored"))
            .and_then(|()| match known {
                true => Err(Error::new(ErrorKind::Tampered, REPLACED)),
                false => Ok(0),
            });
        tell_plain(&*user.try_borrow().map_err(|_| in_use())?, kind(&looked));
        looked
    };
    // SAFETY: as this function's contract says.
    unsafe { only_this_mail(entry(user, error, look), true, error) }
}

/// Refuses a mail that isn't encrypted, if the user's settings say so. Returns 0, or -1 where it must not be served.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_refuse_plain(user: *mut mcrs_user, error: *mut mcrs_error) -> c_int {
    let check = |user: &mut Rc<RefCell<User>>| {
        let user = user.try_borrow().map_err(|_| in_use())?;
        let checked = user.ring.settings().check_plain();
        if checked.is_err() {
            tell_plain(&user, kind(&checked));
        }
        checked.map(|()| 0)
    };
    // SAFETY: as this function's contract says.
    unsafe { only_this_mail(entry(user, error, check), true, error) }
}

/// Refuses a decrypted mail that begins with these bytes, up to `MCRS_LOOK_SIZE` of it, if it is encrypted
/// once more. Returns 0, or -1 where it must not be served.
///
/// # Safety
/// `data` has `size` bytes; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_refuse_twice(
    data: *const u8,
    size: usize,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: readable for the length of this call, by this function's contract.
    let look = || refuse_twice(unsafe { bytes(data, size) }).map(|()| 0);
    // SAFETY: `error` is valid, by the contract.
    unsafe { only_this_mail(entry_new(error, look), true, error) }
}

/// Says in `error`, after a failure, whether only one mail is at fault. Returns `ret`.
///
/// # Safety
/// `error` is NULL, or was filled where `ret` is -1.
pub(super) unsafe fn only_this_mail(ret: c_int, only: bool, error: *mut mcrs_error) -> c_int {
    // SAFETY: as this function's contract says.
    if let (true, Some(error)) = (ret < 0, unsafe { error.as_mut() }) {
        error.only_this_mail = only;
    }
    ret
}

const REPLACED: &str = "not the mail that was stored: when it was read before it was encrypted, and now it is not (if \
                        that is how it should be, delete the folder's dovecot.index.cache)";
