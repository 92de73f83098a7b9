//! Reading one encrypted mail: the exports.

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

use super::boundary::{
    Handle, Opaque, bytes, entry, entry_new, free, mcrs_data, mcrs_error, opaque, put,
};
use super::cache::MCRS_READER_FIELDS;
use super::dovecot::mailbox;
use super::mailbox::Mailbox;
use super::user::{User, mcrs_user};
use crate::error::{Error, ErrorKind, Result};
use crate::store::events::{Name, kind};
use crate::format::trees::is_trees;
use crate::store::reader::{Reader, Served};
use crate::store::{Attributes, FileState, Happened, KeySource, Origin, in_use};
use crate::stream::{
    Sizes, begins_as_text, is_encrypted, may_be_ciphertext_size, refuse_damaged, refuse_twice,
};

/// One mail being read.
pub struct mcrs_reader(Handle<Reader>);

opaque!(mcrs_reader, Reader);

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
unsafe fn only_this_mail(ret: c_int, only: bool, error: *mut mcrs_error) -> c_int {
    // SAFETY: as this function's contract says.
    if let (true, Some(error)) = (ret < 0, unsafe { error.as_mut() }) {
        error.only_this_mail = only;
    }
    ret
}

const REPLACED: &str = "not the mail that was stored: when it was read before it was encrypted, and now it is not (if \
                        that is how it should be, delete the folder's dovecot.index.cache)";

/// A file on disk: a large mail that was verified is verified again where one of these differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mcrs_file {
    /// Its bytes (`UINT64_MAX`: unknown).
    pub size: u64,
    /// When its content was last changed, in nanoseconds (0: unknown).
    pub changed: u64,
    /// Its inode's number (0: unknown).
    pub inode: u64,
}

impl From<mcrs_file> for FileState {
    fn from(file: mcrs_file) -> Self {
        FileState {
            size: file.size,
            changed: file.changed,
            inode: file.inode,
        }
    }
}

/// Whether `file`, which was verified in an earlier session, was found to be another one in this session. Then
/// `entry_r`, which has as many bytes as a `struct mcrs_file`, is set to the entry that tells later sessions so.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `entry_r` has so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_file_is_changed(
    user: *mut mcrs_user,
    file: mcrs_file,
    entry_r: *mut u8,
) -> bool {
    let file = FileState::from(file);
    let look = |user: &mut Rc<RefCell<User>>| {
        let mut user = user.try_borrow_mut().map_err(|_| in_use())?;
        if !user.memory().is_changed(file) {
            return Ok(0);
        }
        // SAFETY: writable for so many bytes, by this function's contract.
        unsafe { put(entry_r.cast::<[u8; FileState::BYTES]>(), file.to_bytes()) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says; nobody asks why it can't be told.
    unsafe { entry(user, std::ptr::null_mut(), look) == 1 }
}
const _: () = assert!(size_of::<mcrs_file>() == FileState::BYTES);

/// Makes a reader for a mail in `file`, of which the index cache has `cached`, by field. Returns 0 and sets
/// `reader_r`, or -1.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `cached` has `MCRS_READER_FIELDS` entries, each with its
/// bytes; `reader_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_new(
    user: *mut mcrs_user,
    file: mcrs_file,
    cached: *const mcrs_data,
    reader_r: *mut *mut mcrs_reader,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        let keys = Rc::clone(user);
        let mut reader = Reader::new(keys, file.into());
        for field in 0..MCRS_READER_FIELDS {
            // SAFETY: so many entries, each readable for the length of this call, by this function's contract.
            let entry = unsafe {
                let entry = cached.add(field).read();
                bytes(entry.data, entry.size)
            };
            if !entry.is_empty() {
                reader.set_cached(field, entry)?;
            }
        }
        // SAFETY: valid, by this function's contract.
        unsafe { put(reader_r, mcrs_reader::give(reader)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// Makes a reader for a mail in `file` that TREES wrote. It is used as any other; the index cache gets nothing of it.
/// Returns 0 and sets `reader_r`, or -1.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `reader_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_new_trees(
    user: *mut mcrs_user,
    file: mcrs_file,
    reader_r: *mut *mut mcrs_reader,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        let keys = Rc::clone(user);
        let reader = Reader::trees(keys, file.into());
        // SAFETY: valid, by this function's contract.
        unsafe { put(reader_r, mcrs_reader::give(reader)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// After the mail was opened: what the index cache should get in `field`. Returns 1 and lends it until
/// the reader is freed, 0 where none is needed, -1 on error.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`; the other pointers are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_get_cacheable(
    reader: *mut mcrs_reader,
    field: usize,
    entry_r: *mut *const u8,
    size_r: *mut usize,
) -> c_int {
    let get = |reader: &mut Reader| {
        let Some(entry) = reader.cacheable(field)? else {
            return Ok(0);
        };
        // SAFETY: valid, by this function's contract.
        unsafe {
            put(entry_r, entry.as_ptr())?;
            put(size_r, entry.len())?;
        }
        Ok(1)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(reader, std::ptr::null_mut(), get) }
}

/// Takes the next `size` bytes of the file; the keys of `mailbox` are looked up when the header
/// is complete (NULL: the file is in none). Returns 0: go on, 1: opened, no more is needed, -1: the
/// mail can't be read.
///
/// # Safety
/// `reader` is from `mcrs_reader_new` or `mcrs_reader_new_trees`, `mailbox` is NULL or open, `data` has `size` bytes, `error`
/// is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_feed(
    reader: *mut mcrs_reader,
    mailbox: *mut mailbox,
    data: *const u8,
    size: usize,
    error: *mut mcrs_error,
) -> c_int {
    let feed = |reader: &mut Reader| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        // SAFETY: NULL, or open for the length of this call, by the contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }.ok();
        let folder = mailbox.as_mut().map(|m| m as &mut dyn Attributes);
        reader.feed(data, folder).map(c_int::from)
    };
    // SAFETY: as this function's contract says.
    unsafe { opening(reader, error, feed) }
}

/// The file has ended: checks the mail. Returns 0: it may be served, -1: not a byte of it.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_finish(
    reader: *mut mcrs_reader,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe { opening(reader, error, |r| r.finish().map(|()| 0)) }
}

/// Only this mail is at fault where it is damaged, or under a key that is gone or locked while the user's own key can be
/// unlocked. Else perhaps no mail of the user can be read now.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`; `error` is NULL or valid.
unsafe fn opening(
    reader: *mut mcrs_reader,
    error: *mut mcrs_error,
    f: impl FnOnce(&mut Reader) -> Result<c_int>,
) -> c_int {
    let failed_alone = |reader: &mut Reader| Ok(c_int::from(reader.failed_alone()));
    // SAFETY: as this function's contract says; `entry` fills `error`.
    unsafe {
        let ret = entry(reader, error, f);
        let alone = ret < 0 && entry(reader, std::ptr::null_mut(), failed_alone) > 0;
        only_this_mail(ret, alone, error)
    }
}

/// Whether all of the mail was verified to open it: then what is known of it from before needs no second
/// look. 1 yes, 0 no, -1 error.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_is_new(reader: *mut mcrs_reader) -> c_int {
    let ask = |reader: &mut Reader| Ok(c_int::from(reader.is_new()));
    // SAFETY: as this function's contract says.
    unsafe { entry(reader, std::ptr::null_mut(), ask) }
}

/// The mail, now open, isn't to be served after all: what was learned from it is forgotten.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_refuse(reader: *mut mcrs_reader) {
    let refuse = |reader: &mut Reader| {
        reader.refuse();
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(reader, std::ptr::null_mut(), refuse) };
}

