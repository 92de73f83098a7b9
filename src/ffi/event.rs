//! The core's lines in Dovecot's log, and its events for Dovecot's stats process.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;

use super::dovecot as dc;
use crate::store::events::{Events, Field, Happened, Name, Word};

/// Where a line comes from, as Dovecot's filters know it.
const SOURCE: &CStr = c"mail-crypt-core";

/// What all lines begin with.
const PREFIX: &CStr = c"mail_crypt: ";

/// What all events belong to.
struct Category(UnsafeCell<dc::event_category>);

// SAFETY: Dovecot's processes have one thread; it notes there that it knows the category.
unsafe impl Sync for Category {}

static CATEGORY: Category = Category(UnsafeCell::new(dc::event_category {
    parent: null_mut(),
    internal: null_mut(),
    name: c"mail-crypt".as_ptr(),
}));

/// The event that everything about one user, or one fs, goes through.
pub struct Event {
    event: Cell<*mut dc::event>,
    /// Children to ask Dovecot's filters with.
    prepared: RefCell<Vec<Prepared>>,
}

/// An event that is like what has happened, but for the number. It is never sent, since making one for each mail that
/// nobody wants to count would cost more than reading it again does.
struct Prepared {
    like: Happened,
    event: *mut dc::event,
}

/// So many different things happen in a session, if nobody plays tricks.
const MAX_PREPARED: usize = 16;

impl Event {
    /// A child of `parent`.
    ///
    /// # Safety
    /// `parent` is an event.
    pub unsafe fn new(parent: *mut dc::event) -> Self {
        // SAFETY: the parent is valid, by this function's contract, and the new event holds on to it; texts
        // are NUL-terminated, and the category lives as long as the module.
        unsafe {
            let event = dc::event_create(parent, SOURCE.as_ptr(), 0);
            dc::event_set_append_log_prefix(event, PREFIX.as_ptr());
            dc::event_add_category(event, CATEGORY.0.get());
            Event::holding(event)
        }
    }

    /// # Safety
    /// `event` is an event.
    pub unsafe fn of(event: *mut dc::event) -> Self {
        // SAFETY: valid, by this function's contract; `forget` lets go of it. The category lives as long as
        // the module.
        unsafe {
            dc::event_add_category(event, CATEGORY.0.get());
            Event::holding(dc::event_ref(event))
        }
    }

    fn holding(event: *mut dc::event) -> Self {
        Event {
            event: Cell::new(event),
            prepared: RefCell::default(),
        }
    }

    /// Lets go of the event: its parent is about to be freed.
    pub fn forget(&self) {
        self.prepared.take();
        let mut event = self.event.replace(null_mut());
        if !event.is_null() {
            // SAFETY: made by `new` or `of`; nobody else has this reference.
            unsafe { dc::event_unref(&raw mut event) };
        }
    }

    fn get(&self) -> Option<*mut dc::event> {
        Some(self.event.get()).filter(|event| !event.is_null())
    }

    /// Whether debug lines are asked for. Dovecot remembers the answer.
    pub fn wants_debug(&self) -> bool {
        // SAFETY: made by `new` or `of`, not yet let go of.
        self.get().is_some_and(|event| unsafe { is_wanted(event) })
    }

    /// Logs a debug line.
    pub fn debug(&self, text: &str) {
        self.log(dc::LOG_TYPE_DEBUG, text);
    }

    /// Logs a warning.
    pub fn warn(&self, text: &str) {
        if self.get().is_none() {
            warn(text);
        } else {
            self.log(dc::LOG_TYPE_WARNING, text);
        }
    }

    fn log(&self, level: dc::log_type, text: &str) {
        if let Some(event) = self.get() {
            // SAFETY: as in `wants_debug`.
            unsafe { log(event, level, text) };
        }
    }
}

