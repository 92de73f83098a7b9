//! Dovecot's index cache: the exports.

use super::boundary::bytes;
use crate::store::index_cache::{self, Place};
use crate::store::reader::{CHUNK_TAGS, CONTENT_KEY};

/// What Dovecot's index cache may have about a mail, each in a field of its own: the content key, where
/// finding it takes public-key cryptography.
pub const MCRS_CACHE_CONTENT_KEY: usize = 0;
/// What proves each chunk of a large mail.
pub const MCRS_CACHE_CHUNK_TAGS: usize = 1;
/// The number of fields that a reader knows.
pub const MCRS_CACHE_FIELDS: usize = 2;
const _: () = assert!(MCRS_CACHE_CONTENT_KEY == CONTENT_KEY && MCRS_CACHE_CHUNK_TAGS == CHUNK_TAGS);

/// How many of the fields, from the first on, help to read a file of so many bytes (`UINT64_MAX`: unknown).
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_cache_fields(size: u64) -> usize {
    index_cache::fields(size)
}

/// Where a mail is: what a further field has about it, once it was read and was encrypted.
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
