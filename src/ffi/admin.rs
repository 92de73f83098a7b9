//! What `doveadm mailbox cryptokey` asks for, one call per folder.
//!
//! A call answers rows, which [`mcrs_admin_next`] hands out one by one; where it fails, the rows
//! so far still hold. The mailbox NULL is INBOX, for the user's own keys.

mod delete;

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::boundary::{Handle, Opaque, bytes, entry, free, mcrs_error, opaque, put};
use super::dovecot::mailbox;
use super::mailbox::{Mailbox, Session};
use super::sharing::key_made;
use super::user::{User, mcrs_user};
use crate::error::{Error, Result};
use crate::key::{KeyId, PublicKey};
use crate::store::admin::{self, Doomed, NewPassword};
use crate::store::{Attributes, Host, Level, Scope, in_use};
use crate::stream::Opener;

pub use delete::*;

/// One key; the texts are lent until the next call.
#[repr(C)]
pub struct mcrs_key_row {
    /// The mailbox's name; empty for the user's own key.
    pub mailbox: *const c_char,
    /// The key's id.
    pub id: *const c_char,
    /// Its PEM, where it was asked for, or why it can't be had.
    pub text: *const c_char,
    /// It was done.
    pub ok: bool,
    /// New data is encrypted to it.
    pub active: bool,
    /// It was not there before.
    pub fresh: bool,
}

#[derive(Default)]
struct Row {
    mailbox: CString,
    id: CString,
    /// NUL-terminated.
    text: Zeroizing<Vec<u8>>,
    ok: bool,
    active: bool,
    fresh: bool,
}

/// One command, for one user.
pub struct Admin {
    user: Rc<RefCell<User>>,
    rows: VecDeque<Row>,
    lent: Row,
    /// Folder keys that were listed.
    listed: HashSet<KeyId>,
    /// Under which folder keys are put.
    target: Option<PublicKey>,
    /// The folder keys that a new user key was checked against.
    left: HashSet<KeyId>,
    doomed: Option<Doomed>,
    scan: Opener,
}

/// One command of the administrator, for one user.
pub struct mcrs_admin(Handle<Admin>);

opaque!(mcrs_admin, Admin);

/// Begins a command. Returns 0 and sets `admin_r`, or -1.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `admin_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_new(
    user: *mut mcrs_user,
    admin_r: *mut *mut mcrs_admin,
    error: *mut mcrs_error,
) -> c_int {
    let make = |user: &mut Rc<RefCell<User>>| {
        let settings = user
            .try_borrow()
            .map_err(|_| in_use())?
            .ring
            .settings()
            .check();
        settings?;
        let admin = Admin {
            user: Rc::clone(user),
            rows: VecDeque::new(),
            lent: Row::default(),
            listed: HashSet::new(),
            target: None,
            left: HashSet::new(),
            doomed: None,
            scan: Opener::default(),
        };
        // SAFETY: valid, by this function's contract.
        unsafe { put(admin_r, mcrs_admin::give(admin)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, make) }
}

/// Hands out the next row. Returns 1, 0 where there is none, or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`; `row_r` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_next(
    admin: *mut mcrs_admin,
    row_r: *mut mcrs_key_row,
) -> c_int {
    let next = |admin: &mut Admin| {
        let Some(row) = admin.rows.pop_front() else {
            return Ok(0);
        };
        admin.lent = row;
        let row = &admin.lent;
        let lent = mcrs_key_row {
            mailbox: row.mailbox.as_ptr(),
            id: row.id.as_ptr(),
            text: row.text.as_ptr().cast(),
            ok: row.ok,
            active: row.active,
            fresh: row.fresh,
        };
        // SAFETY: valid, by this function's contract.
        unsafe { put(row_r, lent) }?;
        Ok(1)
    };
    // SAFETY: as this function's contract says; there is nothing to say about an error.
    unsafe { entry(admin, null_mut(), next) }
}

