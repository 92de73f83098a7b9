//! libcrypto's implementation of an algorithm, looked up by name once per process: OpenSSL 3 spends more on
//! asking its providers than on the work for a small mail.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use openssl::cipher::CipherRef;
use openssl::md::MdRef;

use crate::error::{Error, Result};

/// What was found for one algorithm.
pub(super) struct Slot<T: ?Sized + 'static>(OnceLock<&'static T>);

impl<T: ?Sized> Slot<T> {
    pub(super) const fn new() -> Self {
        Slot(OnceLock::new())
    }

    /// The implementation. `find` is called until it finds one.
    fn get(&self, name: &str, find: impl FnOnce(&str) -> Option<&'static T>) -> Result<&'static T> {
        if let Some(found) = self.0.get() {
            return Ok(found);
        }
        let found = find(name)
            .ok_or_else(|| Error::unsupported(format!("this libcrypto has no {name}")))?;
        Ok(self.0.get_or_init(|| found))
    }
}

/// # Errors
/// Unsupported if this libcrypto has no such cipher.
pub(super) fn cipher(slot: &Slot<CipherRef>, name: &str) -> Result<&'static CipherRef> {
    slot.get(name, libcrypto::cipher)
}

/// # Errors
/// Unsupported if this libcrypto has no such digest.
pub(super) fn digest(slot: &Slot<MdRef>, name: &str) -> Result<&'static MdRef> {
    slot.get(name, libcrypto::digest)
}

/// OpenSSL 3: from a provider. What was fetched is kept for the life of the process.
#[cfg(ossl300)]
mod libcrypto {
    use openssl::cipher::{Cipher, CipherRef};
    use openssl::md::{Md, MdRef};

    pub(super) fn cipher(name: &str) -> Option<&'static CipherRef> {
        let fetched = Cipher::fetch(None, name, None).ok()?;
        Some(Box::leak(Box::new(fetched)))
    }

    pub(super) fn digest(name: &str) -> Option<&'static MdRef> {
        let fetched = Md::fetch(None, name, None).ok()?;
        Some(Box::leak(Box::new(fetched)))
    }
}

/// Before that: from its own tables.
#[cfg(not(ossl300))]
mod libcrypto {
    use openssl::asn1::Asn1Object;
    use openssl::cipher::{Cipher, CipherRef};
    use openssl::md::{Md, MdRef};
    use openssl::nid::Nid;

    fn nid(name: &str) -> Option<Nid> {
        Some(Asn1Object::from_str(name).ok()?.nid())
    }

    pub fn cipher(name: &str) -> Option<&'static CipherRef> {
        Cipher::from_nid(nid(name)?)
    }

    pub fn digest(name: &str) -> Option<&'static MdRef> {
        Md::from_nid(nid(name)?)
    }
}
