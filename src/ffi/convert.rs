//! Converting mail that is there already: the exports.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Duration;

use super::boundary::{Handle, Opaque, bytes, entry, entry_new, free, mcrs_error, opaque, put};
use super::dovecot::mailbox;
use super::look::mcrs_sizes;
use super::mailbox::Mailbox;
use super::sharing::key_made;
use super::user::{User, mcrs_user};
use super::writer::mcrs_writer;
use crate::error::{Error, Result};
use crate::store::convert::{Action, Comparison, Wish, check_name, pause};
use crate::store::saved::Saves;
use crate::store::state::{Current, LOOK_SIZE, look};
use crate::store::{KeySource, Writer, in_use};
use crate::stream::{ContentKey, Sizes, is_packed};

/// So many first bytes of a mail tell what is to be done with it.
pub const MCRS_CONVERT_LOOK_SIZE: usize = 131_072;
const _: () = assert!(MCRS_CONVERT_LOOK_SIZE == LOOK_SIZE);

/// Nothing is to be done with the mail.
pub const MCRS_CONVERT_LEAVE: c_int = 0;
/// Nothing, but it isn't encrypted as new mail is.
pub const MCRS_CONVERT_OLDER: c_int = 1;
/// It is to be encrypted.
pub const MCRS_CONVERT_ENCRYPT: c_int = 2;
/// It is to be encrypted anew.
pub const MCRS_CONVERT_REENCRYPT: c_int = 3;
/// It is to be decrypted.
pub const MCRS_CONVERT_DECRYPT: c_int = 4;

/// What the administrator wants. Texts may be NULL: not given.
#[repr(C)]
pub struct mcrs_convert_request {
    /// What mail becomes.
    pub to: *const c_char,
    /// Bytes a second.
    pub max_rate: *const c_char,
    /// What is encrypted, but not as new mail is, is converted as well.
    pub rekey: bool,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// A conversion of one user's mail.
pub struct Convert {
    user: Rc<RefCell<User>>,
    wish: Wish,
    /// Of the folder at hand.
    current: Option<Current>,
    saves: Saves,
    comparison: Comparison,
    /// The stream that was written last, with its content key.
    written: Option<([u8; 32], ContentKey)>,
    /// Whether the user's key opens; asked once, since each time takes another look at INBOX.
    opens: Option<bool>,
}

/// A conversion of one user's mail.
pub struct mcrs_convert(Handle<Convert>);

opaque!(mcrs_convert, Convert);

/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as this function's contract says.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// Makes sure that the request means something. Returns 0, or -1.
///
/// # Safety
/// `request` is valid, its texts are NULL or NUL-terminated; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_check_request(
    request: *const mcrs_convert_request,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe { entry_new(error, || wish(request).map(|_| 0)) }
}

/// # Safety
/// As `mcrs_convert_check_request`.
unsafe fn wish(request: *const mcrs_convert_request) -> Result<Wish> {
    // SAFETY: valid, by this function's contract.
    let request = unsafe { request.as_ref() };
    let request = request.ok_or_else(|| Error::internal("no request"))?;
    // SAFETY: as the contract says.
    let (to, rate) = unsafe { (text(request.to), text(request.max_rate)) };
    Wish::parse(&to, request.rekey, request.dry_run, &rate)
}

/// Begins a conversion. Returns 0 and sets `convert_r`, or -1.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `convert_r` is valid; the rest as in `mcrs_convert_check_request`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_new(
    user: *mut mcrs_user,
    request: *const mcrs_convert_request,
    convert_r: *mut *mut mcrs_convert,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        user.try_borrow()
            .map_err(|_| in_use())?
            .ring
            .settings()
            .check()?;
        let convert = Convert {
            user: Rc::clone(user),
            // SAFETY: as this function's contract says.
            wish: unsafe { wish(request) }?,
            current: None,
            saves: Saves::default(),
            comparison: Comparison::new()?,
            written: None,
            opens: None,
        };
        // SAFETY: valid, by the contract.
        unsafe { put(convert_r, mcrs_convert::give(convert)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// Goes on to the mails of `mailbox`. Returns 0, 1 where new mail isn't encrypted, so that there is nothing to be done, or
/// -1: nothing can be done.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`; `mailbox` is open; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_folder(
    convert: *mut mcrs_convert,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    let begin = |convert: &mut Convert| {
        convert.saves = Saves::default();
        convert.current = None;
        let mut user = convert.user.try_borrow_mut().map_err(|_| in_use())?;
        // SAFETY: open for the length of this call, by this function's contract.
        let mut folder = unsafe { Mailbox::lent(mailbox) }?;
        let User { ring, session } = &mut *user;
        let current = Current::of(ring, &mut folder, session)?;
        if convert.wish.is_pointless(&current) {
            return Ok(1);
        }
        convert.wish.check(&current, ring.settings())?;
        convert.current = Some(current);
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(convert, error, begin) }
}

/// Says what is to be done with a mail of `stored` bytes that begins with `data`, its first `MCRS_CONVERT_LOOK_SIZE`
/// bytes, if it has so many: `MCRS_CONVERT_*`, or -1 where it can't be read.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`; `data` has `size` bytes; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_look(
    convert: *mut mcrs_convert,
    data: *const u8,
    size: usize,
    stored: u64,
    sizes: mcrs_sizes,
    error: *mut mcrs_error,
) -> c_int {
    let tell = |convert: &mut Convert| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let start = unsafe { bytes(data, size) };
        let current = convert.current.as_ref();
        let current = current.ok_or_else(|| Error::internal("no folder"))?;
        let sizes = Sizes::from(sizes);
        let found = look(start, sizes, current);
        check_name(&found, stored, sizes.recorded)?;
        Ok(match convert.wish.action(&found, stored)? {
            Action::Leave => MCRS_CONVERT_LEAVE,
            Action::Older => MCRS_CONVERT_OLDER,
            Action::Encrypt => MCRS_CONVERT_ENCRYPT,
            Action::Reencrypt => MCRS_CONVERT_REENCRYPT,
            Action::Decrypt => MCRS_CONVERT_DECRYPT,
        })
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(convert, error, tell) }
}

