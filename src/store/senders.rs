//! Senders that files to one key share.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use super::bounded::Bounded;
use crate::key::{KeyId, PublicKey};
use crate::stream::Sender;

/// Keys that one process writes to at a time.
const MAX_SENDERS: usize = 256;

thread_local! {
    static SENDERS: RefCell<Bounded<KeyId, Rc<RefCell<Sender>>>> =
        RefCell::new(Bounded::new(MAX_SENDERS));
}

/// One sender for everything that this process writes to `key`, whoever's session it is: a
/// public key is the same for everyone, and a delivery process has a session for each mail.
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
