//! Writing one mail: the exports.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::rc::Rc;

use super::boundary::{Handle, Opaque, bytes, entry, entry_new, free, mcrs_error, opaque, put};
use super::dovecot::mailbox;
use super::mailbox::Mailbox;
use super::saves::mcrs_saves;
use super::sharing::key_made;
use super::user::{User, mcrs_user};
use crate::error::{Error, Result};
use crate::store::saved::{self, Saves};
use crate::store::writer::FolderKey;
use crate::store::{Attributes, Host, Writer, in_use, senders};

/// One mail being written.
pub struct mcrs_writer(Handle<Writer>);

opaque!(mcrs_writer, Writer);

/// Makes a writer for a mail that is stored in `mailbox`, and the mailbox's key where it has none.
///
/// `user` is NULL where mail_crypt isn't enabled for the user: the mail stays plaintext. `saves`, NULL at first, has
/// the keys that the transaction's mails are encrypted to, of which one may be chosen `now`, by the event loop's time.
/// Returns 0 and sets `writer_r`, or -1: the mail must then not be stored.
///
/// # Safety
/// `user` is NULL or from `mcrs_user_new`; `mailbox` is open; `saves` is valid, and `*saves` NULL or set by this;
/// `writer_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_writer_new(
    user: *mut mcrs_user,
    mailbox: *mut mailbox,
    saves: *mut *mut mcrs_saves,
    now: i64,
    writer_r: *mut *mut mcrs_writer,
    error: *mut mcrs_error,
) -> c_int {
    let give = |writer| {
        // SAFETY: valid, by this function's contract.
        unsafe { put(writer_r, mcrs_writer::give(writer)) }?;
        Ok(0)
    };
    let key_is_new = Cell::new(false);
    let make = |user: &mut Rc<RefCell<User>>| {
        let mut user = user.try_borrow_mut().map_err(|_| in_use())?;
        // SAFETY: open for the length of this call, by the contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }?;
        let User { ring, session } = &mut *user;
        let writer = Writer::for_mail(ring, &mut mailbox, session);
        key_is_new.set(ring.take_folder_key_made());
        let writer = writer?;
        if let Some(key) = writer.folder_key() {
            // SAFETY: valid, by the contract.
            unsafe { note_key(saves, key, now) }?;
        }
        give(writer)
    };
    // SAFETY: as this function's contract says.
    unsafe {
        if user.is_null() {
            return entry_new(error, || give(Writer::plain()));
        }
        let ret = entry(user, error, make);
        if key_is_new.get() {
            // A mail doesn't wait for those with whom its folder is shared.
            let _ = key_made(mailbox);
        }
        ret
    }
}

/// Makes a writer for what is compressed before it is encrypted by the other one: it passes the mail on, and is refused
/// if that is encrypted already. Returns 1 and sets `writer_r`, 0 where nothing is encrypted, -1 on error.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `writer_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_writer_new_before_packing(
    user: *mut mcrs_user,
    writer_r: *mut *mut mcrs_writer,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        let user = user.try_borrow().map_err(|_| in_use())?;
        let Some(writer) = Writer::before_packing(&user.ring, user.session.events())? else {
            return Ok(0);
        };
        // SAFETY: valid, by this function's contract.
        unsafe { put(writer_r, mcrs_writer::give(writer)) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// # Safety
/// `saves` is valid, and `*saves` NULL or from here.
unsafe fn note_key(saves: *mut *mut mcrs_saves, key: FolderKey, now: i64) -> Result<()> {
    // SAFETY: as this function's contract says.
    let slot = unsafe { saves.as_mut() }.ok_or_else(|| Error::internal("no saves"))?;
    if slot.is_null() {
        *slot = mcrs_saves::give(Saves::default());
    }
    let add = |saves: &mut Saves| {
        saves.add(key, now);
        Ok(0)
    };
    // SAFETY: just made, or live by this function's contract.
    match unsafe { entry(*slot, std::ptr::null_mut(), add) } {
        0 => Ok(()),
        _ => Err(Error::internal("no saves")),
    }
}

/// Takes `size` bytes of the mail; what is to be stored for them is lent until the next call.
/// Returns 0, or -1: the mail must then not be stored.
///
/// # Safety
/// `writer` is from `mcrs_writer_new`; `data` has `size` bytes; the rest is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_writer_update(
    writer: *mut mcrs_writer,
    data: *const u8,
    size: usize,
    out_r: *mut *const u8,
    out_size_r: *mut usize,
    error: *mut mcrs_error,
) -> c_int {
    let update = |writer: &mut Writer| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        // SAFETY: valid, by the contract.
        unsafe { lend(writer.update(data)?, out_r, out_size_r) }
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(writer, error, update) }
}

