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
use crate::error::{Error, Result};
use crate::store::admin::{self, Command, Folders, NewPassword, Request, Row, Step, Task, Verb};
use crate::store::{Attributes, Host, Level, in_use};

/// `cryptokey generate`
pub const MCRS_ADMIN_GENERATE: c_int = 0;
/// `cryptokey list`
pub const MCRS_ADMIN_LIST: c_int = 1;
/// `cryptokey export`
pub const MCRS_ADMIN_EXPORT: c_int = 2;
/// `cryptokey password`, which takes no steps: it is `mcrs_admin_password`.
pub const MCRS_ADMIN_PASSWORD: c_int = 3;
/// `cryptokey import`
pub const MCRS_ADMIN_IMPORT: c_int = 4;
/// `cryptokey delete`
pub const MCRS_ADMIN_DELETE: c_int = 5;

/// A command with its parameters.
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
    /// The keys to delete, with NULL at their end; NULL: none.
    pub key_ids: *const *const c_char,
    /// The key to import: PEM or a key string.
    pub key: *const u8,
    /// Its size.
    pub key_size: usize,
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

/// One key; the texts are lent until the next call.
#[repr(C)]
pub struct mcrs_key_row {
    /// The mailbox's name; empty for the user's own key.
    pub mailbox: *const c_char,
    /// The key's id, or where there is none what went wrong.
    pub id: *const c_char,
    /// Its PEM, where it was asked for, or why it can't be had.
    pub text: *const c_char,
    /// What the administrator should know besides; NULL: nothing.
    pub note: *const c_char,
    /// It was done.
    pub ok: bool,
    /// New data is encrypted to it.
    pub active: bool,
}

/// A row's texts, NUL-terminated.
#[derive(Default)]
struct Lent {
    mailbox: CString,
    id: CString,
    text: Zeroizing<Vec<u8>>,
    note: Option<CString>,
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
/// `user` is from `mcrs_user_new`; `request` is valid, its ids are NUL-terminated, its key has
/// `key_size` bytes; `admin_r` and `error` are valid.
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
    Ok(Request {
        verb: verb(request.verb)?,
        user_key: request.user_key,
        rekey: request.rekey,
        force: request.force,
        all: request.all,
        key_ids,
        // SAFETY: readable, by the contract.
        key: Zeroizing::new(unsafe { bytes(request.key, request.key_size) }.to_vec()),
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
        _ => Err(Error::internal("no such command")),
    }
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
    row_r: *mut mcrs_key_row,
) -> c_int {
    let next = |admin: &mut Admin| {
        let Some(row) = admin.command.next_row() else {
            return Ok(0);
        };
        admin.lent = Lent::new(&row);
        let lent = &admin.lent;
        let row = mcrs_key_row {
            mailbox: lent.mailbox.as_ptr(),
            id: lent.id.as_ptr(),
            text: lent.text.as_ptr().cast(),
            note: lent.note.as_ref().map_or(null(), |note| note.as_ptr()),
            ok: row.ok,
            active: row.active,
        };
        // SAFETY: valid, by this function's contract.
        unsafe { put(row_r, row) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(admin, null_mut(), next) }
}

/// Puts all keys of the user under the new password, or none of them; with `clear` under no password.
/// `old` NULL means the configured password. Returns the number of keys, or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`; `old` and `new_password` are NULL or NUL-terminated; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_password(
    admin: *mut mcrs_admin,
    old: *const c_char,
    new_password: *const c_char,
    clear: bool,
    error: *mut mcrs_error,
) -> c_int {
    let change = |admin: &mut Admin| {
        // SAFETY: NULL or NUL-terminated, by this function's contract.
        let (old, new) = unsafe { (password(old), password(new_password)) };
        let new = match (new, clear) {
            (Some(new), false) => NewPassword::Set(new),
            (None, true) => NewPassword::Clear,
            _ => return Err(Error::setting("either a new password or none")),
        };
        let mut user = admin.user.try_borrow_mut().map_err(|_| in_use())?;
        let User { ring, session } = &mut *user;
        let count = admin::password(ring, session, old, new)?;
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(admin, error, change) }
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
/// `text` is NULL or NUL-terminated, and stays as it is for `'a`.
unsafe fn password<'a>(text: *const c_char) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as this function's contract says.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}

impl Lent {
    fn new(row: &Row) -> Self {
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let mut pem = Zeroizing::new(Vec::with_capacity(row.text.len() + 1));
        pem.extend_from_slice(row.text.as_bytes());
        pem.push(0);
        Lent {
            mailbox: text(&row.mailbox),
            id: text(&row.id),
            text: pem,
            note: row.note.as_deref().map(text),
        }
    }
}
