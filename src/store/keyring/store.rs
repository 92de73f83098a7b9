//! Storing keys, so that no mail is encrypted to one that was not stored.
//!
//! Dovecot's file dict changes its memory before it writes, and doesn't change it back when writing fails: from
//! then on it answers this session with keys that nobody else will ever see. Such keys are stored again before
//! they are used, and then the dict writes all that it remembers.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Change, Level, Scope};
use super::Keyring;
use crate::error::Result;
use crate::key::{KeyId, PublicKey};

/// A key that is to be active.
pub(super) struct NewKey {
    pub level: Level,
    pub id: KeyId,
    pub public: PublicKey,
    /// Its private half's text, if it is not stored yet.
    pub private: Option<Zeroizing<String>>,
}

impl NewKey {
    /// Whether it was stored after all, and then put under something else: a database may have done what it was asked
    /// to without being able to say so.
    fn was_changed(&self, at: &mut dyn Attributes) -> Result<bool> {
        let there = at.get(Scope::Private, &self.level.private(&self.id))?;
        Ok(there.is_some_and(|there| self.private.as_ref().is_some_and(|text| *text != there)))
    }

    /// The private key first: some dicts apply a transaction in parts, and a private key without the rest is taken up
    /// later, where a public one alone would lose mail.
    fn commit(&self, at: &mut dyn Attributes) -> Result<()> {
        if let Some(text) = &self.private {
            let name = self.level.private(&self.id);
            at.commit(vec![Change::set(Scope::Private, name, text.clone())])?;
        }
        activate(self.level, at, &self.id, &self.public)
    }
}

impl Keyring {
    /// Stores `new` and makes it active. The caller holds the lock.
    pub(super) fn store(&mut self, at: &mut dyn Attributes, new: NewKey) -> Result<()> {
        let done = new.commit(at);
        if done.is_err() {
            self.unstored.insert(new.id, new);
        }
        done
    }

    /// Stores the key `id` again if it is one that could not be stored in this session.
    ///
    /// # Errors
    /// The key must not be used.
    pub(super) fn store_again(&mut self, id: &KeyId, at: &mut dyn Attributes) -> Result<()> {
        match self.take_unstored(id, at)? {
            Some(new) => self.store(at, new),
            None => Ok(()),
        }
    }

    /// What is to be stored again of the key `id`, if anything.
    ///
    /// # Errors
    /// As [`Keyring::store_again`].
    pub(super) fn take_unstored(
        &mut self,
        id: &KeyId,
        at: &mut dyn Attributes,
    ) -> Result<Option<NewKey>> {
        let Some(new) = self.unstored.get(id) else {
            return Ok(None);
        };
        let changed = new.was_changed(at)?;
        Ok(self.unstored.remove(id).filter(|_| !changed))
    }
}

/// Makes the public key `id` known.
pub(in crate::store) fn publish(
    level: Level,
    at: &mut dyn Attributes,
    id: &KeyId,
    public: &PublicKey,
) -> Result<()> {
    at.commit(vec![public_change(level, id, public)])
}

/// Makes the public key `id` known and active.
pub(in crate::store) fn activate(
    level: Level,
    at: &mut dyn Attributes,
    id: &KeyId,
    public: &PublicKey,
) -> Result<()> {
    let text = Zeroizing::new(id.to_string());
    let active = Change::set(Scope::Shared, level.active(), text);
    match level {
        Level::Folder => at.commit(vec![public_change(level, id, public), active]),
        // The user's active key is also filed as a private attribute, and a dict that applies a transaction in
        // parts stores those first.
        Level::User => {
            publish(level, at, id, public)?;
            at.commit(vec![active])
        }
    }
}

fn public_change(level: Level, id: &KeyId, public: &PublicKey) -> Change {
    let text = Zeroizing::new(public.to_dovecot());
    Change::set(Scope::Shared, level.public(id), text)
}
