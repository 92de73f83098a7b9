//! What a transaction saves: the exports.

use std::ffi::c_int;

use super::boundary::{Handle, entry, free, mcrs_error, opaque};
use super::dovecot::mailbox;
use super::mailbox::Mailbox;
use crate::error::Result;
use crate::store::saved::Saves;

/// The keys to which one transaction has encrypted mails.
pub struct mcrs_saves(Handle<Saves>);

opaque!(mcrs_saves, Saves);

/// Before the mails are stored: makes sure that their keys are still those of `mailbox`. That is so where `now`, the
/// event loop's time, is still when the first was chosen. Returns 0, or -1: nothing must be stored.
///
/// # Safety
/// `saves` is NULL or from `mcrs_writer_new`; `mailbox` is open; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_saves_check_before(
    saves: *mut mcrs_saves,
    mailbox: *mut mailbox,
    now: i64,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe { check(saves, mailbox, error, |saves, m| saves.check_before(m, now)) }
}

/// Makes sure that the keys are still those of `mailbox`: to be called once others can see the mails. Returns 0, or -1:
/// they must not stay.
///
/// # Safety
/// As `mcrs_saves_check_before`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_saves_check(
    saves: *mut mcrs_saves,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe { check(saves, mailbox, error, |saves, m| saves.check(m)) }
}

/// # Safety
/// As `mcrs_saves_check_before`.
unsafe fn check(
    saves: *mut mcrs_saves,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
    f: impl FnOnce(&Saves, &mut Mailbox) -> Result<()>,
) -> c_int {
    if saves.is_null() {
        return 0;
    }
    let run = |saves: &mut Saves| {
        // SAFETY: open for the length of this call, by this function's contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }?;
        f(saves, &mut mailbox).map(|()| 0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(saves, error, run) }
}

/// Frees the saves and clears the pointer.
///
/// # Safety
/// `saves` is valid, and `*saves` NULL or from `mcrs_writer_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_saves_free(saves: *mut *mut mcrs_saves) {
    // SAFETY: as this function's contract says.
    unsafe { free(saves) };
}
