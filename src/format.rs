//! The wire formats: streams and key strings, parsed and written, no crypto.
#![forbid(unsafe_code)]
// What is parsed here comes from disk or the network.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

pub mod base64;
pub mod der;
pub mod jwk;
pub mod keyinfo;
pub mod keystring;
pub mod pem;
pub mod stream;
