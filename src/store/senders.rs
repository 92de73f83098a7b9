//! Public keys, and the senders to them, that all sessions of a process share: a public key is the same
//! for everyone, and a delivery process has a session for each mail.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::bounded::Bounded;
use crate::error::Result;
use crate::key::{KeyId, PublicKey};
use crate::stream::Sender;

/// Keys that one process writes to at a time.
const MAX_SENDERS: usize = 256;
/// How often writing a mail looks for ephemeral keys that are too old, those to other keys included.
const LOOK: Duration = Duration::from_secs(60);

thread_local! {
    static SENDERS: RefCell<Bounded<KeyId, Rc<RefCell<Sender>>>> =
        RefCell::new(Bounded::new(MAX_SENDERS));
    static PARSED: RefCell<Bounded<String, PublicKey>> = RefCell::new(Bounded::new(MAX_SENDERS));
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Parses the public key in `text`. That takes finding a point on a curve, a good part of the cost of
/// delivering a small mail, so each is only parsed once.
///
/// # Errors
/// As [`PublicKey::parse`].
pub fn public_key(text: &str) -> Result<PublicKey> {
    PARSED.with_borrow_mut(|parsed| {
        if let Some(key) = parsed.get(text) {
            return Ok(key.clone());
        }
        let key = PublicKey::parse(text)?;
        parsed.insert(text.to_owned(), key.clone());
        Ok(key)
    })
}

/// The one sender for everything that this process writes to `key`, in whatever session.
pub fn sender(key: PublicKey) -> Rc<RefCell<Sender>> {
    if LOOKED.get().is_none_or(|then| then.elapsed() >= LOOK) {
        expire();
    }
    SENDERS.with_borrow_mut(|senders| {
        let id = key.id();
        if let Some(sender) = senders.get(&id) {
            return Rc::clone(sender);
        }
        let sender = Rc::new(RefCell::new(Sender::new(key)));
        senders.insert(id, Rc::clone(&sender));
        sender
    })
}

/// Forgets the ephemeral keys that are too old. Returns when to look again; `None` where none is left.
pub fn expire() -> Option<Duration> {
    LOOKED.set(Some(Instant::now()));
    SENDERS.with_borrow(|senders| {
        // One that is borrowed is being written with: it is new enough.
        let borrowed = senders.values().filter_map(|s| s.try_borrow_mut().ok());
        borrowed.filter_map(|mut sender| sender.expire()).min()
    })
}

/// Forgets everything. To be called before libcrypto cleans up: thread-locals would be freed after it.
pub fn forget() {
    SENDERS.with_borrow_mut(Bounded::clear);
    PARSED.with_borrow_mut(Bounded::clear);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::key::PrivateKey;
    use crate::stream::{Algorithm, Encryptor, Version};

    fn write(sender: &mut Sender) {
        Encryptor::new(&Algorithm::default(), Version::V2, sender).unwrap();
    }

    fn public() -> PublicKey {
        PrivateKey::generate("prime256v1").unwrap().public()
    }

    #[test]
    fn an_old_ephemeral_key_is_forgotten_though_nobody_writes_to_its_owner_again() {
        let (old, new) = (public(), public());
        let sender_to_old = sender(old.clone());
        // Too old with the next tick; others live for an hour.
        let short = Sender::new(old).with_max_age(Duration::from_nanos(1));
        *sender_to_old.borrow_mut() = short;
        write(&mut sender_to_old.borrow_mut());
        assert!(expire().is_none());
        assert!(!sender_to_old.borrow().has_ephemeral());

        let sender_to_new = sender(new);
        write(&mut sender_to_new.borrow_mut());
        write(&mut sender_to_old.borrow_mut());
        let left = expire().unwrap();
        assert!(left > Duration::from_secs(3000) && left <= Duration::from_secs(3600));
        assert!(sender_to_new.borrow().has_ephemeral());
        assert!(!sender_to_old.borrow().has_ephemeral());

        // Somebody else's mail is enough.
        write(&mut sender_to_old.borrow_mut());
        LOOKED.set(None);
        sender(public());
        assert!(!sender_to_old.borrow().has_ephemeral());
        assert!(sender_to_new.borrow().has_ephemeral());
    }

    #[test]
    fn what_is_forgotten_is_made_anew() {
        let key = public();
        let first = sender(key.clone());
        write(&mut first.borrow_mut());
        forget();
        assert!(expire().is_none());
        assert!(!Rc::ptr_eq(&first, &sender(key)));
    }

    #[test]
    fn a_text_is_the_same_key_each_time_and_another_text_another() {
        let [one, two] = [(); 2].map(|()| PrivateKey::generate("prime256v1").unwrap().public());
        for key in [&one, &two, &one] {
            assert_eq!(public_key(&key.to_dovecot()).unwrap().id(), key.id());
        }
        assert!(public_key("2:").is_err());
    }
}
