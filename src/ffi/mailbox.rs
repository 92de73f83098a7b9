//! The store's view of Dovecot: mailbox attributes, key locks, INBOX.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{null, null_mut};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::dovecot as dc;
use super::event::Event;
use super::version::unlistable;
use crate::error::{Error, Result};
use crate::store::events::Source;
use crate::store::{Access, Attributes, BY_ID, Change, Events, Guid, Host, Level, Origin, Scope};

/// How long a process waits for another one to make a key. That takes milliseconds; the rest is for a
/// slow dict.
const LOCK_TIMEOUT_SECS: u32 = 30;

/// A frame of Dovecot's data stack: what its functions return lives there until this drops.
struct Frame(dc::data_stack_frame_t);

impl Frame {
    fn new() -> Self {
        // SAFETY: a NUL-terminated marker that lives for ever.
        Frame(unsafe { dc::t_push(c"mail_crypt".as_ptr()) })
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: pushed by `new`; frames nest as their Rust scopes do.
        unsafe { dc::t_pop(&raw mut self.0) };
    }
}

/// A NUL-terminated text of Dovecot's, copied.
///
/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: NUL-terminated, by this function's contract.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::internal("a NUL byte in an attribute"))
}

/// The user of one session.
pub struct Session {
    user: *mut dc::mail_user,
    username: String,
    event: Rc<Event>,
}

impl Session {
    /// # Safety
    /// `user` lives until this is dropped or [`Session::detach`]ed.
    pub unsafe fn new(user: *mut dc::mail_user) -> Self {
        // SAFETY: a live user, by this function's contract.
        unsafe { Self::with_event(user, Event::new((*user).event)) }
    }

    /// # Safety
    /// As [`Session::new`].
    pub unsafe fn with_event(user: *mut dc::mail_user, event: Event) -> Self {
        Session {
            user,
            // SAFETY: a live user, by this function's contract.
            username: unsafe { text((*user).username) },
            event: Rc::new(event),
        }
    }

    /// Who is told what happens to the user's mail.
    pub fn origin(&self) -> Origin {
        Origin {
            source: Source::Mail,
            events: self.events(),
        }
    }

    /// Forgets the user, which is about to be freed: mailboxes may close after this.
    pub fn detach(&mut self) {
        self.user = null_mut();
        self.event.forget();
    }
}

impl Host for Session {
    fn inbox(&mut self) -> Result<Box<dyn Attributes>> {
        if self.user.is_null() {
            return Err(Error::internal("the user's session has ended"));
        }
        // SAFETY: a live user, as `new` requires; its namespaces live as long.
        let list = unsafe {
            let ns = dc::mail_namespace_find_inbox((*self.user).namespaces);
            if ns.is_null() {
                return Err(Error::store("the user has no INBOX namespace"));
            }
            (*ns).list
        };
        // Whoever may read some other folder needs the user's keys, whatever the ACL of INBOX says.
        let flags = dc::MAILBOX_FLAG_READONLY | dc::MAILBOX_FLAG_IGNORE_ACLS;
        // SAFETY: a live list and a NUL-terminated name.
        let mailbox = unsafe { dc::mailbox_alloc(list, c"INBOX".as_ptr(), flags) };
        let inbox = Mailbox {
            mailbox,
            owned: true,
            guid: None,
        };
        // SAFETY: just allocated.
        if unsafe { dc::mailbox_open(mailbox) } < 0 {
            let why = last_error(mailbox);
            return Err(Error::store(format!("INBOX can't be opened: {why}")));
        }
        Ok(Box::new(inbox))
    }

    fn warn(&mut self, text: &str) {
        self.event.warn(text);
    }

    fn debug(&self, text: &dyn Fn() -> String) {
        if self.event.wants_debug() {
            self.event.debug(&text());
        }
    }

    fn events(&self) -> Rc<dyn Events> {
        Rc::clone(&self.event) as Rc<dyn Events>
    }

    fn username(&self) -> &str {
        &self.username
    }
}

/// An open mailbox: lent by Dovecot for one call, or opened here and freed on drop.
pub struct Mailbox {
    mailbox: *mut dc::mailbox,
    owned: bool,
    /// The GUID under which its attributes are looked for, if not its own.
    guid: Option<Guid>,
}

