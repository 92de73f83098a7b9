//! A user's session: settings and keys.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::boundary::{Handle, Opaque, bytes, entry, entry_new, free, mcrs_error, opaque, put};
use super::dovecot::{event, mail_user, mailbox};
use super::event::Event;
use super::mailbox::{Mailbox, Session};
use super::version::LINE;
use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::key::trees::TreesKey;
use crate::key::{KeyId, PrivateKey};
use crate::store::carry::carry;
use crate::store::{Attributes, Guid, KeySource, Keyring, Memory, Origin, Settings, in_use};

/// Looks a setting up by its 2.3 name; NULL where it isn't set. The text is copied at once. What else is
/// asked for under 2.4 stands in `crypt-settings.c`.
pub type mcrs_setting_fn =
    unsafe extern "C" fn(context: *mut c_void, name: *const c_char) -> *const c_char;

/// The keyring and the session it asks; shared by the handles of one user.
pub struct User {
    /// The user's keys.
    pub ring: Keyring,
    /// Whom the keyring asks.
    pub session: Session,
}

impl KeySource for User {
    fn private_key(
        &mut self,
        ids: &[KeyId],
        folder: Option<&mut dyn Attributes>,
    ) -> Result<PrivateKey> {
        let folder = folder.ok_or_else(|| Error::internal("no mailbox to look for keys in"))?;
        let key = self.ring.private_key(ids, folder, &mut self.session);
        self.ring.settle(folder, &mut self.session);
        key
    }

    fn trees_key(&mut self) -> Result<TreesKey> {
        self.ring.trees_key(&mut self.session)
    }

    fn opens_own(&mut self) -> bool {
        self.ring.opens_own(&mut self.session)
    }

    fn origin(&self) -> Origin {
        self.session.origin()
    }

    fn memory(&mut self) -> &mut Memory {
        &mut self.ring.memory
    }

    fn cache_secret(&mut self, key: &PrivateKey) -> Result<Option<Secret>> {
        self.ring.cache_secret(key).map(Some)
    }
}

/// A user's session. Readers and writers may outlive it: they share what is inside.
pub struct mcrs_user(Handle<Rc<RefCell<User>>>);

opaque!(mcrs_user, Rc<RefCell<User>>);

/// Reads the settings of `user` and makes the session. A setting that can't be used is an error where it is
/// needed: of everything that is done with this user, or only of writing. What is logged about the user goes
/// through `event`.
///
/// Returns 0 and sets `user_r`, or -1: the user must then not be served.
///
/// # Safety
/// `user` lives until `mcrs_user_free`; `event` is valid; `lookup` answers NULL or NUL-terminated texts; `user_r`
/// and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_user_new(
    user: *mut mail_user,
    event: *mut event,
    lookup: mcrs_setting_fn,
    context: *mut c_void,
    user_r: *mut *mut mcrs_user,
    error: *mut mcrs_error,
) -> c_int {
    let make = || {
        let load = Settings::load(LINE, &mut |name| {
            let name = CString::new(name).ok()?;
            // SAFETY: as this function's contract says; the answer is copied before the next call.
            let value = unsafe { lookup(context, name.as_ptr()) };
            if value.is_null() {
                return None;
            }
            // SAFETY: NUL-terminated, by the contract.
            let value = unsafe { CStr::from_ptr(value) };
            Some(Zeroizing::new(value.to_bytes().to_vec()))
        });
        let settings = load.unwrap_or_else(|e| Settings::unusable(LINE, e));
        if user.is_null() {
            return Err(Error::internal("no user"));
        }
        let user = Rc::new(RefCell::new(User {
            ring: Keyring::new(settings),
            // SAFETY: alive until `mcrs_user_free`, which detaches.
            session: unsafe { Session::with_event(user, Event::of(event)) },
        }));
        // SAFETY: valid, by the contract.
        unsafe { put(user_r, mcrs_user::give(user)) }?;
        Ok(0)
    };
    // SAFETY: `error` is valid, by the contract.
    unsafe { entry_new(error, make) }
}

/// Whether the settings can be used at all. Returns 0, or -1: a user with mailboxes must then not be
/// served.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_user_check(user: *mut mcrs_user, error: *mut mcrs_error) -> c_int {
    let check = |user: &mut Rc<RefCell<User>>| {
        let user = user.try_borrow().map_err(|_| in_use())?;
        user.ring.settings().check()?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, check) }
}

/// Ends the session and clears the pointer. Its readers and writers stay valid, and fail where
/// they would need the user.
///
/// # Safety
/// `user` is valid, and `*user` NULL or from `mcrs_user_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_user_free(user: *mut *mut mcrs_user) {
    let detach = |user: &mut Rc<RefCell<User>>| {
        if let Ok(mut user) = user.try_borrow_mut() {
            user.session.detach();
        }
        Ok(0)
    };
    // SAFETY: as this function's contract says; no error text is wanted.
    unsafe {
        if !user.is_null() && !(*user).is_null() {
            entry(*user, std::ptr::null_mut(), detach);
        }
        free(user);
    }
}

/// Files the keys of `mailbox`, whose GUID is about to become the 16 bytes at `guid`, under that as well.
///
/// Returns 0, or -1: the GUID must then not change.
///
/// # Safety
/// `user` is from `mcrs_user_new`; `mailbox` is open; `guid` has 16 bytes; `error` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_user_carry_keys(
    user: *mut mcrs_user,
    mailbox: *mut mailbox,
    guid: *const u8,
    error: *mut mcrs_error,
) -> c_int {
    let run = |user: &mut Rc<RefCell<User>>| {
        let mut user = user.try_borrow_mut().map_err(|_| in_use())?;
        // SAFETY: readable for the length of this call, by this function's contract.
        let guid = unsafe { bytes(guid, size_of::<Guid>()) };
        let guid = guid.try_into().map_err(|_| Error::internal("no GUID"))?;
        // SAFETY: open for the length of this call, by the contract.
        let mut mailbox = unsafe { Mailbox::lent(mailbox) }?;
        carry(&mut mailbox, guid, &mut user.session)?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(user, error, run) }
}
