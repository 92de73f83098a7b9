//! The core's lines in Dovecot's log.

use std::ffi::{CStr, CString, c_char};

use super::dovecot as dc;

/// Where a line comes from, as Dovecot's filters know it.
const SOURCE: &CStr = c"mail-crypt-core";

/// What all lines begin with.
const PREFIX: &CStr = c"mail_crypt: ";

/// The event that all lines about one user go through: it is the user's child.
pub struct Event(*mut dc::event);

impl Event {
    /// # Safety
    /// `parent` is an event.
    pub unsafe fn new(parent: *mut dc::event) -> Self {
        // SAFETY: the parent is valid, by this function's contract, and the new event holds on to it; texts
        // are NUL-terminated.
        unsafe {
            let event = dc::event_create(parent, SOURCE.as_ptr(), 0);
            dc::event_set_append_log_prefix(event, PREFIX.as_ptr());
            Event(event)
        }
    }

    /// # Safety
    /// `event` is an event.
    pub unsafe fn of(event: *mut dc::event) -> Self {
        // SAFETY: valid, by this function's contract; `forget` lets go of it.
        Event(unsafe { dc::event_ref(event) })
    }

    /// Lets go of the event: its parent is about to be freed.
    pub fn forget(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by `new`; clears the pointer.
            unsafe { dc::event_unref(&raw mut self.0) };
        }
    }

    /// Whether debug lines are asked for. Dovecot remembers the answer.
    pub fn wants_debug(&self) -> bool {
        // SAFETY: made by `new`, not yet let go of.
        !self.0.is_null()
            && unsafe { dc::event_want_level(self.0, dc::LOG_TYPE_DEBUG, SOURCE.as_ptr(), 0) }
    }

    /// Logs a debug line.
    pub fn debug(&self, text: &str) {
        self.log(dc::LOG_TYPE_DEBUG, text);
    }

    /// Logs a warning.
    pub fn warn(&self, text: &str) {
        if self.0.is_null() {
            warn(text);
        } else {
            self.log(dc::LOG_TYPE_WARNING, text);
        }
    }

    fn log(&self, level: dc::log_type, text: &str) {
        with(text, |text| {
            // SAFETY: the event was made by `new`, and not yet let go of; a literal format with one string.
            unsafe {
                if !self.0.is_null() {
                    dc::e_log(self.0, level, SOURCE.as_ptr(), 0, c"%s".as_ptr(), text);
                }
            }
        });
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Logs a warning that is about no user.
pub fn warn(text: &str) {
    with(text, |text| {
        // SAFETY: a literal format with two strings, all NUL-terminated.
        unsafe { dc::i_warning(c"%s%s".as_ptr(), PREFIX.as_ptr(), text) };
    });
}

/// Runs `f` with `text` as C has it.
fn with(text: &str, f: impl FnOnce(*const c_char)) {
    // Every text of ours can be; one with a NUL in it is better left out than cut off.
    if let Ok(text) = CString::new(text) {
        f(text.as_ptr());
    }
}