impl Events for Event {
    fn emit(&self, happened: Happened) {
        let Some(parent) = self.get() else { return };
        let Ok(mut prepared) = self.prepared.try_borrow_mut() else {
            return;
        };
        if prepared.len() >= MAX_PREPARED {
            prepared.clear();
        }
        let known = prepared
            .iter()
            .position(|known| known.like.is_like(&happened));
        let known = known.unwrap_or_else(|| {
            // SAFETY: as in `wants_debug`.
            prepared.push(unsafe { Prepared::new(parent, &happened) });
            prepared.len() - 1
        });
        if prepared[known].is_wanted(&happened) {
            // SAFETY: as in `wants_debug`.
            unsafe { Prepared::new(parent, &happened) }.send(&happened);
        }
    }
}

impl Prepared {
    /// # Safety
    /// `parent` is an event.
    unsafe fn new(parent: *mut dc::event, happened: &Happened) -> Self {
        // SAFETY: the parent is valid, by this function's contract, and the new event holds on to it. Texts are
        // NUL-terminated, and Dovecot copies them.
        let event = unsafe {
            let event = dc::event_create(parent, SOURCE.as_ptr(), 0);
            dc::event_set_name(event, name(happened.name).as_ptr());
            for (field, word) in happened.fields() {
                with(&word.to_string(), |word| {
                    dc::event_add_str(event, key(field).as_ptr(), word);
                });
            }
            event
        };
        let like = *happened;
        Prepared { like, event }
    }

    fn is_wanted(&self, happened: &Happened) -> bool {
        self.set_bytes(happened);
        // SAFETY: made by `new`.
        unsafe { is_wanted(self.event) }
    }

    fn set_bytes(&self, happened: &Happened) {
        if let Some(bytes) = happened.bytes {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            // SAFETY: made by `new`; the name is NUL-terminated.
            unsafe { dc::event_add_int(self.event, c"bytes".as_ptr(), bytes) };
        }
    }

    fn send(self, happened: &Happened) {
        self.set_bytes(happened);
        // SAFETY: made by `new`.
        unsafe { log(self.event, dc::LOG_TYPE_DEBUG, &text(happened)) };
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: made by `new`; nobody else has it. It may have been sent.
        unsafe {
            dc::event_send_abort(self.event);
            dc::event_unref(&raw mut self.event);
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.forget();
    }
}

/// # Safety
/// `event` is an event.
unsafe fn is_wanted(event: *mut dc::event) -> bool {
    // SAFETY: as this function's contract says.
    unsafe { dc::event_want_level(event, dc::LOG_TYPE_DEBUG, SOURCE.as_ptr(), 0) }
}

/// # Safety
/// `event` is an event.
unsafe fn log(event: *mut dc::event, level: dc::log_type, text: &str) {
    with(text, |text| {
        // SAFETY: an event, by this function's contract; a literal format with one string.
        unsafe { dc::e_log(event, level, SOURCE.as_ptr(), 0, c"%s".as_ptr(), text) };
    });
}

fn name(name: Name) -> &'static CStr {
    match name {
        Name::Decrypt => c"mail_crypt_decrypt_finished",
        Name::Plaintext => c"mail_crypt_plaintext_finished",
        Name::Encrypt => c"mail_crypt_encrypt_finished",
        Name::Unlock => c"mail_crypt_unlock_finished",
        Name::KeyCreated => c"mail_crypt_key_created_finished",
        Name::KeyChanged => c"mail_crypt_key_changed_finished",
    }
}

fn key(field: Field) -> &'static CStr {
    match field {
        Field::Source => c"source",
        Field::Format => c"format",
        Field::Algorithm => c"algorithm",
        Field::SlotType => c"slot_type",
        Field::Kdf => c"kdf",
        Field::Level => c"level",
        Field::Protected => c"protected",
        Field::Change => c"change",
        Field::ErrorCode => c"error_code",
    }
}

/// The event in a line of the log: all that is in it.
fn text(happened: &Happened) -> String {
    let field = |(field, word): (Field, Word)| format!("{}={word}", key(field).to_string_lossy());
    let mut words: Vec<String> = happened.fields().map(field).collect();
    words.extend(happened.bytes.map(|bytes| format!("bytes={bytes}")));
    let name = name(happened.name).to_string_lossy();
    format!("{name}: {}", words.join(" "))
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