thread_local! {
    /// The mailbox that has another GUID while its attributes are read or written.
    static ELSEWHERE: Cell<Option<(*mut dc::mailbox, Guid)>> = const { Cell::new(None) };
}

/// While this lives, a mailbox has another GUID, under which Dovecot then files its attributes.
struct Elsewhere;

impl Elsewhere {
    fn new(mailbox: *mut dc::mailbox, guid: Option<Guid>) -> Self {
        ELSEWHERE.set(guid.map(|guid| (mailbox, guid)));
        Elsewhere
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        ELSEWHERE.set(None);
    }
}

/// The GUID that `mailbox` has to pretend to have. Returns 1 and copies its 16 bytes to `guid_r`, or 0: its own.
///
/// # Safety
/// `guid_r` has room for 16 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_mailbox_guid(mailbox: *mut dc::mailbox, guid_r: *mut u8) -> c_int {
    match ELSEWHERE.get() {
        Some((elsewhere, guid)) if elsewhere == mailbox && !guid_r.is_null() => {
            // SAFETY: room for 16 bytes, by this function's contract; bytes have no alignment.
            unsafe { guid_r.cast::<Guid>().write(guid) };
            1
        }
        _ => 0,
    }
}

impl Mailbox {
    /// # Safety
    /// `mailbox` is NULL, or open and alive for as long as the result is.
    pub unsafe fn lent(mailbox: *mut dc::mailbox) -> Result<Self> {
        if mailbox.is_null() {
            return Err(Error::internal("no mailbox"));
        }
        Ok(Mailbox {
            mailbox,
            owned: false,
            guid: None,
        })
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: allocated by `Session::inbox`, freed only here.
            unsafe { dc::mailbox_free(&raw mut self.mailbox) };
        }
    }
}

fn last_error(mailbox: *mut dc::mailbox) -> String {
    let _frame = Frame::new();
    // SAFETY: both callers hold the mailbox; the text lives in the frame.
    unsafe { text(dc::mailbox_get_last_internal_error(mailbox, null_mut())) }
}

/// A failed attribute call: Dovecot's text goes to the log, never to the client.
fn failed(mailbox: *mut dc::mailbox, what: &str) -> Error {
    let why = last_error(mailbox);
    // SAFETY: as in `last_error`.
    let name = unsafe { text(dc::mailbox_get_vname(mailbox)) };
    Error::store(format!("mailbox {name}: {what} failed: {why}"))
}

fn scope_type(scope: Scope) -> dc::mail_attribute_type {
    match scope {
        Scope::Private => dc::MAIL_ATTRIBUTE_TYPE_PRIVATE,
        Scope::Shared => dc::MAIL_ATTRIBUTE_TYPE_SHARED,
    }
}

fn get(mailbox: *mut dc::mailbox, scope: Scope, name: &str) -> Result<Option<Zeroizing<String>>> {
    let key = c_string(name)?;
    let _frame = Frame::new();
    // SAFETY: plain data, for which all-zero is valid.
    let mut value: dc::mail_attribute_value = unsafe { std::mem::zeroed() };
    // SAFETY: an open mailbox, a NUL-terminated key, a valid out-pointer.
    let ret = unsafe {
        dc::mailbox_attribute_get(mailbox, scope_type(scope), key.as_ptr(), &raw mut value)
    };
    if ret < 0 {
        return Err(failed(mailbox, &format!("reading attribute {name}")));
    }
    if ret == 0 || value.value.is_null() {
        return Ok(None);
    }
    // SAFETY: NUL-terminated, on the data stack until `_frame` drops.
    let found = unsafe { CStr::from_ptr(value.value) };
    let text = std::str::from_utf8(found.to_bytes())
        .map(|t| Zeroizing::new(t.to_owned()))
        .map_err(|_| Error::corrupt(format!("attribute {name} is not text")));
    wipe(value.value, found.to_bytes().len());
    text.map(Some)
}

/// Wipes a value that Dovecot left on its data stack: it may be an unprotected key.
fn wipe(value: *const c_char, len: usize) {
    for i in 0..len {
        // SAFETY: `get`'s value has `len` bytes in writable data stack memory that nobody else
        // points to; volatile, so that it isn't optimised away.
        unsafe { value.cast_mut().add(i).write_volatile(0) };
    }
}

