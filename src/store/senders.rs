//! Public keys, and the senders to them, that all sessions of a process share: a public key is the same
//! for everyone, and a delivery process has a session for each mail.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use super::bounded::Bounded;
use crate::error::Result;
use crate::key::{KeyId, PublicKey};
use crate::stream::Sender;

/// Keys that one process writes to at a time.
const MAX_SENDERS: usize = 256;

thread_local! {
    static SENDERS: RefCell<Bounded<KeyId, Rc<RefCell<Sender>>>> =
        RefCell::new(Bounded::new(MAX_SENDERS));
    static PARSED: RefCell<Bounded<String, PublicKey>> = RefCell::new(Bounded::new(MAX_SENDERS));
}

/// The public key that `text` is. To parse it is to find a point on a curve, which costs a good part of what
/// it takes to deliver a small mail.
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

/// One sender for everything that this process writes to `key`, whoever's session it is.
pub fn sender(key: PublicKey) -> Rc<RefCell<Sender>> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn a_text_is_the_same_key_each_time_and_another_text_another() {
        let [one, two] = [(); 2].map(|()| PrivateKey::generate("prime256v1").unwrap().public());
        for key in [&one, &two, &one] {
            assert_eq!(public_key(&key.to_dovecot()).unwrap().id(), key.id());
        }
        assert!(public_key("2:").is_err());
    }
}