/// Whether content that begins with these bytes is compressed: then only Dovecot can tell what is inside.
///
/// # Safety
/// `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_is_packed(data: *const u8, size: usize) -> bool {
    // SAFETY: as this function's contract says.
    is_packed(unsafe { bytes(data, size) })
}

/// Makes a writer for what a mail of `mailbox` becomes by `action`, and begins to compare. Returns 0 and sets
/// `writer_r`, or -1.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`; `mailbox` is open; `writer_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_writer(
    convert: *mut mcrs_convert,
    mailbox: *mut mailbox,
    action: c_int,
    writer_r: *mut *mut mcrs_writer,
    error: *mut mcrs_error,
) -> c_int {
    let mut key_is_new = false;
    let make = |convert: &mut Convert| {
        convert.comparison.begin()?;
        let writer = if action == MCRS_CONVERT_DECRYPT {
            convert.written = None;
            Writer::plain()
        } else {
            // SAFETY: open for the length of this call, by this function's contract.
            let mut folder = unsafe { Mailbox::lent(mailbox) }?;
            let mut user = convert.user.try_borrow_mut().map_err(|_| in_use())?;
            let User { ring, session } = &mut *user;
            let writer = Writer::for_mail(ring, &mut folder, session);
            key_is_new = ring.take_folder_key_made();
            let writer = writer?;
            if let Some(key) = writer.folder_key() {
                convert.saves.add(key, 0);
            }
            // What this session remembers of the stream would open it without any key.
            let stream = writer.stream();
            convert.written =
                stream.and_then(|id| Some((id, ring.memory.content_keys.get(&id)?.clone())));
            if let Some(id) = stream {
                ring.memory.content_keys.remove(&id);
            }
            writer
        };
        // SAFETY: valid, by this function's contract.
        unsafe { put(writer_r, mcrs_writer::give(writer)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe {
        let ret = entry(convert, error, make);
        if key_is_new {
            // A mail doesn't wait for those with whom its folder is shared.
            let _ = key_made(mailbox);
        }
        ret
    }
}

/// Takes the next bytes of the mail's content: as it was read, or (`after`) as it reads now. Returns 0 or -1.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`; `data` has `size` bytes; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_compare(
    convert: *mut mcrs_convert,
    after: bool,
    data: *const u8,
    size: usize,
    error: *mut mcrs_error,
) -> c_int {
    let update = |convert: &mut Convert| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        convert.comparison.update(after, data)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(convert, error, update) }
}

/// The new file is about to be read. In a session in which the user's key is locked, only its content can be checked, as
/// when mail is delivered. Returns 0 or -1.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_written(
    convert: *mut mcrs_convert,
    error: *mut mcrs_error,
) -> c_int {
    let remember = |convert: &mut Convert| {
        let Some((id, key)) = convert.written.take() else {
            return Ok(0);
        };
        let mut user = convert.user.try_borrow_mut().map_err(|_| in_use())?;
        let opens = *convert.opens.get_or_insert_with(|| user.opens_own());
        if !opens {
            user.memory().content_keys.insert(id, key);
        }
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(convert, error, remember) }
}

/// Makes sure that the content was the same before and after. Returns 0, or -1: the new file must go.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_same(
    convert: *mut mcrs_convert,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe { entry(convert, error, |c| c.comparison.finish().map(|()| 0)) }
}

/// Makes sure that `mailbox` still has the keys that mails were encrypted to, once they are in their places. Returns 0,
/// or -1: the old files must come back.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`; `mailbox` is open; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_check(
    convert: *mut mcrs_convert,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    let check = |convert: &mut Convert| {
        // SAFETY: open for the length of this call, by this function's contract.
        let mut folder = unsafe { Mailbox::lent(mailbox) }?;
        convert.saves.check(&mut folder).map(|()| 0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(convert, error, check) }
}

/// So many milliseconds to wait after so many `bytes` in `msecs`.
///
/// # Safety
/// `convert` is from `mcrs_convert_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_pause(
    convert: *mut mcrs_convert,
    bytes: u64,
    msecs: u64,
) -> c_uint {
    let mut left = Duration::ZERO;
    let ask = |convert: &mut Convert| {
        if let Some(rate) = convert.wish.max_rate {
            left = pause(rate, bytes, Duration::from_millis(msecs));
        }
        Ok(0)
    };
    // SAFETY: as this function's contract says; nobody asks why it can't be told.
    unsafe { entry(convert, null_mut(), ask) };
    c_uint::try_from(left.as_millis()).unwrap_or(c_uint::MAX)
}

/// Ends the conversion and clears the pointer.
///
/// # Safety
/// `convert` is valid, and `*convert` NULL or from `mcrs_convert_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_convert_free(convert: *mut *mut mcrs_convert) {
    // SAFETY: as this function's contract says.
    unsafe { free(convert) };
}