/// Makes a key where there is none, with `force` in any case, and sees to it that those with whom
/// the folder is shared have its keys. One row: the active key. Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_generate(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    force: bool,
    error: *mut mcrs_error,
) -> c_int {
    let mut fresh = false;
    let generate = |admin: &mut Admin, user: &mut User, level, at: &mut dyn Attributes| {
        let User { ring, session } = user;
        let made = match level {
            Level::User => admin::user_key(ring, session, force),
            Level::Folder => admin::folder_key(ring, at, session, force),
        }?;
        fresh = made.fresh;
        let mut row = row_of(level, at, &made.id.to_string());
        (row.active, row.fresh) = (true, made.fresh);
        admin.rows.push_back(row);
        Ok(())
    };
    // SAFETY: as this function's contract says.
    unsafe {
        let ret = on_keys(admin, mailbox, error, generate);
        if ret < 0 {
            return ret;
        }
        share(admin, mailbox, fresh, error)
    }
}

/// Sees to it that the keys, one of which may be `fresh`, are with those with whom the folder is
/// shared. Who had no key when that began may have one now. Returns 0 or -1.
///
/// # Safety
/// As `mcrs_admin_generate`.
unsafe fn share(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    fresh: bool,
    error: *mut mcrs_error,
) -> c_int {
    if mailbox.is_null() {
        return 0;
    }
    // SAFETY: open, by this function's contract.
    let shared = unsafe { key_made(mailbox) };
    if shared == Some(true) || (shared.is_none() && !fresh) {
        return 0;
    }
    let judge = |_: &mut Admin, _: &mut User, level: Level, at: &mut dyn Attributes| {
        let others = at.list(Scope::Shared, &level.private_prefix())?;
        match shared {
            None if others.is_empty() => Ok(()),
            None => Err(Error::store(
                "the new key is not shared with those who have the older ones: mail_crypt_acl is \
                 not loaded",
            )),
            Some(_) => Err(Error::store("its keys are not shared as its ACL says")),
        }
    };
    // SAFETY: as this function's contract says.
    unsafe { on_keys(admin, mailbox, error, judge) }
}

/// Sees to it that a new user key leaves no key of the folder behind, with NULL none of those that no folder
/// has; `rekey`: they are to be put under it. Counts what was looked at so far in `count_r`. Returns 0, or
/// -1: no new user key may be made.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `count_r` and `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_check_new_user_key(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    rekey: bool,
    count_r: *mut usize,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, user, level, at| {
            let User { ring, session } = user;
            let found = match level {
                Level::Folder => admin::check_new_user_key(ring, at, session, rekey),
                Level::User => admin::check_without_folder(ring, at, session, rekey),
            }?;
            admin.left.extend(found);
            put(count_r, admin.left.len())
        })
    }
}

/// Puts the folder's keys under the active user key, with NULL those that no folder has. One row for each.
/// Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_rekey(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, user, level, at| {
            let User { ring, session } = user;
            let target = match &admin.target {
                Some(key) => key.clone(),
                None => admin::rekey_target(ring, session)?,
            };
            admin.target = Some(target.clone());
            if level == Level::User {
                for id in admin::rekey_without_folder(ring, at, session, &target)? {
                    admin.rows.push_back(row_without_folder(&id.to_string()));
                }
                return Ok(());
            }
            for id in admin::rekey_folder(ring, at, session, &target)? {
                admin.rows.push_back(row_of(level, at, &id.to_string()));
            }
            Ok(())
        })
    }
}

/// Lists the keys there. One row for each. Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_list(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, _, level, at| {
            for key in admin::list(level, at)? {
                let mut row = row_of(level, at, &key.name);
                row.active = key.active;
                admin.rows.push_back(row);
                admin.listed.extend(key.name.parse::<KeyId>());
            }
            Ok(())
        })
    }
}

