//! The commands of `doveadm mailbox cryptokey`: the exports.
//!
//! A command takes steps: [`mcrs_admin_next_step`] says which folders the next one is about, and
//! [`mcrs_admin_do`] does it in each of them. They produce rows, which [`mcrs_admin_next_row`] hands out;
//! where a step fails, the earlier rows still hold.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{null, null_mut};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::boundary::{Handle, Opaque, bytes, entry, free, mcrs_error, opaque, put};
use super::dovecot::mailbox;
use super::mailbox::{Mailbox, Session};
use super::sharing::key_made;
use super::user::{User, mcrs_user};
use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::store::admin::{self, Command, Folders, Layout, Request, Row, Step, Task, Verb};
use crate::store::{Attributes, Host, Level, in_use};

/// `cryptokey generate`
pub const MCRS_ADMIN_GENERATE: c_int = 0;
/// `cryptokey list`
pub const MCRS_ADMIN_LIST: c_int = 1;
/// `cryptokey export`
pub const MCRS_ADMIN_EXPORT: c_int = 2;
/// `cryptokey password`
pub const MCRS_ADMIN_PASSWORD: c_int = 3;
/// `cryptokey import`
pub const MCRS_ADMIN_IMPORT: c_int = 4;
/// `cryptokey delete`
pub const MCRS_ADMIN_DELETE: c_int = 5;

/// `cryptokey slot list`
pub const MCRS_ADMIN_SLOT_LIST: c_int = 6;
/// `cryptokey slot add`
pub const MCRS_ADMIN_SLOT_ADD: c_int = 7;
/// `cryptokey slot remove`
pub const MCRS_ADMIN_SLOT_REMOVE: c_int = 8;
/// `cryptokey slot test`
pub const MCRS_ADMIN_SLOT_TEST: c_int = 9;
/// `cryptokey reset`
pub const MCRS_ADMIN_RESET: c_int = 10;
/// `cryptokey reopen`
pub const MCRS_ADMIN_REOPEN: c_int = 11;
/// `cryptokey rotate`
pub const MCRS_ADMIN_ROTATE: c_int = 12;

/// A command with its parameters. Texts may be NULL.
#[repr(C)]
pub struct mcrs_admin_request {
    /// `MCRS_ADMIN_*`
    pub verb: c_int,
    /// It is about the user's own keys.
    pub user_key: bool,
    /// Folder keys are put under the active user key.
    pub rekey: bool,
    /// Does even what would be refused.
    pub force: bool,
    /// One of the masks stands for all folders.
    pub all: bool,
    /// rotate: folders get new keys, too.
    pub folders: bool,
    /// reset: without opening anything.
    pub abandon: bool,
    /// list: what needs older keys.
    pub needed: bool,
    /// password: back to the last one.
    pub undo: bool,
    /// password: the old strings are not kept.
    pub no_undo: bool,
    /// password: as the packaged plugin can open it.
    pub compat: bool,
    /// password: to none.
    pub clear: bool,
    /// slot add: the secret is given.
    pub given: bool,
    /// A key comes first in the input.
    pub key_in_input: bool,
    /// slot add: its type.
    pub slot_type: *const c_char,
    /// A slot's name.
    pub slot: *const c_char,
    /// slot add: its label.
    pub label: *const c_char,
    /// The keys to delete, with NULL at their end; NULL: none.
    pub key_ids: *const *const c_char,
    /// password: the old one; NULL: the configured one.
    pub old_password: *const c_char,
    /// password: the new one.
    pub new_password: *const c_char,
    /// Standard input: the key to import, or secrets, one a line.
    pub input: *const u8,
    /// Its size.
    pub input_size: usize,
}

/// A table.
pub const MCRS_LAYOUT_TABLE: c_int = 0;
/// A line for each column.
pub const MCRS_LAYOUT_PAGER: c_int = 1;
/// The values alone.
pub const MCRS_LAYOUT_VALUES: c_int = 2;

