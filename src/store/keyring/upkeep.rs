//! What is due for the user's keys once they are at hand: copies for escrow, and strings that are stretched more.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Host, Level, Scope};
use super::super::events::{Change, tell};
use super::super::filing::{self, Filed};
use super::super::settings::SaveVersion;
use super::super::slots;
use super::Keyring;
use super::protect::{is_login, open_login, user_key_change, user_keys};
use crate::error::{Error, ErrorKind, Result};
use crate::format::slots::{Record, Slot, SlotType, Slots};
use crate::key::slot::SlotOpener;
use crate::key::{KeyId, PrivateKey, Protection, PublicKey, StoredKey};

/// Which slots a new user key is put under.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Extend {
    /// Those that the user's keys have sealed, and escrow.
    All,
    /// Escrow alone: the user's own keys don't open, so that nobody can say which slots are the user's.
    Escrow,
}

impl Keyring {
    /// Does what is due. The caller holds no lock. What can't be done is logged; the session goes on.
    pub(super) fn upkeep(&mut self, host: &mut dyn Host) {
        let outdated = std::mem::take(&mut self.outdated);
        if self.reads_only() {
            return;
        }
        for (id, text) in outdated {
            let done = self.upgrade(&id, &text, host);
            tell(Change::Stretched, &done, host);
            if let Err(e) = done {
                host.warn(&format!(
                    "key {id} of user {} stays under its old string: {e}",
                    host.username().to_owned()
                ));
            }
        }
        let done = self.escrow_at_hand(host);
        tell(Change::Escrowed, &done, host);
        if let Err(e) = done {
            let user = host.username().to_owned();
            host.warn(&format!("user {user}: no escrow copy is made: {e}"));
        }
    }

    fn reads_only(&self) -> bool {
        let writing = self.settings.writing();
        !writing.is_ok_and(|w| w.version != SaveVersion::ReadOnly)
    }

    /// Puts the user key `id` under the same password again, as the settings want it, if its string is still `text`.
    /// Returns whether it was.
    fn upgrade(&mut self, id: &KeyId, text: &str, host: &mut dyn Host) -> Result<bool> {
        let password = match &self.settings.password {
            Some(password) if !password.value.is_empty() => password.value.clone(),
            _ => return Ok(false),
        };
        let Some(key) = self.private.get(id).cloned() else {
            return Ok(false);
        };
        let mut inbox = host.inbox()?;
        let _lock = inbox.lock(Level::User)?;
        let name = Level::User.private(id);
        let filed = Filed::read(inbox.as_mut(), Scope::Private, &name)?;
        // Whoever changed it meanwhile has seen to it. Two texts may be two passwords.
        if !filed.texts().eq([Zeroizing::new(text.to_owned())]) {
            return Ok(false);
        }
        let new = self.under_password(inbox.as_mut(), &key, &password)?;
        // Before the old one goes.
        check_opens(inbox.as_mut(), &new, &password)?;
        inbox.commit(vec![user_key_change(id, new.clone())])?;
        if inbox.get(Scope::Private, &name)? != Some(new) {
            let old = Zeroizing::new(text.to_owned());
            inbox.commit(vec![user_key_change(id, old)])?;
            return Err(Error::store("the dict does not hold what was just stored"));
        }
        host.debug(&|| format!("key {id} of user {} is stretched anew", host.username()));
        Ok(true)
    }

    /// Makes copies for escrow of the user's keys that this session has opened. Returns whether some were missing.
    fn escrow_at_hand(&mut self, host: &mut dyn Host) -> Result<bool> {
        match self.settings.escrow() {
            Ok([]) => return Ok(false),
            Ok(_) => {}
            // Once a session.
            Err(_) if std::mem::replace(&mut self.warned_escrow, true) => return Ok(false),
            Err(e) => return Err(e),
        }
        let escrowed = &self.escrowed;
        let user_keys = self.slots.user_keys.iter();
        let new: Vec<KeyId> = user_keys
            .filter(|id| !escrowed.contains(id))
            .copied()
            .collect();
        let keys: Vec<PrivateKey> = new
            .iter()
            .filter_map(|id| self.private.get(id))
            .cloned()
            .collect();
        if keys.is_empty() {
            return Ok(false);
        }
        // Once a session, whatever comes of it.
        self.escrowed.extend(new);
        let mut inbox = host.inbox()?;
        let found = slots::read(inbox.as_mut())?;
        let escrow = self.settings.escrow()?;
        if keys.iter().all(|key| has_escrow(&found, escrow, &key.id())) {
            return Ok(false);
        }
        let _lock = inbox.lock(Level::User)?;
        let mut found = slots::read(inbox.as_mut())?;
        for key in &keys {
            add_escrow(&mut found, escrow, key)?;
        }
        slots::write(inbox.as_mut(), &mut found)?;
        host.debug(&|| {
            format!(
                "the keys of user {} have their escrow copies",
                host.username()
            )
        });
        Ok(true)
    }

