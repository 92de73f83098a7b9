//! The bytes of mail that TREES wrote: docs/format.md has the layout. Read only.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// What each file begins with.
pub const MAGIC: [u8; 3] = [0xee, 0xff, 0xcc];
/// The only version that there is.
pub const VERSION: u32 = 1;
/// Magic and version, big-endian.
pub const HEADER: usize = 7;
/// Bytes that a sealed box adds: an ephemeral public key and a tag.
pub const SEAL: usize = 48;
/// Plaintext bytes of each chunk but the last, which has fewer, perhaps none.
pub const CHUNK: usize = 8192;
/// The same, sealed.
pub const SEALED_CHUNK: usize = CHUNK + SEAL;

/// Whether a file that begins so was written by TREES. A mail in plaintext isn't: a byte of a version below 16 million is
/// zero, which mail doesn't have.
pub fn is_trees(prefix: &[u8]) -> bool {
    prefix.starts_with(&MAGIC) && prefix.get(MAGIC.len()) == Some(&0)
}

/// Checks a file's first [`HEADER`] bytes.
///
/// # Errors
/// Truncated, corrupt, or unsupported for another version.
pub fn check_header(start: &[u8]) -> Result<()> {
    let header = start.get(..HEADER).ok_or_else(ends_within_header)?;
    let version = header.strip_prefix(&MAGIC);
    let version = version.and_then(|bytes| bytes.first_chunk());
    match version.map(|bytes| u32::from_be_bytes(*bytes)) {
        Some(VERSION) => Ok(()),
        Some(other) => Err(Error::unsupported(format!("TREES version {other}"))),
        None => Err(Error::corrupt("not a file of TREES")),
    }
}

fn ends_within_header() -> Error {
    Error::truncated("the file ends within its header")
}

/// The chunks of a file with `size` bytes: how many of them are whole, and how long the last one's plaintext is.
///
/// # Errors
/// Truncated: the last chunk is always shorter than the others, so its end can't be missing unnoticed. A whole
/// chunk can.
pub fn chunks(size: u64) -> Result<(u64, usize)> {
    let sealed = size
        .checked_sub(HEADER as u64)
        .ok_or_else(ends_within_header)?;
    let whole = sealed / SEALED_CHUNK as u64;
    // Less than the size of a chunk.
    let last = (sealed % SEALED_CHUNK as u64) as usize;
    if last == 0 {
        return Err(Error::truncated("the file's last chunk is missing"));
    }
    let last = last.checked_sub(SEAL);
    let last = last.ok_or_else(|| Error::truncated("the file ends within a chunk"))?;
    Ok((whole, last))
}

/// Bytes of plaintext in a file with `size` bytes.
///
/// # Errors
/// As [`chunks`].
pub fn plain_size(size: u64) -> Result<u64> {
    let (whole, last) = chunks(size)?;
    Ok(whole * CHUNK as u64 + last as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        assert!(is_trees(&[0xee, 0xff, 0xcc, 0, 0, 0, 1]));
        for other in [
            b"".as_slice(),
            &MAGIC,
            b"\xee\xff\xcc: a header",
            b"CRYPTED\x03\x07",
            b"From: a",
        ] {
            assert!(!is_trees(other));
        }
    }

    #[test]
    fn another_version_is_named() {
        let header = |version: u32| [MAGIC.as_slice(), &version.to_be_bytes()].concat();
        check_header(&header(1)).unwrap();
        for version in [0, 2, u32::MAX] {
            let e = check_header(&header(version)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unsupported);
            assert!(e.to_string().contains(&version.to_string()), "{e}");
        }
        let kind = |start: &[u8]| check_header(start).unwrap_err().kind();
        assert_eq!(kind(&[0xee, 0xff, 0xcc, 0, 0, 0]), ErrorKind::Truncated);
        assert_eq!(kind(b"CRYPTED\x03\x07"), ErrorKind::Corrupt);
    }

    #[test]
    fn a_size_tells_the_chunks() {
        let file = |whole: u64, last: u64| {
            HEADER as u64 + whole * SEALED_CHUNK as u64 + SEAL as u64 + last
        };
        for (whole, last) in [(0, 0), (0, 1), (0, 8191), (1, 0), (1, 1), (7, 100)] {
            let size = file(whole, last as u64);
            assert_eq!(chunks(size).unwrap(), (whole, last));
            assert_eq!(plain_size(size).unwrap(), whole * 8192 + last as u64);
        }
        for size in [0, 6, 7, 8, 54, file(1, 0) - 1, file(1, 0) - 48] {
            let e = plain_size(size).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Truncated, "{size}");
        }
        assert!(plain_size(u64::MAX).is_ok_and(|size| size < u64::MAX));
    }
}