/// A column of what a command shows; the texts live for ever.
#[repr(C)]
pub struct mcrs_admin_column {
    /// What programs know it by.
    pub key: *const c_char,
    /// What people see.
    pub title: *const c_char,
}

/// None: the user's own keys. The mailbox is NULL then.
pub const MCRS_FOLDERS_USER_KEYS: c_int = 0;
/// The folder that was named.
pub const MCRS_FOLDERS_NAMED: c_int = 1;
/// The user's own folders that the masks match.
pub const MCRS_FOLDERS_MASKS: c_int = 2;
/// All of the user's own folders.
pub const MCRS_FOLDERS_OWN: c_int = 3;
/// All folders that the user can see, whoever owns them.
pub const MCRS_FOLDERS_ALL: c_int = 4;

/// One step of a command.
#[repr(C)]
pub struct mcrs_admin_step {
    /// The folders in which it is done: `MCRS_FOLDERS_*`
    pub folders: c_int,
    /// It looks at all mails, with `mcrs_admin_check_mail` in place of `mcrs_admin_do`.
    pub mails: bool,
}

/// One row; the texts are lent until the next call.
#[repr(C)]
pub struct mcrs_admin_row {
    /// A text for each column, or none at all; NULL at their end.
    pub cells: *const *const c_char,
    /// What the administrator should know besides; NULL: nothing.
    pub note: *const c_char,
    /// What went wrong with this row; NULL: nothing.
    pub error: *const c_char,
}

/// A row's texts, NUL-terminated.
#[derive(Default)]
pub(super) struct Lent {
    /// What `pointers` points to.
    _cells: Vec<Zeroizing<Vec<u8>>>,
    pointers: Vec<*const c_char>,
    note: Option<CString>,
    error: Option<CString>,
}

/// One command, for one user.
pub struct Admin {
    user: Rc<RefCell<User>>,
    command: Command,
    lent: Lent,
}

/// One command of the administrator, for one user.
pub struct mcrs_admin(Handle<Admin>);

opaque!(mcrs_admin, Admin);

