//! What every export shares: the error buffer, handles, and the one way in.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, ErrorKind, Result};
use crate::store::senders;

/// The core's version, as the modules were built for; [`mcrs_init`] compares. `build.rs` makes it from the C header.
pub const MCRS_VERSION: u32 = include!(concat!(env!("OUT_DIR"), "/mcrs_version.rs"));

/// Bytes of [`mcrs_error::text`], with its NUL.
pub const MCRS_TEXT_SIZE: usize = 768;
/// Bytes of [`mcrs_error::client`], with its NUL.
pub const MCRS_CLIENT_SIZE: usize = 160;

/// What went wrong, in a buffer that the caller owns.
#[repr(C)]
pub struct mcrs_error {
    /// Trying again later may help: the key store didn't answer.
    pub temporary: bool,
    /// The parameters of an administrator's command are wrong.
    pub usage: bool,
    /// Only one mail is at fault: the user's others can be read.
    pub only_this_mail: bool,
    /// For the mail user's client: says what, and no internals.
    pub client: [c_char; MCRS_CLIENT_SIZE],
    /// For the server's log: says why and what to do.
    pub text: [c_char; MCRS_TEXT_SIZE],
}

/// Bytes that somebody lends, none at NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mcrs_data {
    /// The first of them.
    pub data: *const u8,
    /// How many.
    pub size: usize,
}

/// What is behind a C caller's pointer: a value, unusable after a panic.
pub struct Handle<T> {
    poisoned: Cell<bool>,
    value: RefCell<T>,
}

impl<T> Handle<T> {
    fn new(value: T) -> Self {
        Handle {
            poisoned: Cell::new(false),
            value: RefCell::new(value),
        }
    }
}

/// An opaque type of the C header: a name of its own around a [`Handle`].
pub trait Opaque: Sized {
    /// What the handle holds.
    type Inner;

    /// Wraps a new handle.
    fn wrap(handle: Handle<Self::Inner>) -> Self;

    /// The handle inside.
    fn handle(&self) -> &Handle<Self::Inner>;

    /// Gives `value` to C. Pairs with [`free`].
    fn give(value: Self::Inner) -> *mut Self {
        Box::into_raw(Box::new(Self::wrap(Handle::new(value))))
    }
}

/// Implements [`Opaque`] for a struct around a [`Handle`] of `$inner`. The struct itself is spelled out, and so is its
/// `mcrs_X_free`: cbindgen expands macros only with a nightly compiler.
macro_rules! opaque {
    ($name:ident, $inner:ty) => {
        impl $crate::ffi::boundary::Opaque for $name {
            type Inner = $inner;

            fn wrap(handle: $crate::ffi::boundary::Handle<$inner>) -> Self {
                $name(handle)
            }

            fn handle(&self) -> &$crate::ffi::boundary::Handle<$inner> {
                &self.0
            }
        }
    };
}
pub(super) use opaque;

thread_local! {
    static PANICKED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

/// Prepares the core; each module calls it when it is loaded, before anything else.
///
/// `version` is the [`MCRS_VERSION`] that the module was built for. Returns 0, or -1 where the
/// module and the core don't belong together.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_init(version: u32) -> c_int {
    static HOOK: std::sync::Once = std::sync::Once::new();
    // The place only: a panic's message may quote what it choked on.
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info
                .location()
                .map(|l| format!("{}:{}", l.file(), l.line()));
            PANICKED_AT.set(place);
            // A test that fails in the same process has to say why.
            if cfg!(test) {
                before(info);
            }
        }));
    });
    if version == MCRS_VERSION { 0 } else { -1 }
}

/// Forgets what all sessions of the process share, before libcrypto may be cleaned up. What is needed after
/// this is made anew.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_deinit() {
    let _ = catch_unwind(senders::forget);
}

/// The way into the core: checks the handle, runs `f`, and turns errors and panics into -1.
///
/// # Safety
/// `opaque` is NULL or from [`Opaque::give`] and not yet freed; `error` is NULL or valid.
pub unsafe fn entry<O: Opaque>(
    opaque: *mut O,
    error: *mut mcrs_error,
    f: impl FnOnce(&mut O::Inner) -> Result<c_int>,
) -> c_int {
    // SAFETY: NULL, or a live handle of this type, by this function's contract.
    let Some(opaque) = (unsafe { opaque.as_ref() }) else {
        // SAFETY: as this function's contract says.
        return unsafe { fail(error, &Error::internal("a handle is missing")) };
    };
    let handle = opaque.handle();
    if handle.poisoned.get() {
        // SAFETY: as above.
        return unsafe {
            fail(
                error,
                &Error::internal("disabled by an earlier internal error"),
            )
        };
    }
    let run = || match handle.value.try_borrow_mut() {
        Ok(mut value) => f(&mut value),
        Err(_) => Err(Error::internal("called from inside itself")),
    };
    // SAFETY: as above.
    let (result, panicked) = unsafe { guarded(error, run) };
    handle.poisoned.set(panicked);
    result
}

