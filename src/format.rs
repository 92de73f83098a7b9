//! The wire formats: streams, key strings and slots, parsed and written; mail of TREES, parsed. Nothing is encrypted here.
#![forbid(unsafe_code)]
// What is parsed here comes from disk or the network.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

pub mod base64;
pub mod code;
pub mod der;
pub mod jwk;
pub mod keyinfo;
pub mod keystring;
pub mod pem;
pub mod slots;
pub mod stream;
pub mod trees;