/// Begins a command. Returns 0 and sets `admin_r`, or -1.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `request` is valid, its texts are NULL or NUL-terminated, its input has
/// `input_size` bytes; `admin_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_new(
    user: *mut mcrs_user,
    request: *const mcrs_admin_request,
    admin_r: *mut *mut mcrs_admin,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        let checked = user.try_borrow().map_err(|_| in_use())?;
        checked.ring.settings().check()?;
        // SAFETY: valid, by this function's contract.
        let request = unsafe { request.as_ref() };
        let request = request.ok_or_else(|| Error::internal("no command"))?;
        let admin = Admin {
            user: Rc::clone(user),
            // SAFETY: as the contract says.
            command: Command::new(unsafe { taken(request) }?),
            lent: Lent::default(),
        };
        // SAFETY: valid, by the contract.
        unsafe { put(admin_r, mcrs_admin::give(admin)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// # Safety
/// As `mcrs_admin_new`.
unsafe fn taken(request: &mcrs_admin_request) -> Result<Request> {
    let mut key_ids = Vec::new();
    let mut next = request.key_ids;
    // SAFETY: NULL, or ended by NULL, by this function's contract.
    while !next.is_null() && !unsafe { *next }.is_null() {
        // SAFETY: NUL-terminated, by the contract; the one after it exists.
        unsafe {
            key_ids.push(CStr::from_ptr(*next).to_string_lossy().into_owned());
            next = next.add(1);
        }
    }
    // SAFETY: NULL or NUL-terminated, readable for the length of this call, by the contract.
    let (slot_type, slot, label, old, new, input) = unsafe {
        (
            text(request.slot_type),
            text(request.slot),
            text(request.label),
            secret(request.old_password),
            secret(request.new_password),
            bytes(request.input, request.input_size),
        )
    };
    Ok(Request {
        verb: Some(verb(request.verb)?),
        user_key: request.user_key,
        rekey: request.rekey,
        force: request.force,
        all: request.all,
        folders: request.folders,
        abandon: request.abandon,
        needed: request.needed,
        undo: request.undo,
        no_undo: request.no_undo,
        compat: request.compat,
        clear: request.clear,
        given: request.given,
        key_in_input: request.key_in_input,
        slot_type,
        slot,
        label,
        key_ids,
        old,
        new,
        input: input.iter().copied().collect(),
    })
}

fn verb(verb: c_int) -> Result<Verb> {
    match verb {
        MCRS_ADMIN_GENERATE => Ok(Verb::Generate),
        MCRS_ADMIN_LIST => Ok(Verb::List),
        MCRS_ADMIN_EXPORT => Ok(Verb::Export),
        MCRS_ADMIN_PASSWORD => Ok(Verb::Password),
        MCRS_ADMIN_IMPORT => Ok(Verb::Import),
        MCRS_ADMIN_DELETE => Ok(Verb::Delete),
        MCRS_ADMIN_SLOT_LIST => Ok(Verb::SlotList),
        MCRS_ADMIN_SLOT_ADD => Ok(Verb::SlotAdd),
        MCRS_ADMIN_SLOT_REMOVE => Ok(Verb::SlotRemove),
        MCRS_ADMIN_SLOT_TEST => Ok(Verb::SlotTest),
        MCRS_ADMIN_RESET => Ok(Verb::Reset),
        MCRS_ADMIN_REOPEN => Ok(Verb::Reopen),
        MCRS_ADMIN_ROTATE => Ok(Verb::Rotate),
        _ => Err(Error::internal("no such command")),
    }
}

/// How the rows of a command are laid out: `MCRS_LAYOUT_*`.
#[unsafe(no_mangle)]
pub extern "C" fn mcrs_admin_layout(command: c_int) -> c_int {
    match verb(command).map(|verb| admin::columns(verb).0) {
        Ok(Layout::Pager) => MCRS_LAYOUT_PAGER,
        Ok(Layout::Values) => MCRS_LAYOUT_VALUES,
        Ok(Layout::Table) | Err(_) => MCRS_LAYOUT_TABLE,
    }
}

/// Says what the column with this number, counted from 0, is. Returns 1, or 0 where there are fewer.
///
/// # Safety
/// `column_r` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_column(
    command: c_int,
    number: usize,
    column_r: *mut mcrs_admin_column,
) -> c_int {
    let columns = verb(command).map_or(&[][..], |verb| admin::columns(verb).1);
    let Some(column) = columns.get(number) else {
        return 0;
    };
    let column = mcrs_admin_column {
        key: column.key.as_ptr(),
        title: column.title.as_ptr(),
    };
    // SAFETY: valid, by this function's contract.
    unsafe { put(column_r, column) }.map_or(0, |()| 1)
}

/// Says what the next step is; `failed`: the last one failed in one of its folders. Returns 1, 0 where
/// the command has come to its end, or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`; `step_r` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_next_step(
    admin: *mut mcrs_admin,
    failed: bool,
    step_r: *mut mcrs_admin_step,
) -> c_int {
    let next = |admin: &mut Admin| {
        let Some(Step { task, folders }) = admin.command.next_step(failed) else {
            return Ok(0);
        };
        let step = mcrs_admin_step {
            folders: match folders {
                Folders::UserKeys => MCRS_FOLDERS_USER_KEYS,
                Folders::Named => MCRS_FOLDERS_NAMED,
                Folders::Masks => MCRS_FOLDERS_MASKS,
                Folders::Own => MCRS_FOLDERS_OWN,
                Folders::All => MCRS_FOLDERS_ALL,
            },
            mails: task == Task::CheckMails,
        };
        // SAFETY: valid, by this function's contract.
        unsafe { put(step_r, step) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(admin, null_mut(), next) }
}

/// Does the step in one of its folders. Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_do(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    let mut to_share = None;
    let perform = |admin: &mut Admin, level, at: &mut dyn Attributes| {
        let mut user = admin.user.try_borrow_mut().map_err(|_| in_use())?;
        let User { ring, session } = &mut *user;
        admin.command.perform(ring, level, at, session)?;
        to_share = admin.command.take_to_share();
        Ok(())
    };
    // SAFETY: as this function's contract says.
    unsafe {
        let ret = on_keys(admin, mailbox, error, perform);
        let Some(key) = to_share.filter(|_| ret == 0) else {
            return ret;
        };
        // Not in the closure: the sharing module calls back in, with the same user.
        let shared = key_made(mailbox);
        on_keys(admin, mailbox, error, |admin, _, at| {
            admin.command.check_shared(key, shared, at)
        })
    }
}

