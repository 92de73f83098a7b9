//! `doveadm mailbox crypt check`: the exports.
//!
//! The caller walks: [`mcrs_check_begin_folder`], the ACL, each mail, and [`mcrs_check_end_folder`]; in the end
//! [`mcrs_check_end_user`]. Rows come up on the way, and [`mcrs_check_next_row`] hands them out.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;
use std::rc::Rc;

use super::admin::{Lent, mcrs_admin_column, mcrs_admin_row};
use super::boundary::{Handle, Opaque, bytes, entry, free, mcrs_error, opaque, put};
use super::dovecot::{acl_rights, mailbox};
use super::look::mcrs_sizes;
use super::mailbox::Mailbox;
use super::sharing::acl_entry;
use super::user::{User, mcrs_user};
use crate::error::{Error, ErrorKind};
use crate::store::acl::Entry;
use crate::store::admin::check::{COLUMNS, Check, Counts, MailInfo, Wanted};
use crate::store::{Guid, in_use};

/// One check, for one user.
pub struct Checking {
    user: Rc<RefCell<User>>,
    check: Check,
    acl: Vec<Entry>,
    lent: Lent,
}

/// One check of one user's mail and keys.
pub struct mcrs_check(Handle<Checking>);

opaque!(mcrs_check, Checking);

/// How many numbers there are of a user.
pub const MCRS_CHECK_COUNTS: usize = 13;
const _: () = assert!(MCRS_CHECK_COUNTS == Counts::COUNT);

/// A mail that is looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mcrs_check_info {
    /// Its UID.
    pub uid: u32,
    /// The index cache says that it was encrypted when it was read before.
    pub was_encrypted: bool,
    /// Its size on disk.
    pub bytes: u64,
    /// What is known of its sizes.
    pub sizes: mcrs_sizes,
}

/// Begins a check. `full`: all of each mail is verified; `whole`: all of the user's folders are looked at. Returns 0 and
/// sets `check_r`, or -1.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `check_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_new(
    user: *mut mcrs_user,
    full: bool,
    whole: bool,
    check_r: *mut *mut mcrs_check,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        let mut borrowed = user.try_borrow_mut().map_err(|_| in_use())?;
        let User { ring, session } = &mut *borrowed;
        let check = Check::new(Wanted { full, whole }, ring, session)?;
        let checking = Checking {
            user: Rc::clone(user),
            check,
            acl: Vec::new(),
            lent: Lent::default(),
        };
        // SAFETY: valid, by this function's contract.
        unsafe { put(check_r, mcrs_check::give(checking)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// Begins with a folder, of which 16 bytes at `guid` are the GUID. Returns 1, 0 if it was checked already, or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`, `mailbox` open; `guid` has 16 bytes; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_begin_folder(
    check: *mut mcrs_check,
    mailbox: *mut mailbox,
    guid: *const u8,
    error: *mut mcrs_error,
) -> c_int {
    let begin = |checking: &mut Checking| {
        checking.acl.clear();
        // SAFETY: readable for the length of this call, by this function's contract.
        let guid = unsafe { bytes(guid, size_of::<Guid>()) };
        let guid: &Guid = guid.try_into().map_err(|_| Error::internal("no GUID"))?;
        // SAFETY: open for the length of this call, by the contract.
        let mut folder = unsafe { Mailbox::lent(mailbox) }?;
        let mut user = checking.user.try_borrow_mut().map_err(|_| in_use())?;
        let User { ring, session } = &mut *user;
        let begun = checking
            .check
            .begin_folder(ring, &mut folder, session, guid);
        begun.map(c_int::from)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, begin) }
}

/// Takes one entry of the folder's ACL. Returns 0 or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `rights` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_acl_entry(
    check: *mut mcrs_check,
    rights: *const acl_rights,
    error: *mut mcrs_error,
) -> c_int {
    let take = |checking: &mut Checking| {
        // SAFETY: valid, by this function's contract.
        let rights = unsafe { rights.as_ref() };
        let rights = rights.ok_or_else(|| Error::internal("no rights"))?;
        // SAFETY: as above.
        checking.acl.push(unsafe { acl_entry(rights) }?);
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, take) }
}