/// Lists the user's folder keys that were in none of the folders that were listed: all of them, it is hoped. One row for
/// each. Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_list_without_folder(
    admin: *mut mcrs_admin,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, null_mut(), error, |admin, _, _, inbox| {
            for key in admin::list_without_folder(inbox, &admin.listed)? {
                admin.rows.push_back(row_without_folder(&key.name));
            }
            Ok(())
        })
    }
}

/// Unlocks the keys there. One row for each, with its PEM or what is wrong. Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `error` valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_export(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        on_keys(admin, mailbox, error, |admin, user, level, at| {
            let User { ring, session } = user;
            for key in admin::list(level, at)? {
                let mut row = row_of(level, at, &key.name);
                row.active = key.active;
                match admin::export(ring, level, at, session, &key.name) {
                    Ok(pem) => row.text = terminated(pem.as_bytes()),
                    Err(e) => {
                        row.ok = false;
                        row.text = terminated(e.to_string().as_bytes());
                    }
                }
                admin.rows.push_back(row);
            }
            Ok(())
        })
    }
}

/// Puts all keys of the user under the new password, or none of them; `clear`: under none.
/// `old` NULL means the configured password. Returns the number of keys, or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`; `old` and `new` are NULL or NUL-terminated; `error` is valid.
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

/// Stores a private key that stands in `data`: PEM or a key string. One row. Returns 0 or -1.
///
/// # Safety
/// `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `data` has `size` bytes, `error` is
/// valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_admin_import(
    admin: *mut mcrs_admin,
    mailbox: *mut mailbox,
    data: *const u8,
    size: usize,
    force: bool,
    error: *mut mcrs_error,
) -> c_int {
    // SAFETY: as this function's contract says.
    unsafe {
        let ret = on_keys(admin, mailbox, error, |admin, user, level, at| {
            let User { ring, session } = user;
            // SAFETY: readable for the length of this call, by the contract.
            let text = std::str::from_utf8(bytes(data, size))
                .map_err(|_| Error::corrupt("the key to import is not text"))?;
            let imported = admin::import(ring, level, at, session, text, force)?;
            let mut row = row_of(level, at, &imported.id.to_string());
            row.active = imported.active;
            admin.rows.push_back(row);
            Ok(())
        });
        if ret < 0 {
            return ret;
        }
        share(admin, mailbox, true, error)
    }
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
    f: impl FnOnce(&mut Admin, &mut User, Level, &mut dyn Attributes) -> Result<()>,
) -> c_int {
    let run = |admin: &mut Admin| {
        let user = Rc::clone(&admin.user);
        let mut user = user.try_borrow_mut().map_err(|_| in_use())?;
        if mailbox.is_null() {
            let mut inbox = Session::inbox(&mut user.session)?;
            let done = f(admin, &mut user, Level::User, inbox.as_mut());
            settle(&mut user, inbox.as_mut());
            done?;
        } else {
            // SAFETY: open for the length of this call, by this function's contract.
            let mut folder = unsafe { Mailbox::lent(mailbox) }?;
            let done = f(admin, &mut user, Level::Folder, &mut folder);
            settle(&mut user, &mut folder);
            done?;
        }
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(admin, error, run) }
}

fn settle(user: &mut User, at: &mut dyn Attributes) {
    let User { ring, session } = user;
    ring.settle(at, session);
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

/// A folder key that is only found by its id.
fn row_without_folder(id: &str) -> Row {
    Row {
        mailbox: c"<no folder>".to_owned(),
        id: CString::new(id).unwrap_or_default(),
        text: terminated(b""),
        ok: true,
        active: false,
        fresh: false,
    }
}

fn row_of(level: Level, at: &dyn Attributes, id: &str) -> Row {
    let mailbox = match level {
        Level::User => String::new(),
        Level::Folder => at.mailbox(),
    };
    Row {
        mailbox: CString::new(mailbox).unwrap_or_default(),
        id: CString::new(id).unwrap_or_default(),
        text: terminated(b""),
        ok: true,
        active: false,
        fresh: false,
    }
}

fn terminated(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    out.extend_from_slice(text);
    out.push(0);
    out
}