/// The same as [`entry`], for exports that have no handle yet.
///
/// # Safety
/// `error` is NULL or valid.
pub unsafe fn entry_new(error: *mut mcrs_error, f: impl FnOnce() -> Result<c_int>) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe { guarded(error, f) }.0
}

/// # Safety
/// `error` is NULL or valid.
unsafe fn guarded(error: *mut mcrs_error, f: impl FnOnce() -> Result<c_int>) -> (c_int, bool) {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => (value, false),
        // SAFETY: as this function's contract says.
        Ok(Err(e)) => (unsafe { fail(error, &e) }, false),
        Err(_) => {
            let place = PANICKED_AT.take().unwrap_or_default();
            let e = Error::internal(format!("panicked at {place}"));
            // SAFETY: as above.
            (unsafe { fail(error, &e) }, true)
        }
    }
}

/// Writes `e` into the caller's buffer, which needn't hold anything yet, and returns -1.
///
/// # Safety
/// `error` is NULL or points to writable memory for one.
pub unsafe fn fail(error: *mut mcrs_error, e: &Error) -> c_int {
    if !error.is_null() {
        let filled = mcrs_error {
            temporary: e.kind() == ErrorKind::Store,
            usage: e.kind() == ErrorKind::Usage,
            only_this_mail: false,
            client: c_text(client_text(e.kind())),
            text: c_text(&e.to_log()),
        };
        // SAFETY: writable by this function's contract. No reference is made: C may not have set it.
        unsafe { error.write(filled) };
    }
    -1
}

/// What a mail client may show. Nothing internal: no paths, keys or settings.
fn client_text(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Tampered => "Mail was changed after it was stored and is not shown",
        ErrorKind::Truncated | ErrorKind::Corrupt => "Mail is damaged and can't be decrypted",
        ErrorKind::Unsupported => "Mail is encrypted in a way that this server can't read",
        ErrorKind::NoKey => "There is no key for this mail",
        ErrorKind::Locked | ErrorKind::WrongPassword => "The key of this mail can't be unlocked",
        ErrorKind::Keyless => "This folder has no key that mail could be encrypted to",
        ErrorKind::Refused => "Saving mail that is encrypted already isn't supported",
        ErrorKind::Setting | ErrorKind::Usage | ErrorKind::Crypto => "Encryption is not usable",
        ErrorKind::Store => "Encryption keys are temporarily unavailable",
        ErrorKind::Internal => "A fault in the server's encryption prevents this",
    }
}

/// As much of the text as fits, and a NUL.
fn c_text<const SIZE: usize>(text: &str) -> [c_char; SIZE] {
    let mut out = [0; SIZE];
    let mut end = text.len().min(SIZE - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (o, b) in out.iter_mut().zip(text.bytes().take(end)) {
        // The same bits: c_char is a signed byte on some machines.
        *o = b as c_char;
    }
    out
}

/// Frees what [`Opaque::give`] gave and clears the caller's pointer.
///
/// # Safety
/// `opaque` is NULL or valid, and `*opaque` is NULL or from [`Opaque::give`], freed once.
pub unsafe fn free<O: Opaque>(opaque: *mut *mut O) {
    // SAFETY: NULL or valid, by this function's contract.
    let Some(slot) = (unsafe { opaque.as_mut() }) else {
        return;
    };
    let taken = std::mem::replace(slot, std::ptr::null_mut());
    if taken.is_null() {
        return;
    }
    // SAFETY: from Box::into_raw in `give`, and the caller's only pointer was just cleared.
    let boxed = unsafe { Box::from_raw(taken) };
    // A Drop that panics must not unwind into C; nobody is left to be told.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(boxed)));
}

/// The caller's bytes; (NULL, 0) is empty.
///
/// # Safety
/// `data` points to `size` readable bytes that stay as they are for `'a`, or `size` is 0.
#[expect(clippy::disallowed_methods, reason = "NULL is out of the way")]
pub unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() || size == 0 {
        return &[];
    }
    // SAFETY: non-NULL, and readable by this function's contract.
    unsafe { std::slice::from_raw_parts(data, size) }
}

