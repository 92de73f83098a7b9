//! Keeps what was read from a stream that can't go back: in memory, or sealed in a file.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Once;

use super::boundary::{Handle, Opaque, bytes, entry, entry_new, free, mcrs_error, opaque, put};
use super::event::warn;
use crate::stream::spool::{File, Spool, Taken};

/// What was read from one stream.
pub struct mcrs_spool(Handle<Spool<std::fs::File>>);

opaque!(mcrs_spool, Spool<std::fs::File>);

impl File for std::fs::File {
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, data, offset)
    }

    fn read_at(&mut self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }
}

/// Makes an empty spool. Returns 0 and sets `spool_r`, or -1.
///
/// # Safety
/// `spool_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_spool_new(
    spool_r: *mut *mut mcrs_spool,
    error: *mut mcrs_error,
) -> c_int {
    let make = || {
        // SAFETY: valid, by this function's contract.
        unsafe { put(spool_r, mcrs_spool::give(Spool::new()?)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry_new(error, make) }
}

/// Asks for the data at `next`, together with what the reader hasn't consumed from `keep` (at most
/// `next`) on. Returns 1: it is lent, in one piece from `keep` on, until this returns 1 again;
/// 0: `mcrs_spool_take` needs what the source has at `offset_r`, or `next` is the end; -1: error.
///
/// # Safety
/// `spool` is from `mcrs_spool_new`; the other pointers are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_spool_read(
    spool: *mut mcrs_spool,
    keep: u64,
    next: u64,
    data_r: *mut *const u8,
    size_r: *mut usize,
    offset_r: *mut u64,
    error: *mut mcrs_error,
) -> c_int {
    let read = |spool: &mut Spool<std::fs::File>| {
        let wanted = spool.wants(next);
        let Some(data) = spool.read(keep, next)? else {
            // SAFETY: valid, by this function's contract.
            unsafe { put(offset_r, wanted) }?;
            return Ok(0);
        };
        // SAFETY: as above.
        unsafe {
            put(data_r, data.as_ptr())?;
            put(size_r, data.len())?;
        }
        Ok(1)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(spool, error, read) }
}

/// Takes the `size` bytes that the source has at `offset`. Returns 1: `taken_r` of them were taken,
/// at least one if there are any; 0: none, `mcrs_spool_set_file` must be called first; -1: error.
///
/// # Safety
/// `spool` is from `mcrs_spool_new`; `data` has `size` bytes; `taken_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_spool_take(
    spool: *mut mcrs_spool,
    offset: u64,
    data: *const u8,
    size: usize,
    taken_r: *mut usize,
    error: *mut mcrs_error,
) -> c_int {
    let take = |spool: &mut Spool<std::fs::File>| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let taken = spool.take(offset, unsafe { bytes(data, size) })?;
        warn_failure(spool);
        let Taken::Bytes(n) = taken else {
            return Ok(0);
        };
        // SAFETY: valid, by the contract.
        unsafe { put(taken_r, n) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(spool, error, take) }
}

/// Gives the spool an empty file, which it owns from here on whatever is returned; -1: there is none, and nothing will
/// be kept any more. Returns 0 or -1.
///
/// # Safety
/// `spool` is from `mcrs_spool_new`; `fd` is an open file that nothing else uses, or -1 and `why`
/// NUL-terminated; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_spool_set_file(
    spool: *mut mcrs_spool,
    fd: c_int,
    why: *const c_char,
    error: *mut mcrs_error,
) -> c_int {
    if fd == -1 && !why.is_null() {
        // SAFETY: NUL-terminated, by this function's contract.
        let why = unsafe { CStr::from_ptr(why) }.to_string_lossy();
        warn_once(&format!(
            "no temporary file can be made in mail_temp_dir: {why}"
        ));
    }
    // SAFETY: open, and handed over, by the contract.
    let fd = (fd != -1).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
    let set = |spool: &mut Spool<std::fs::File>| {
        spool.set_file(fd.map(std::fs::File::from))?;
        warn_failure(spool);
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(spool, error, set) }
}

/// Whether all that was taken can be read without the source: 1 yes, 0 no, -1 error.
///
/// # Safety
/// `spool` is from `mcrs_spool_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_spool_keeps(spool: *mut mcrs_spool) -> c_int {
    let keeps = |spool: &mut Spool<std::fs::File>| Ok(c_int::from(spool.keeps()));
    // SAFETY: as this function's contract says.
    unsafe { entry(spool, std::ptr::null_mut(), keeps) }
}

/// Frees the spool, wipes its plaintext, closes its file and clears the pointer.
///
/// # Safety
/// `spool` is valid, and `*spool` NULL or from `mcrs_spool_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_spool_free(spool: *mut *mut mcrs_spool) {
    // SAFETY: as this function's contract says.
    unsafe { free(spool) };
}

fn warn_failure(spool: &mut Spool<std::fs::File>) {
    if let Some(e) = spool.failure() {
        warn_once(&format!(
            "a temporary file in mail_temp_dir can't be written: {e}"
        ));
    }
}

/// Warns once in a process that `mail_temp_dir` is of no use.
fn warn_once(what: &str) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        warn(&format!(
            "{what}: going back in large mails takes longer without it"
        ));
    });
}
