//! The fs drivers' keys, and readers and writers with them.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::boundary::{Handle, Opaque, entry, entry_new, free, mcrs_error, opaque, put};
use super::dovecot::event;
use super::event::Event;
use super::reader::{mcrs_file, mcrs_reader};
use super::version::LINE;
use super::writer::mcrs_writer;
use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::key::{KeyId, PrivateKey};
use crate::store::events::Source;
use crate::store::fs_keys::FsKeys;
use crate::store::fs_params::FsParams;
use crate::store::settings::Value;
use crate::store::{
    Attributes, Events, KeySource, Memory, Origin, Reader, Writer, in_use, senders,
};
use crate::stream::{Encryptor, Version};

/// Looks a setting up. Returns 1 and sets `value_r` to its value, 0 where it isn't set, or -1 and sets
/// `value_r` to why that can't be told. What `value_r` is set to is copied at once.
///
/// Before the keys are read, each time, `name` is NULL: then the settings are read as they are now, and 0 or
/// -1 is returned.
pub type mcrs_fs_setting_fn = unsafe extern "C" fn(
    context: *mut c_void,
    name: *const c_char,
    value_r: *mut *const c_char,
) -> c_int;

/// Secrets that one fs remembers: its files come from any number of processes.
const MAX_SECRETS: usize = 1024;

/// One fs: its keys and what it has read with them.
pub struct Fs {
    keys: FsKeys,
    settings: Settings,
    memory: Memory,
    event: Rc<Event>,
}

/// Dovecot's settings, for as long as the fs lives.
struct Settings {
    ask: Option<(mcrs_fs_setting_fn, *mut c_void)>,
}

/// One fs. Readers and writers may outlive it: they share what is inside.
pub struct mcrs_fs(Handle<Rc<RefCell<Fs>>>);

opaque!(mcrs_fs, Rc<RefCell<Fs>>);

/// Parses the parameters of an fs driver, up to its parent's, which begin at byte `parent_r` of
/// `args`. With NULL there are none: all is in the settings, as Dovecot 2.4 has it. No key is read
/// yet. What happens to its files goes through a child of `event`. Returns 0 and sets `fs_r`, or -1.
///
/// # Safety
/// `event` is NULL or valid; `args` is NULL or NUL-terminated; `setting` can be called with `context` until `mcrs_fs_free`;
/// the other pointers are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_fs_new(
    event: *mut event,
    args: *const c_char,
    setting: mcrs_fs_setting_fn,
    context: *mut c_void,
    fs_r: *mut *mut mcrs_fs,
    parent_r: *mut usize,
    error: *mut mcrs_error,
) -> c_int {
    let make = || {
        let (keys, parent) = if args.is_null() {
            (FsKeys::of_settings(LINE), 0)
        } else {
            // SAFETY: NUL-terminated, by this function's contract.
            let args = unsafe { CStr::from_ptr(args) };
            let args = args.to_str();
            let args = args.map_err(|_| Error::setting("the parameters are not UTF-8"))?;
            let (params, parent) = FsParams::parse(args)?;
            (FsKeys::new(params), parent)
        };
        let fs = Rc::new(RefCell::new(Fs {
            keys,
            settings: Settings {
                ask: Some((setting, context)),
            },
            memory: Memory::new(MAX_SECRETS),
            // SAFETY: valid, by the contract.
            event: Rc::new(unsafe { Event::new(event) }),
        }));
        // SAFETY: valid, by the contract.
        unsafe {
            put(parent_r, parent)?;
            put(fs_r, mcrs_fs::give(fs))?;
        }
        Ok(0)
    };
    // SAFETY: `error` is valid, by the contract.
    unsafe { entry_new(error, make) }
}

