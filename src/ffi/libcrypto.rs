//! What libcrypto does when it is first used.

use std::ffi::{c_int, c_void};

/// Its openssl.cnf, which may ask for FIPS.
const LOAD_CONFIG: u64 = 0x40;
/// No clean-up when the process ends: others may be using it then.
const NO_ATEXIT: u64 = 0x0008_0000;

unsafe extern "C" {
    fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
}

/// The linker puts this in the place of OPENSSL_init_ssl(), the one function of libssl that openssl-sys calls: build.rs
/// says why. Tables of names are made when they are first needed. Returns 1, or 0.
///
/// # Safety
/// None: the parameters are not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_init_libcrypto(_options: u64, _settings: *const c_void) -> c_int {
    // SAFETY: NULL stands for no settings of our own.
    unsafe { OPENSSL_init_crypto(LOAD_CONFIG | NO_ATEXIT, std::ptr::null()) }
}