/// Lists all names and picks: an SQL dict may be able to list all attributes of a folder but not some of
/// them, where the last variable of a pattern stands for more than one word.
fn list(mailbox: *mut dc::mailbox, scope: Scope, prefix: &str) -> Result<Vec<String>> {
    // SAFETY: both callers hold the mailbox.
    if let Some(why) = unsafe { unlistable(mailbox) } {
        return Err(Error::store(format!("listing attributes: {why}")));
    }
    let _frame = Frame::new();
    let mut names = Vec::new();
    // SAFETY: an open mailbox and a NUL-terminated prefix; the iterator is ended below, and each
    // name is copied before the next call.
    let ret = unsafe {
        let mut iter = dc::mailbox_attribute_iter_init(mailbox, scope_type(scope), c"".as_ptr());
        loop {
            let name = dc::mailbox_attribute_iter_next(iter);
            if name.is_null() {
                break;
            }
            if let Some(name) = text(name).strip_prefix(prefix) {
                names.push(name.to_owned());
            }
        }
        dc::mailbox_attribute_iter_deinit(&raw mut iter)
    };
    if ret < 0 {
        return Err(failed(mailbox, "listing attributes"));
    }
    Ok(names)
}

/// One transaction for each tree, private attributes first: Dovecot's Redis dict has one at a time, and its
/// process fails an assertion at the second.
fn commit(mailbox: *mut dc::mailbox, guid: Option<Guid>, changes: Vec<Change>) -> Result<()> {
    for tree in [Scope::Private, Scope::Shared] {
        let mut sets = Vec::new();
        for change in &changes {
            if change.scope == tree {
                sets.push((guid, change.name.clone(), change));
            }
            match change.filed_by_id() {
                Some((scope, name)) if scope == tree => sets.push((Some(BY_ID), name, change)),
                _ => {}
            }
        }
        if !sets.is_empty() {
            commit_tree(mailbox, tree, &sets)?;
        }
    }
    Ok(())
}

fn commit_tree(
    mailbox: *mut dc::mailbox,
    tree: Scope,
    sets: &[(Option<Guid>, String, &Change)],
) -> Result<()> {
    let _frame = Frame::new();
    // SAFETY: an open mailbox and a NUL-terminated reason; ended below on every path.
    let mut t = unsafe {
        dc::mailbox_transaction_begin(
            mailbox,
            dc::MAILBOX_TRANSACTION_FLAG_EXTERNAL,
            c"mail_crypt keys".as_ptr(),
        )
    };
    for (guid, name, change) in sets {
        if let Err(e) = set(mailbox, *guid, t, tree, name, change) {
            // SAFETY: begun above, not yet ended.
            unsafe { dc::mailbox_transaction_rollback(&raw mut t) };
            return Err(e);
        }
    }
    // SAFETY: begun above, not yet ended.
    if unsafe { dc::mailbox_transaction_commit(&raw mut t) } < 0 {
        return Err(failed(mailbox, "storing keys"));
    }
    Ok(())
}

fn set(
    mailbox: *mut dc::mailbox,
    guid: Option<Guid>,
    t: *mut dc::mailbox_transaction_context,
    scope: Scope,
    name: &str,
    change: &Change,
) -> Result<()> {
    let key = c_string(name)?;
    let _elsewhere = Elsewhere::new(mailbox, guid);
    let text = match &change.value {
        Some(value) => {
            let mut bytes = Zeroizing::new(Vec::with_capacity(value.len() + 1));
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
            Some(bytes)
        }
        None => None,
    };
    // SAFETY: plain data, for which all-zero is valid.
    let mut value: dc::mail_attribute_value = unsafe { std::mem::zeroed() };
    value.value = text.as_ref().map_or(null(), |t| t.as_ptr().cast());
    // SAFETY: a running transaction; key and value are NUL-terminated and outlive the call.
    let ret =
        unsafe { dc::mailbox_attribute_set(t, scope_type(scope), key.as_ptr(), &raw const value) };
    if ret < 0 {
        let what = format!("storing attribute {name}");
        return Err(failed(mailbox, &what));
    }
    Ok(())
}

/// A lock file held; dropping unlocks and removes it.
struct KeyLock(*mut dc::file_lock);

