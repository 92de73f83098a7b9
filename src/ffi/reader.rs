//! Reading one encrypted mail: the exports.

use std::cell::RefCell;
use std::ffi::c_int;
use std::rc::Rc;

use super::boundary::{Handle, Opaque, bytes, entry, free, mcrs_data, mcrs_error, opaque, put};
use super::cache::MCRS_READER_FIELDS;
use super::dovecot::mailbox;
use super::look::only_this_mail;
use super::mailbox::Mailbox;
use super::user::{User, mcrs_user};
use crate::error::Result;
use crate::store::reader::{Reader, Served};
use crate::store::{Attributes, FileState, KeySource, in_use};

/// One mail being read.
pub struct mcrs_reader(Handle<Reader>);

opaque!(mcrs_reader, Reader);

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