/// Stores through an out-pointer of the caller, behind which there needn't be anything yet.
///
/// # Safety
/// `out` is NULL or points to writable memory for a `T`.
pub unsafe fn put<T>(out: *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return Err(Error::internal("an out-pointer is missing"));
    }
    // SAFETY: writable by this function's contract. No reference is made: C may not have set it.
    unsafe { out.write(value) };
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    struct Number(Handle<i32>);

    impl Opaque for Number {
        type Inner = i32;
        fn wrap(handle: Handle<i32>) -> Self {
            Number(handle)
        }
        fn handle(&self) -> &Handle<i32> {
            &self.0
        }
    }

    fn empty() -> mcrs_error {
        mcrs_error {
            temporary: false,
            usage: false,
            only_this_mail: false,
            client: [0; MCRS_CLIENT_SIZE],
            text: [0; MCRS_TEXT_SIZE],
        }
    }

    fn text(e: &mcrs_error) -> String {
        let bytes = e.text.iter().take_while(|c| **c != 0).map(|c| *c as u8);
        String::from_utf8(bytes.collect()).unwrap()
    }

    #[test]
    fn a_panic_answers_minus_one_and_poisons_the_handle() {
        assert_eq!(mcrs_init(MCRS_VERSION), 0);
        let mut handle = Number::give(7);
        let mut error = empty();
        // SAFETY: a live handle and a valid error.
        let ret = unsafe { entry(handle, &raw mut error, |_| panic!("secret words")) };
        assert_eq!(ret, -1);
        assert!(text(&error).contains("boundary.rs"), "{}", text(&error));
        assert!(!text(&error).contains("secret"), "{}", text(&error));
        // SAFETY: as above.
        let ret = unsafe { entry(handle, &raw mut error, |n| Ok(*n)) };
        assert_eq!(ret, -1);
        assert!(text(&error).contains("earlier"), "{}", text(&error));
        // SAFETY: freed once.
        unsafe { free(&raw mut handle) };
        assert!(handle.is_null());
    }

    #[test]
    fn null_is_an_error_and_never_undefined() {
        let mut error = empty();
        // SAFETY: NULL is allowed.
        let ret = unsafe { entry(std::ptr::null_mut::<Number>(), &raw mut error, |n| Ok(*n)) };
        assert_eq!(ret, -1);
        // SAFETY: NULL is allowed everywhere.
        unsafe {
            assert_eq!(bytes(std::ptr::null(), 0), b"");
            assert!(put(std::ptr::null_mut::<i32>(), 1).is_err());
            free(std::ptr::null_mut::<*mut Number>());
        }
    }

    #[test]
    fn only_the_store_may_be_asked_again_and_a_fault_of_ours_is_named_as_such() {
        let mut error = empty();
        for (e, temporary) in [
            (Error::store("the dict is down"), true),
            (Error::internal("this can't be"), false),
            (crate::store::in_use(), false),
            (Error::setting("no curve"), false),
            (Error::corrupt("a length"), false),
        ] {
            // SAFETY: a valid error.
            unsafe { fail(&raw mut error, &e) };
            assert_eq!(error.temporary, temporary, "{e}");
        }
        // SAFETY: as above; NULL is allowed.
        unsafe {
            fail(&raw mut error, &Error::store("the dict is down"));
            entry(std::ptr::null_mut::<Number>(), &raw mut error, |n| Ok(*n));
        }
        assert!(!error.temporary);
        assert!(
            text(&error).starts_with("internal error: "),
            "{}",
            text(&error)
        );
        let others = [ErrorKind::Crypto, ErrorKind::Setting, ErrorKind::Store];
        let client = client_text(ErrorKind::Internal);
        assert!(others.iter().all(|kind| client_text(*kind) != client));
    }

    #[test]
    fn memory_that_the_caller_has_not_set_is_written_alone() {
        let mut error = std::mem::MaybeUninit::<mcrs_error>::uninit();
        let mut number = std::mem::MaybeUninit::<i32>::uninit();
        // SAFETY: both are writable, and set by the calls.
        unsafe {
            fail(error.as_mut_ptr(), &Error::corrupt("why"));
            assert!(put(number.as_mut_ptr(), 7).is_ok());
            assert_eq!(text(error.assume_init_ref()), "corrupt: why");
            assert_eq!(number.assume_init(), 7);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut error = empty();
        let long = format!("x{}", "\u{e4}".repeat(MCRS_TEXT_SIZE));
        // SAFETY: a valid error.
        unsafe { fail(&raw mut error, &Error::corrupt(long)) };
        assert_eq!(text(&error).len(), MCRS_TEXT_SIZE - 2);
    }

    #[test]
    fn a_module_of_another_version_is_refused() {
        assert_eq!(mcrs_init(MCRS_VERSION ^ 1), -1);
        assert_eq!(mcrs_init(1), -1, "what all builds said once");
    }
}