    /// Puts the new user key under all slots that each of the user's keys has sealed, as far as they open, and makes the
    /// copies for escrow. The caller holds the lock, and stores the key after this.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] for an escrow key that can't be used, [`crate::ErrorKind::Store`]: the key must
    /// not be used then.
    pub(in crate::store) fn extend_slots(
        &mut self,
        inbox: &mut dyn Attributes,
        host: &mut dyn Host,
        new: &PrivateKey,
        extend: Extend,
    ) -> Result<()> {
        let escrow = self.settings.escrow()?.to_vec();
        let mut found = match slots::read(inbox) {
            Ok(found) => found,
            // A dict may have no place for slots, and need none.
            Err(e) if escrow.is_empty() && e.kind() == ErrorKind::Store => {
                host.debug(&|| e.to_string());
                return Ok(());
            }
            Err(e) if escrow.is_empty() => {
                let id = new.id();
                host.warn(&format!("the new user key {id} is put under no slot: {e}"));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        if found.records.is_empty() && escrow.is_empty() {
            return Ok(());
        }
        let mut changed = drop_never_stored(&mut found, inbox)?;
        let owners = self.owners(&found, inbox, host, new)?;
        let others = |slot: &&Slot| extend == Extend::All && !is_login(&slot.name);
        let others: Vec<Slot> = found.slots().filter(others).cloned().collect();
        for slot in others.iter().filter(|slot| !self.is_configured(slot)) {
            match extend_slot(&mut found, slot, &owners, new) {
                Ok(extended) => changed |= extended,
                Err(e) => host.warn(&format!(
                    "the new user key {} is not put under a slot: {e}",
                    new.id()
                )),
            }
        }
        for key in &escrow {
            changed |= add_escrow(&mut found, std::slice::from_ref(key), new)?;
        }
        if changed {
            slots::write(inbox, &mut found)?;
        }
        Ok(())
    }

    /// The user's keys that this session opens. One that somebody has planted is among them, and so are the user's own:
    /// all of them together say which slots are the user's.
    fn owners(
        &mut self,
        found: &Slots,
        inbox: &mut dyn Attributes,
        host: &mut dyn Host,
        new: &PrivateKey,
    ) -> Result<Vec<PrivateKey>> {
        let mut owners = Vec::new();
        for id in user_keys(inbox).unwrap_or_default() {
            let filed = Filed::read(inbox, Scope::Private, &Level::User.private(&id))?;
            match self.unlock_filed(Level::User, &id, inbox, &filed, host, 0) {
                Ok(key) if key.id() != new.id() => owners.push(key),
                Ok(_) => {}
                Err(e) => host.debug(&|| {
                    let locked = if found.is_locked(&id.0) {
                        "locked"
                    } else {
                        "not open"
                    };
                    format!("key {id} has no say in slots, since it is {locked}: {e}")
                }),
            }
        }
        Ok(owners)
    }

    /// Whether the settings say which key it is, so that no seal has to.
    fn is_configured(&self, slot: &Slot) -> bool {
        let escrow = self.settings.escrow().unwrap_or_default();
        let public = slot.public_key().map(|key| key.id());
        slot.slot_type == SlotType::Escrow
            && escrow
                .iter()
                .any(|key| public.as_ref().is_ok_and(|id| key.id() == *id))
    }
}

/// Puts the new key under `slot`, and adds its seal. Returns whether that is so now; not where no key of the user opens, so
/// that nobody can say whose slot it is.
fn extend_slot(
    found: &mut Slots,
    slot: &Slot,
    owners: &[PrivateKey],
    new: &PrivateKey,
) -> Result<bool> {
    for owner in owners {
        slot.check_seal(owner)?;
    }
    if owners.is_empty() {
        return Ok(false);
    }
    if !slots::opens(found, &slot.name, &new.id()) {
        found.records.push(Record::Key(slot.wrap(new)?));
    }
    slots::update(found, &slot.name, |slot| slot.seal(new))?;
    Ok(true)
}

/// Makes sure that `password` opens the user key's string `text`.
fn check_opens(inbox: &mut dyn Attributes, text: &str, password: &[u8]) -> Result<()> {
    let stored = StoredKey::parse(text)?;
    let opened = match stored.protection() {
        Protection::Key(by) => {
            let found = slots::read(inbox)?;
            let login = open_login(&found, &by, [password].into_iter());
            let missing = || Error::internal("the password's slot is not there");
            stored.unlock_with_key(&login.ok_or_else(missing)??)
        }
        Protection::Password | Protection::None => stored.unlock_with_password(password),
    };
    opened.map(|_| ())
}

/// Drops copies of keys that were never stored, since their maker died. The caller holds the lock. Returns whether there
/// were some.
fn drop_never_stored(found: &mut Slots, inbox: &mut dyn Attributes) -> Result<bool> {
    let mut never = Vec::new();
    for record in &found.records {
        let Record::Key(key) = record else { continue };
        let Some(id) = key.id().filter(|id| !never.contains(id)) else {
            continue;
        };
        let public = filing::public_text(Level::User, inbox, &id)?;
        let private = Filed::read(inbox, Scope::Private, &Level::User.private(&id))?;
        if public.is_none() && private.is_none() {
            never.push(id);
        }
    }
    let mut dropped = false;
    for id in &never {
        dropped |= slots::forget_key(found, id);
    }
    Ok(dropped)
}

fn has_escrow(found: &Slots, escrow: &[PublicKey], id: &KeyId) -> bool {
    escrow.iter().all(|key| {
        slots::find_escrow(found, key).is_some_and(|slot| slots::opens(found, &slot.name, id))
    })
}

/// Adds what is missing of the copies of `user_key` for `escrow`. Returns whether something was. The settings say which
/// key it is, so the slot needs no seal to be trusted.
fn add_escrow(found: &mut Slots, escrow: &[PublicKey], user_key: &PrivateKey) -> Result<bool> {
    let mut added = false;
    for key in escrow {
        let slot = match slots::find_escrow(found, key) {
            Some(slot) => slot.clone(),
            None => {
                let name = slots::free_name(found, SlotType::Escrow.name());
                let about = (name.as_str(), SlotType::Escrow, "");
                let mut slot = Slot::new(about, SlotOpener::Key(key))?;
                slot.seal(user_key)?;
                found.records.push(Record::Slot(slot.clone()));
                slot
            }
        };
        if !slots::opens(found, &slot.name, &user_key.id()) {
            found.records.push(Record::Key(slot.wrap(user_key)?));
            added = true;
        }
    }
    Ok(added)
}