/// Looks at the next bytes of a mail as it is stored; `first`: its first ones. Returns 1: more
/// are needed, 0: it doesn't need the chosen key, -1: it does, or that can't be told.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `data` has `size` bytes, `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_check_mail(
    admin: *mut mcrs_admin,
    uid: u32,
    first: bool,
    data: *const u8,
    size: usize,
    error: *mut mcrs_error,
) -> c_int {
    let check = |admin: &mut Admin| {
        // SAFETY: readable for the length of this call, by this function's contract.
        let data = unsafe { bytes(data, size) };
        admin.command.check_mail(uid, first, data).map(c_int::from)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(admin, error, check) }
}

/// Hands out the next row. Returns 1, 0 where there is none, or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`; `row_r` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_next_row(
    admin: *mut mcrs_admin,
    row_r: *mut mcrs_admin_row,
) -> c_int {
    let next = |admin: &mut Admin| {
        let Some(row) = admin.command.next_row() else {
            return Ok(0);
        };
        admin.lent = Lent::new(&row);
        // SAFETY: valid, by this function's contract.
        unsafe { put(row_r, admin.lent.row()) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(admin, null_mut(), next) }
}

/// Ends the command and clears the pointer.
///
/// # Safety
/// `admin` is valid, and `*admin` NULL or from `mcrs_admin_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_free(admin: *mut *mut mcrs_admin) {
    // SAFETY: as this function's contract says.
    unsafe { free(admin) };
}

/// Runs `f` on the keys at `mailbox`: a folder's, or with NULL the user's own.
///
/// # Safety
/// `admin` is NULL or from `mcrs_admin_new`; `mailbox` is NULL or open; `error` is NULL or valid.
unsafe fn on_keys(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
    f: impl FnOnce(&mut Admin, Level, &mut dyn Attributes) -> Result<()>,
) -> c_int {
    let run = |admin: &mut Admin| {
        if mailbox.is_null() {
            let mut user = admin.user.try_borrow_mut().map_err(|_| in_use())?;
            let mut inbox = Session::inbox(&mut user.session)?;
            drop(user);
            f(admin, Level::User, inbox.as_mut())?;
        } else {
            // SAFETY: open for the length of this call, by this function's contract.
            let mut folder = unsafe { Mailbox::lent(mailbox) }?;
            f(admin, Level::Folder, &mut folder)?;
        }
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(admin, error, run) }
}

/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn secret(text: *const c_char) -> Option<Secret> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as this function's contract says.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_bytes().iter().copied().collect())
}

/// # Safety
/// As `secret`.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as this function's contract says.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

impl Lent {
    pub(super) fn row(&self) -> mcrs_admin_row {
        mcrs_admin_row {
            cells: self.pointers.as_ptr(),
            note: self.note.as_ref().map_or(null(), |note| note.as_ptr()),
            error: self.error.as_ref().map_or(null(), |error| error.as_ptr()),
        }
    }

    pub(super) fn new(row: &Row) -> Self {
        let text = |text: &String| CString::new(text.as_str()).unwrap_or_default();
        let cells: Vec<_> = row.cells.iter().map(|cell| ended(cell)).collect();
        let pointers = cells.iter().map(|cell| cell.as_ptr().cast());
        Lent {
            pointers: pointers.chain([null()]).collect(),
            _cells: cells,
            note: row.note.as_ref().map(text),
            error: row.error.as_ref().map(text),
        }
    }
}

/// With a NUL at its end, and no other copy of what may be a secret.
fn ended(text: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}