/// Ends the mail; the rest of what is to be stored is lent until the writer is freed.
/// Returns 0, or -1: the mail must then not be stored.
///
/// # Safety
/// As `mcrs_writer_update`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_writer_finish(
    writer: *mut mcrs_writer,
    out_r: *mut *const u8,
    out_size_r: *mut usize,
    error: *mut mcrs_error,
) -> c_int {
    let finish = |writer: &mut Writer| {
        // SAFETY: valid, by this function's contract.
        unsafe { lend(writer.finish()?, out_r, out_size_r) }
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(writer, error, finish) }
}

/// Whether the mail must not be stored because it is, or only looks, encrypted: 1 yes, 0 no, -1 error.
/// `error` then holds the reason.
///
/// # Safety
/// `writer` is from `mcrs_writer_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_writer_refused(
    writer: *mut mcrs_writer,
    error: *mut mcrs_error,
) -> c_int {
    let ask = |writer: &mut Writer| writer.check().map(|()| 0);
    // SAFETY: as this function's contract says.
    unsafe { entry(writer, error, ask) }
}

/// Forgets ephemeral keys of former mails that are too old for further ones. Returns in how many seconds to
/// call it again, 0 where none is left.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_forget_old() -> c_uint {
    let left = std::panic::catch_unwind(senders::expire).unwrap_or_default();
    left.map_or(0, |left| {
        c_uint::try_from(left.as_secs() + 1).unwrap_or(c_uint::MAX)
    })
}

/// Whether mail may be stored in `mailbox`, whose storage, by the name of `driver`, keeps text only.
/// Returns 0, or -1: it must not be stored.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `mailbox` is open; `driver` is NUL-terminated; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_user_check_unfit(
    user: *mut mcrs_user,
    mailbox: *mut mailbox,
    driver: *const c_char,
    error: *mut mcrs_error,
) -> c_int {
    let check = |user: &mut Rc<RefCell<User>>| {
        let user = user.try_borrow().map_err(|_| in_use())?;
        // SAFETY: open for the length of this call, by this function's contract.
        let mailbox = unsafe { Mailbox::lent(mailbox) }?;
        // SAFETY: NUL-terminated, by the contract.
        let driver = unsafe { CStr::from_ptr(driver) }.to_string_lossy();
        saved::check_unfit(user.ring.settings(), &mailbox.mailbox(), &driver)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, check) }
}

/// Frees the writer and clears the pointer.
///
/// # Safety
/// `writer` is valid, and `*writer` NULL or from `mcrs_writer_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_writer_free(writer: *mut *mut mcrs_writer) {
    // SAFETY: as this function's contract says.
    unsafe { free(writer) };
}

/// # Safety
/// The out-pointers are valid.
unsafe fn lend(out: &[u8], out_r: *mut *const u8, out_size_r: *mut usize) -> Result<c_int> {
    // SAFETY: valid, by this function's contract.
    unsafe {
        put(out_r, out.as_ptr())?;
        put(out_size_r, out.len())?;
    }
    Ok(0)
}