/// The plaintext's size in bytes, once the mail is opened. Returns 0 or -1.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`; `size_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_size(
    reader: *mut mcrs_reader,
    size_r: *mut u64,
    error: *mut mcrs_error,
) -> c_int {
    let ask = |reader: &mut Reader| {
        let size = reader.size()?;
        // SAFETY: valid, by this function's contract.
        unsafe { put(size_r, size) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(reader, error, ask) }
}

/// Asks for the plaintext from `offset` (below the size) on. Returns 1 or 2: the plaintext from `keep` on (at
/// most `offset`: what the stream's reader hasn't consumed) is lent until the next call, with 2 at another
/// address than before; 0: `mcrs_reader_serve` needs the `size_r` bytes of the file from `offset_r` on;
/// -1: error.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`; the other pointers are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_want(
    reader: *mut mcrs_reader,
    keep: u64,
    offset: u64,
    data_r: *mut *const u8,
    offset_r: *mut u64,
    size_r: *mut usize,
    error: *mut mcrs_error,
) -> c_int {
    let want = |reader: &mut Reader| {
        let (ret, plain) = match reader.want(keep, offset)? {
            Served::InPlace(plain) => (1, plain),
            Served::Moved(plain) => (2, plain),
            Served::Needs(from, size) => {
                // SAFETY: valid, by this function's contract.
                unsafe {
                    put(offset_r, from)?;
                    put(size_r, size)?;
                }
                return Ok(0);
            }
        };
        // SAFETY: as above.
        unsafe {
            put(data_r, plain.as_ptr())?;
            put(size_r, plain.len())?;
        }
        Ok(ret)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(reader, error, want) }
}

/// Takes the ciphertext that `mcrs_reader_want` asked for at `offset`, or its first part (none of
/// it: the file has ended). Returns 1: the plaintext from `keep` to the chunk's end is lent until the
/// next call, at another address than before; 0: ask `mcrs_reader_want` what else is needed; -1: the file
/// was changed since it was verified.
///
/// # Safety
/// `reader` is from `mcrs_reader_new`, `data` has `size` bytes, the other pointers are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_serve(
    reader: *mut mcrs_reader,
    keep: u64,
    offset: u64,
    data: *const u8,
    size: usize,
    data_r: *mut *const u8,
    size_r: *mut usize,
    error: *mut mcrs_error,
) -> c_int {
    let serve = |reader: &mut Reader| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        let Some(plain) = reader.serve(keep, offset, data)? else {
            return Ok(0);
        };
        // SAFETY: valid, by the contract.
        unsafe {
            put(data_r, plain.as_ptr())?;
            put(size_r, plain.len())?;
        }
        Ok(1)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(reader, error, serve) }
}

/// Frees the reader, wipes its plaintext and clears the pointer.
///
/// # Safety
/// `reader` is valid, and `*reader` NULL or from `mcrs_reader_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_reader_free(reader: *mut *mut mcrs_reader) {
    // SAFETY: as this function's contract says.
    unsafe { free(reader) };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
