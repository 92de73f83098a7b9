//! The only place of the core that knows one Dovecot version from another.

#[cfg(not(dovecot_2_4))]
use std::ffi::CStr;

use super::dovecot as dc;
use crate::store::Line;

/// The release line whose headers this was built with.
pub const LINE: Line = if cfg!(dovecot_2_4) {
    Line::V2_4
} else {
    Line::V2_3
};

/// Why the attributes of `mailbox` must not be listed, if so.
///
/// # Safety
/// `mailbox` is open.
#[cfg(not(dovecot_2_4))]
pub unsafe fn unlistable(mailbox: *mut dc::mailbox) -> Option<&'static str> {
    // SAFETY: open, by this function's contract; its settings live as long.
    let dict = unsafe { (*dc::mailbox_get_settings(mailbox)).mail_attribute_dict };
    if dict.is_null() {
        return None;
    }
    // SAFETY: a setting's text is NUL-terminated.
    let is_fs = unsafe { CStr::from_ptr(dict) }
        .to_bytes()
        .starts_with(b"fs:");
    // 2.3 fails an assertion there, and the process aborts. 2.4 answers that it can't.
    is_fs.then_some("mail_attribute_dict = fs: can't list")
}

/// As above: nothing does harm here.
///
/// # Safety
/// None.
#[cfg(dovecot_2_4)]
pub unsafe fn unlistable(_mailbox: *mut dc::mailbox) -> Option<&'static str> {
    None
}
