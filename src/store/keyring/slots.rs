//! User keys that a slot opens, where the password of the session is a slot's secret.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::super::attributes::{Attributes, Host};
use super::super::events::Way;
use super::super::slots;
use super::Keyring;
use super::protect::is_login;
use crate::crypto::Secret;
use crate::error::Result;
use crate::format::code;
use crate::format::slots::{Slot, Slots, Stretch};
use crate::key::{KeyId, PrivateKey};

/// The shortest secret that a slot without stretching may have, in bytes: base64 of 128 bits.
pub(in crate::store) const MIN_SECRET: usize = 22;

/// The slots that this session's secret opens.
#[derive(Default)]
pub(super) struct OpenSlots {
    /// Which state of the slots was tried.
    serial: Option<u64>,
    open: Vec<OpenSlot>,
    /// The user's keys among those that the session has: a folder's are not put under slots.
    pub user_keys: HashSet<KeyId>,
    /// Private keys that came with a command.
    pub given: Vec<PrivateKey>,
    /// The slot that was used last.
    pub used: Option<String>,
    /// What opened a user key last.
    pub way: Option<Way>,
}

struct OpenSlot {
    name: String,
    key: PrivateKey,
    way: Way,
}

impl OpenSlot {
    fn new(slot: &Slot, key: PrivateKey) -> Self {
        OpenSlot {
            name: slot.name.clone(),
            key,
            way: Way::slot(slot.slot_type, &slot.stretch),
        }
    }
}

impl OpenSlots {
    /// Forgets what was opened; what came with the command stays.
    pub(super) fn forget(&mut self) {
        self.serial = None;
        self.open.clear();
        self.user_keys.clear();
        self.used = None;
    }
}