impl Drop for KeyLock {
    fn drop(&mut self) {
        // SAFETY: from file_create_locked, freed only here.
        unsafe { dc::file_lock_free(&raw mut self.0) };
    }
}

/// One lock per mail root and level: keys are made once in a lifetime, so folders may wait for
/// each other. In the control directory, which exists even where indexes are kept in memory.
fn lock(mailbox: *mut dc::mailbox, level: Level) -> Result<Box<dyn Any>> {
    let _frame = Frame::new();
    let mut root = null();
    // SAFETY: an open mailbox; its namespace and list live as long as it does.
    let found = unsafe {
        let ns = dc::mailbox_get_namespace(mailbox);
        dc::mailbox_list_get_root_path(
            (*ns).list,
            dc::MAILBOX_LIST_PATH_TYPE_CONTROL,
            &raw mut root,
        )
    };
    if !found {
        return Err(Error::store("no directory for the key lock"));
    }
    // SAFETY: NUL-terminated, valid while the list is.
    let root = unsafe { text(root) };
    let name = match level {
        Level::User => "mail-crypt-user.lock",
        Level::Folder => "mail-crypt-folder.lock",
    };
    let path = c_string(&format!("{root}/{name}"))?;
    // SAFETY: plain data, for which all-zero means "default" (fcntl locks, mode 0600).
    let mut set: dc::file_create_settings = unsafe { std::mem::zeroed() };
    set.lock_timeout_secs = LOCK_TIMEOUT_SECS;
    let mut lock = null_mut();
    let mut created = false;
    let mut error = null();
    // SAFETY: valid pointers; the error text lives in the frame.
    let fd = unsafe {
        dc::file_create_locked(
            path.as_ptr(),
            &raw const set,
            &raw mut lock,
            &raw mut created,
            &raw mut error,
        )
    };
    if fd == -1 {
        // SAFETY: set by the failed call, on the data stack.
        let why = unsafe { text(error) };
        return Err(Error::store(format!("locking the keys failed: {why}")));
    }
    // SAFETY: just created; from here the lock owns file and descriptor.
    unsafe {
        dc::file_lock_set_close_on_free(lock, true);
        dc::file_lock_set_unlink_on_free(lock, true);
    }
    Ok(Box::new(KeyLock(lock)))
}

fn access(mailbox: *mut dc::mailbox) -> Access {
    // SAFETY: an open mailbox; its namespace and the namespace's users live as long as it does.
    let (ns_type, own) = unsafe {
        let ns = dc::mailbox_get_namespace(mailbox);
        let (user, owner) = ((*ns).user, (*ns).owner);
        let own = !owner.is_null() && text((*owner).username) == text((*user).username);
        ((*ns).type_, own)
    };
    match ns_type {
        // Users may reach their own folders through a shared namespace.
        dc::MAIL_NAMESPACE_TYPE_SHARED if own => Access::Own,
        dc::MAIL_NAMESPACE_TYPE_SHARED => Access::Shared,
        dc::MAIL_NAMESPACE_TYPE_PUBLIC => Access::Public,
        _ => Access::Own,
    }
}

impl Attributes for Mailbox {
    fn get(&mut self, scope: Scope, name: &str) -> Result<Option<Zeroizing<String>>> {
        let _elsewhere = Elsewhere::new(self.mailbox, self.guid);
        get(self.mailbox, scope, name)
    }

    fn list(&mut self, scope: Scope, prefix: &str) -> Result<Vec<String>> {
        let _elsewhere = Elsewhere::new(self.mailbox, self.guid);
        list(self.mailbox, scope, prefix)
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<()> {
        commit(self.mailbox, self.guid, changes)
    }

    fn lock(&mut self, level: Level) -> Result<Box<dyn Any>> {
        lock(self.mailbox, level)
    }

    fn mailbox(&self) -> String {
        // SAFETY: an open mailbox; the text is copied.
        unsafe { text(dc::mailbox_get_vname(self.mailbox)) }
    }

    fn access(&self) -> Access {
        access(self.mailbox)
    }

    fn under(&self, guid: &Guid) -> Box<dyn Attributes + '_> {
        Box::new(Mailbox {
            mailbox: self.mailbox,
            owned: false,
            guid: Some(*guid),
        })
    }
}