/// Makes a reader for `file`. The keys are read when they are needed. Returns 0 and sets `reader_r`, or -1.
///
/// # Safety
/// `fs` is from `mcrs_fs_new`; `reader_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_fs_reader_new(
    fs: *mut mcrs_fs,
    file: mcrs_file,
    reader_r: *mut *mut mcrs_reader,
    error: *mut mcrs_error,
) -> c_int {
    let make = |fs: &mut Rc<RefCell<Fs>>| {
        let keys = Rc::clone(fs);
        let reader = Reader::new(keys, file.into());
        // SAFETY: valid, by this function's contract.
        unsafe { put(reader_r, mcrs_reader::give(reader)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(fs, error, make) }
}

/// Makes a writer for a file. Returns 0 and sets `writer_r`, to NULL if the administrator says that
/// nothing is encrypted; or -1: the file must then not be written.
///
/// # Safety
/// `fs` is from `mcrs_fs_new`; `writer_r` and `error` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_fs_writer_new(
    fs: *mut mcrs_fs,
    writer_r: *mut *mut mcrs_writer,
    error: *mut mcrs_error,
) -> c_int {
    let make = |fs: &mut Rc<RefCell<Fs>>| {
        let mut fs = fs.try_borrow_mut().map_err(|_| in_use())?;
        let origin = fs.origin();
        let Fs { keys, settings, .. } = &mut *fs;
        let Some(algorithm) = keys.algorithm(&mut settings.reading())? else {
            // SAFETY: valid, by this function's contract.
            unsafe { put(writer_r, std::ptr::null_mut()) }?;
            return Ok(0);
        };
        let public = keys.public_key(&mut settings.reading())?;
        let sender = senders::sender(public);
        let mut sender = sender.try_borrow_mut().map_err(|_| in_use())?;
        let encryptor = Encryptor::new(&algorithm, Version::V2, &mut sender)?;
        let writer = Writer::encrypting(encryptor, origin);
        // SAFETY: valid, by this function's contract.
        unsafe { put(writer_r, mcrs_writer::give(writer)) }?;
        Ok(0)
    };
    // SAFETY: as this function's contract says.
    unsafe { entry(fs, error, make) }
}

/// Frees the fs and clears the pointer. Its readers and writers stay valid, and fail where they
/// would need the settings.
///
/// # Safety
/// `fs` is valid, and `*fs` NULL or from `mcrs_fs_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcrs_fs_free(fs: *mut *mut mcrs_fs) {
    let detach = |fs: &mut Rc<RefCell<Fs>>| {
        if let Ok(mut fs) = fs.try_borrow_mut() {
            fs.settings.ask = None;
            fs.event.forget();
        }
        Ok(0)
    };
    // SAFETY: as this function's contract says; no error text is wanted.
    unsafe {
        if !fs.is_null() && !(*fs).is_null() {
            entry(*fs, std::ptr::null_mut(), detach);
        }
        free(fs);
    }
}

impl KeySource for Fs {
    fn private_key(
        &mut self,
        ids: &[KeyId],
        _folder: Option<&mut dyn Attributes>,
    ) -> Result<PrivateKey> {
        self.keys.private_key(ids, &mut self.settings.reading())
    }

    fn origin(&self) -> Origin {
        Origin {
            source: Source::Fs,
            events: Rc::clone(&self.event) as Rc<dyn Events>,
        }
    }

    fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    fn cache_secret(&mut self, _key: &PrivateKey) -> Result<Option<Secret>> {
        Ok(None)
    }
}

impl Settings {
    /// A look-up for one reading of the keys.
    fn reading(&self) -> impl FnMut(&str) -> Result<Option<Value>> {
        let ask = self.ask;
        let mut begun = false;
        move |name: &str| {
            let (ask, context) = ask.ok_or_else(|| Error::internal("the fs is closed"))?;
            if !begun {
                answer(ask, context, None)?;
                begun = true;
            }
            answer(ask, context, Some(name))
        }
    }
}

fn answer(
    ask: mcrs_fs_setting_fn,
    context: *mut c_void,
    name: Option<&str>,
) -> Result<Option<Value>> {
    let name = name.map(CString::new).transpose();
    let name = name.map_err(|_| Error::setting("a NUL byte in set_prefix="))?;
    let name = name.as_ref().map_or(std::ptr::null(), |n| n.as_ptr());
    let mut value = std::ptr::null();
    // SAFETY: as `mcrs_fs_new` demands: callable until `mcrs_fs_free`, which takes it away.
    let ret = unsafe { ask(context, name, &raw mut value) };
    let value = if value.is_null() {
        None
    } else {
        // SAFETY: NUL-terminated, by the callback's contract; copied before the next call.
        let text = unsafe { CStr::from_ptr(value) };
        Some(Zeroizing::new(text.to_bytes().to_vec()))
    };
    match ret {
        1 => Ok(value),
        0 => Ok(None),
        _ => Err(Error::store(value.map_or_else(String::new, |v| {
            String::from_utf8_lossy(&v).into_owned()
        }))),
    }
}