/// Compares the copies of the folder's keys with the ACL, if it is `known`. Returns 0 or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`, `mailbox` is the folder and open, `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_shares(
    check: *mut mcrs_check,
    mailbox: *mut mailbox,
    known: bool,
    error: *mut mcrs_error,
) -> c_int {
    let compare = |checking: &mut Checking| {
        // SAFETY: open for the length of this call, by this function's contract.
        let mut folder = unsafe { Mailbox::lent(mailbox) }?;
        let acl = std::mem::take(&mut checking.acl);
        let user = checking.user.try_borrow().map_err(|_| in_use())?;
        let acl = known.then_some(acl.as_slice());
        checking.check.shares(&mut folder, &user.session, acl)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, compare) }
}

/// Begins with a mail. Returns 0 or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`, `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_begin_mail(
    check: *mut mcrs_check,
    info: mcrs_check_info,
    error: *mut mcrs_error,
) -> c_int {
    let begin = |checking: &mut Checking| {
        let info = MailInfo {
            uid: info.uid,
            bytes: info.bytes,
            sizes: info.sizes.into(),
            was_encrypted: info.was_encrypted,
        };
        checking.check.begin_mail(info).map(|()| 0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, begin) }
}

/// Takes the next `size` bytes of the mail as it is stored; none: it has ended. Returns 1: more are wanted, 0: no more, -1:
/// it can't be told what the mail is.
///
/// # Safety
/// `check` is from `mcrs_check_new`, `mailbox` is the folder and open, `data` has `size` bytes, `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_feed(
    check: *mut mcrs_check,
    mailbox: *mut mailbox,
    data: *const u8,
    size: usize,
    error: *mut mcrs_error,
) -> c_int {
    let feed = |checking: &mut Checking| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        // SAFETY: open for the length of this call, by the contract.
        let mut folder = unsafe { Mailbox::lent(mailbox) }?;
        let mut user = checking.user.try_borrow_mut().map_err(|_| in_use())?;
        let User { ring, session } = &mut *user;
        let more = checking.check.feed(ring, &mut folder, session, data);
        more.map(c_int::from)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, feed) }
}

/// The mail has ended. With `failed`, that is why it couldn't be read. Returns 1: something is wrong with it, and
/// `mcrs_check_end_mail` wants its GUID; 0: nothing; -1 on error.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `failed` is NULL or NUL-terminated; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_judge_mail(
    check: *mut mcrs_check,
    failed: *const c_char,
    error: *mut mcrs_error,
) -> c_int {
    let judge = |checking: &mut Checking| {
        // SAFETY: NULL or NUL-terminated, by this function's contract.
        let failed = unsafe { text(failed) };
        let failed = failed.map(|text| Error::new(ErrorKind::Corrupt, text));
        checking.check.judge_mail(failed).map(c_int::from)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, judge) }
}

/// Counts the mail, and says what is wrong with it. `guid` is NULL where nobody has asked for it. Returns 0 or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `guid` is NULL or NUL-terminated; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_end_mail(
    check: *mut mcrs_check,
    guid: *const c_char,
    error: *mut mcrs_error,
) -> c_int {
    let end = |checking: &mut Checking| {
        // SAFETY: NULL or NUL-terminated, by this function's contract.
        let guid = unsafe { text(guid) }.unwrap_or_default();
        checking.check.end_mail(&guid).map(|()| 0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, end) }
}

/// The folder's index cache has the field `name` of so many `mails`.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `name` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_cached(
    check: *mut mcrs_check,
    name: *const c_char,
    mails: u64,
) {
    let take = |checking: &mut Checking| {
        // SAFETY: NUL-terminated, by this function's contract.
        let name = unsafe { text(name) }.unwrap_or_default();
        checking.check.cached(&name, mails).map(|()| 0)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(check, null_mut(), take) };
}

/// A mail of the folder has an attachment in a file of its own.
///
/// # Safety
/// `check` is from `mcrs_check_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_attachment(check: *mut mcrs_check, encrypted: bool) {
    let take = |checking: &mut Checking| checking.check.attachment(encrypted).map(|()| 0);
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(check, null_mut(), take) };
}

/// Ends the folder. Returns 0 or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_end_folder(
    check: *mut mcrs_check,
    error: *mut mcrs_error,
) -> c_int {
    let end = |checking: &mut Checking| checking.check.end_folder().map(|()| 0);
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, end) }
}

