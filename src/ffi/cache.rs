//! Dovecot's index cache: the exports.

use std::ffi::c_char;
use std::ptr::null;

use super::boundary::bytes;
use crate::store::index_cache::{self, CHUNK_TAGS_FIELD, CONTENT_KEY_FIELD, Place};

/// The fields that Dovecot's index cache may have about a mail are numbered from 0 on. These many come first: a reader
/// looks at them, and fills them.
pub const MCRS_READER_FIELDS: usize = 3;
/// The field for what `mcrs_file_is_changed` says.
pub const MCRS_CACHE_CHANGED: usize = 2;
/// The field for a `struct mcrs_place`.
pub const MCRS_CACHE_PLACE: usize = 3;
/// The number of fields.
pub const MCRS_CACHE_FIELDS: usize = 4;
const _: () = assert!(
    CONTENT_KEY_FIELD < MCRS_READER_FIELDS
        && CHUNK_TAGS_FIELD < MCRS_READER_FIELDS
        && MCRS_CACHE_CHANGED < MCRS_READER_FIELDS
        && MCRS_CACHE_CHANGED == index_cache::CHANGED_FIELD
        && MCRS_CACHE_PLACE == index_cache::PLACE_FIELD
        && MCRS_CACHE_FIELDS == index_cache::NAMES.len()
);

/// The name of a field.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_cache_name(field: usize) -> *const c_char {
    index_cache::NAMES
        .get(field)
        .map_or(null(), |name| name.as_ptr())
}

/// The names of fields of which a cache must have none: with them, nothing in it can be trusted. NULL behind the last.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_cache_spoilt_name(number: usize) -> *const c_char {
    index_cache::SPOILT_NAMES
        .get(number)
        .map_or(null(), |name| name.as_ptr())
}

/// How many of a reader's fields, from the first on, help to read a file of so many bytes (`UINT64_MAX`: unknown).
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_cache_fields(size: u64) -> usize {
    index_cache::fields(size)
}

/// Where a mail is that was encrypted when it was read. These bytes are the field's entry.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mcrs_place {
    /// The folder's GUID.
    pub folder: [u8; 16],
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The mail's UID.
    pub uid: u32,
}
const _: () = assert!(size_of::<mcrs_place>() == Place::BYTES);

/// Whether the `size` bytes that this field has say that the mail in `place` was encrypted.
///
/// # Safety
/// `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_place_is_known(
    place: mcrs_place,
    data: *const u8,
    size: usize,
) -> bool {
    let place = Place {
        folder: place.folder,
        uid_validity: place.uid_validity,
        uid: place.uid,
    };
    // SAFETY: as this function's contract says.
    place.is_known(unsafe { bytes(data, size) })
}
