//! Errors about a payload, the same wherever they are found.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use crate::format::stream::Header;

/// Checks that `len` bytes of ciphertext are whole blocks.
pub(super) fn check_whole_blocks(header: &Header, len: u64) -> Result<()> {
    let block_size = header.cipher.block_size() as u64;
    if block_size > 1 && (len == 0 || len % block_size != 0) {
        return Err(Error::truncated("the file ends within a block"));
    }
    Ok(())
}

pub(super) fn truncated_tag() -> Error {
    Error::truncated("the file ends within its tag")
}

pub(super) fn tampered() -> Error {
    Error::new(ErrorKind::Tampered, "the authentication tag doesn't match")
}
