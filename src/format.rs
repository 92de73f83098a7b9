//! The wire formats: streams and key strings, parsed and written, no crypto.
#![forbid(unsafe_code)]

pub mod base64;
pub mod der;
pub mod jwk;
pub mod keyinfo;
pub mod keystring;
pub mod pem;
pub mod stream;