/// Something couldn't be looked at: nothing is said of what nobody needs.
///
/// # Safety
/// `check` is from `mcrs_check_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_incomplete(check: *mut mcrs_check) {
    let note = |checking: &mut Checking| {
        checking.check.incomplete();
        Ok(0)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(check, null_mut(), note) };
}

/// The user's dict has this private attribute, under whichever GUID.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `path` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_attribute(check: *mut mcrs_check, path: *const c_char) {
    let take = |checking: &mut Checking| {
        // SAFETY: NUL-terminated, by this function's contract.
        checking
            .check
            .attribute(&unsafe { text(path) }.unwrap_or_default());
        Ok(0)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(check, null_mut(), take) };
}

/// Looks at the user's own keys, after all folders. Returns 0 or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_end_user(
    check: *mut mcrs_check,
    error: *mut mcrs_error,
) -> c_int {
    let end = |checking: &mut Checking| {
        let mut user = checking.user.try_borrow_mut().map_err(|_| in_use())?;
        let User { ring, session } = &mut *user;
        checking.check.end_user(ring, session).map(|()| 0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(check, error, end) }
}

/// Adds the numbers of this user to `counts`, and returns how many problems there are, -1 on error.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `counts` has `MCRS_CHECK_COUNTS` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_add_counts(check: *mut mcrs_check, counts: *mut u64) -> i64 {
    let mut problems = -1;
    let add = |checking: &mut Checking| {
        let own = checking.check.counts();
        for (at, number) in own.0.iter().enumerate() {
            // SAFETY: so many numbers, by this function's contract.
            unsafe {
                let sum = counts.add(at);
                sum.write(sum.read() + number);
            }
        }
        problems = i64::try_from(own.problems()).unwrap_or(i64::MAX);
        Ok(0)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(check, null_mut(), add) };
    problems
}

/// Says in a sentence what these numbers are, in the `size` bytes at `text_r`, with a NUL at its end.
///
/// # Safety
/// `counts` has `MCRS_CHECK_COUNTS` numbers; `text_r` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_text(counts: *const u64, text_r: *mut c_char, size: usize) {
    if counts.is_null() || text_r.is_null() || size == 0 {
        return;
    }
    // SAFETY: so many numbers, by this function's contract.
    let counts = Counts(unsafe { counts.cast::<[u64; Counts::COUNT]>().read() });
    let text = counts.text();
    let len = text.len().min(size - 1);
    // SAFETY: as many bytes, by the contract; it is all ASCII.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), text_r, len);
        text_r.add(len).write(0);
    }
}

/// Says what the column with this number, counted from 0, is: of the report, or of the `counts` and the text behind them.
/// Returns 1, or 0 where
/// there are fewer.
///
/// # Safety
/// `column_r` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_column(
    counts: bool,
    number: usize,
    column_r: *mut mcrs_admin_column,
) -> c_int {
    let columns = if counts {
        &Counts::COLUMNS[..]
    } else {
        &COLUMNS[..]
    };
    let Some(column) = columns.get(number) else {
        return 0;
    };
    let column = mcrs_admin_column {
        key: column.key.as_ptr(),
        title: column.title.as_ptr(),
    };
    // SAFETY: valid, by this function's contract.
    unsafe { put(column_r, column) }.map_or(0, |()| 1)
}

/// Hands out the next row. Returns 1, 0 where there is none, or -1.
///
/// # Safety
/// `check` is from `mcrs_check_new`; `row_r` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_next_row(
    check: *mut mcrs_check,
    row_r: *mut mcrs_admin_row,
) -> c_int {
    let next = |checking: &mut Checking| {
        let Some(row) = checking.check.next_row() else {
            return Ok(0);
        };
        checking.lent = Lent::new(&row);
        // SAFETY: valid, by this function's contract.
        unsafe { put(row_r, checking.lent.row()) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(check, null_mut(), next) }
}

/// Ends the check and clears the pointer.
///
/// # Safety
/// `check` is valid, and `*check` NULL or from `mcrs_check_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_check_free(check: *mut *mut mcrs_check) {
    // SAFETY: as this function's contract says.
    unsafe { free(check) };
}

/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated, by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}