impl Keyring {
    /// The user key `id`, where the session's secret opens a slot that has it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Store`]; what opening says where a slot is damaged.
    pub(super) fn unlock_by_slot(
        &mut self,
        id: &KeyId,
        host: &mut dyn Host,
    ) -> Result<Option<PrivateKey>> {
        if !self.has_secret() {
            return Ok(None);
        }
        let slots = self.open_slots(host.inbox()?.as_mut(), host)?;
        self.open_others(&slots, id, host);
        for OpenSlot {
            name,
            key: slot_key,
            way,
        } in &self.slots.open
        {
            for filed in slots.keys_of(name) {
                let key = match filed.open(slot_key) {
                    Ok(key) if key.matches(id) => key,
                    Ok(_) => continue,
                    Err(e) if filed.id() == Some(*id) => return Err(e),
                    Err(_) => continue,
                };
                host.debug(&|| format!("unlocked key {id} by slot {name}"));
                self.slots.used = Some(name.clone());
                self.slots.way = Some(*way);
                self.private.insert(*id, key.clone());
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Opens slots that were left out because others were open already, where those don't have the user key `id`:
    /// one secret may have several, some of them made after others were given up.
    fn open_others(&mut self, slots: &Slots, id: &KeyId, host: &dyn Host) {
        let has_it = |open: &OpenSlot| slots::opens(slots, &open.name, id);
        if self.slots.open.is_empty() || self.slots.open.iter().any(has_it) {
            return;
        }
        let mut secrets = self.secrets();
        for slot in slots.slots() {
            let is_open = self.slots.open.iter().any(|open| open.name == slot.name);
            // A code is no second password.
            let is_out = slot.stretch.is_expensive() && secrets.code.is_some();
            if is_open || is_out || !slots::opens(slots, &slot.name, id) {
                continue;
            }
            match self.open_slot(slot, &mut secrets) {
                Ok(Some(key)) => {
                    self.slots.open.push(OpenSlot::new(slot, key));
                    return;
                }
                Ok(None) => {}
                Err(e) => host.debug(&|| e.to_string()),
            }
        }
    }

    /// The private key `id` of a slot that the session's secret opens.
    ///
    /// # Errors
    /// As [`Keyring::unlock_by_slot`].
    pub(super) fn slot_private(
        &mut self,
        id: &KeyId,
        host: &mut dyn Host,
    ) -> Result<Option<PrivateKey>> {
        if !self.has_secret() {
            return Ok(None);
        }
        let slots = self.open_slots(host.inbox()?.as_mut(), host)?;
        if let Some(open) = self.slots.open.iter().find(|slot| slot.key.matches(id)) {
            return Ok(Some(open.key.clone()));
        }
        // One that was left out because another one was open already.
        let named = |slot: &&Slot| slot.public_key().is_ok_and(|key| key.matches(id));
        let Some(slot) = slots.slots().find(named) else {
            return Ok(None);
        };
        let key = self.open_slot(slot, &mut self.secrets())?;
        if let Some(key) = &key {
            self.slots.open.push(OpenSlot::new(slot, key.clone()));
        }
        Ok(key)
    }

    /// By which way the slot with this key was opened, if one was.
    pub(super) fn way_of_slot(&self, id: &KeyId) -> Option<Way> {
        let open = self.slots.open.iter().find(|open| open.key.matches(id));
        open.map(|open| open.way)
    }

    /// The names of the slots that the session's secret opens.
    ///
    /// # Errors
    /// As [`slots::read`].
    pub(in crate::store) fn opened_slots(
        &mut self,
        inbox: &mut dyn Attributes,
        host: &dyn Host,
    ) -> Result<Vec<String>> {
        self.open_slots(inbox, host)?;
        let names = self.slots.open.iter().map(|slot| slot.name.clone());
        Ok(names.collect())
    }

    /// Whether the session has something to open slots with.
    pub(in crate::store) fn has_secret(&self) -> bool {
        let secret = self.settings.password.as_ref();
        !self.slots.given.is_empty() || secret.is_some_and(|p| !p.value.is_empty())
    }

    /// Whether the session's password is a code: it can't be a password then, whose stretching would be
    /// paid for nothing.
    pub(super) fn secret_is_code(&self) -> bool {
        let secret = self.settings.password.as_ref();
        secret.is_some_and(|p| matches!(code::read(&p.value), Ok(Some(_))))
    }

    /// Opens all slots that the session's secret opens, once for each state of them.
    fn open_slots(&mut self, inbox: &mut dyn Attributes, host: &dyn Host) -> Result<Slots> {
        let slots = slots::read(inbox)?;
        if self.slots.serial == Some(slots.serial) {
            return Ok(slots);
        }
        let mut secrets = self.secrets();
        let mut open = Vec::new();
        let mut in_order: Vec<&Slot> = slots.slots().collect();
        // Those that cost nothing first.
        in_order.sort_by_key(|slot| (slot.stretch.is_expensive(), !is_login(&slot.name)));
        for slot in in_order {
            // A secret that opens another slot is no second password.
            if slot.stretch.is_expensive() && (!open.is_empty() || secrets.code.is_some()) {
                break;
            }
            match self.open_slot(slot, &mut secrets) {
                Ok(Some(key)) => open.push(OpenSlot::new(slot, key)),
                Ok(None) => {}
                Err(e) => host.debug(&|| e.to_string()),
            }
        }
        self.slots.open = open;
        self.slots.serial = Some(slots.serial);
        Ok(slots)
    }

    fn secrets(&self) -> Secrets {
        let secret = self.settings.password.as_ref();
        Secrets::new(secret.map_or(&[], |p| p.value.as_slice()))
    }

    /// The slot's private key, if one of the secrets, or of the keys that were given, opens it.
    fn open_slot(&self, slot: &Slot, secrets: &mut Secrets) -> Result<Option<PrivateKey>> {
        if slot.private.is_none() {
            let id = slot.public_key()?.id();
            let given = self.slots.given.iter().find(|key| key.matches(&id));
            return Ok(given.cloned());
        }
        for secret in secrets.for_slot(&slot.stretch)? {
            match slot.open(&secret) {
                Ok(key) => return Ok(Some(key)),
                Err(e) if e.kind() == crate::ErrorKind::WrongPassword => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}

/// One secret in all the forms in which slots may take it.
struct Secrets {
    raw: Secret,
    /// The secret of a code.
    code: Option<Secret>,
    stretched: HashMap<Stretch, Secret>,
}

impl Secrets {
    fn new(raw: &[u8]) -> Self {
        Secrets {
            raw: raw.iter().copied().collect(),
            code: code::read(raw).ok().flatten(),
            stretched: HashMap::new(),
        }
    }

    fn for_slot(&mut self, stretch: &Stretch) -> Result<Vec<Secret>> {
        if !stretch.is_expensive() {
            let raw = Some(&self.raw).filter(|raw| raw.len() >= MIN_SECRET);
            return Ok(self.code.iter().chain(raw).cloned().collect());
        }
        if self.raw.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(known) = self.stretched.get(stretch) {
            return Ok(vec![known.clone()]);
        }
        let secret = stretch.stretch(&self.raw)?;
        self.stretched.insert(stretch.clone(), secret.clone());
        Ok(vec![secret])
    }
}
