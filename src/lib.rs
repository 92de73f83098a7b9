//! Per-user encryption of mail at rest for Dovecot, interchangeable with its `mail_crypt` plugin.
//!
//! The rooms, each using only those after it: `ffi` (the boundary to Dovecot) -> [`store`]
//! and [`stream`] -> [`key`] and [`mod@format`] -> [`crypto`] (the only user of libcrypto). All may use
//! [`error`], [`hex`] and [`bounded`]. Everything but `ffi` builds and is tested without Dovecot.

#[cfg(panic = "abort")]
compile_error!("a panic must not take a mail server process down: build with panic = \"unwind\"");

pub mod bounded;
pub mod crypto;
pub mod error;
pub mod format;
pub mod hex;
pub mod key;
pub mod store;
pub mod stream;

#[cfg(feature = "dovecot")]
pub mod ffi;

pub use error::{Error, ErrorKind, Result};
