#![no_main]

#[path = "../properties/mod.rs"]
mod properties;

// The tool's sources look for these at the root.
use properties::tool::root::*;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::trees::fields(data));
