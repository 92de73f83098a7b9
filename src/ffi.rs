//! The boundary to Dovecot: the only unsafe code.
//!
//! Each export goes through [`boundary::entry`]: NULL is an error, a panic is caught, logged by its
//! place, returned as -1 and poisons the handle. Handles have one owner, `_new` and `_free`.
//! Nothing is freed across the boundary: texts and data go into buffers of the caller, or are
//! lent by a handle until its next call.
// Exported types have C's names, and cbindgen exports what is `pub`.
#![allow(non_camel_case_types, unreachable_pub)]

mod admin;
mod boundary;
mod cache;
mod check;
mod convert;
mod copy;
mod dovecot;
mod event;
mod fs;
mod libcrypto;
mod look;
mod mailbox;
mod reader;
mod saves;
mod sharing;
mod spool;
mod user;
mod version;
mod writer;

pub use admin::*;
pub use boundary::{MCRS_VERSION, mcrs_data, mcrs_error, mcrs_init};
pub use cache::*;
pub use check::*;
pub use convert::*;
pub use copy::*;
pub use fs::*;
pub use look::*;
pub use mailbox::mcrs_mailbox_guid;
pub use reader::*;
pub use saves::*;
pub use sharing::*;
pub use spool::*;
pub use user::*;
pub use writer::*;
