//! A user's slots, as they are stored: one attribute of INBOX. What a slot is, is in [`crate::key::slot`].
#![forbid(unsafe_code)]

use super::attributes::{Attributes, BY_ID, Change, Level, Scope};
use crate::error::{Error, Result};
use crate::format::slots::{Record, Replaced, Slot, SlotType, Slots, is_name};
use crate::key::slot::now;
use crate::key::{KeyId, PublicKey};

/// How long what a password change replaced is kept, in seconds: a day.
const UNDO_SECS: u64 = 24 * 60 * 60;
/// What the slots are called that [`crate::store::settings::PasswordKdf::Argon2id`] makes.
pub const LOGIN: &str = "login";
/// What lines go by whose name can't be read.
const NO_NAME: &str = "?";

/// The user's slots; the caller changes them under the user's lock only.
///
/// They are filed under INBOX's GUID, so that doveadm sync takes them along, and by their name alone, so that they
/// survive another GUID. Those that were changed most often count.
///
/// # Errors
/// [`crate::ErrorKind::Store`]; corrupt or unsupported where none of what is stored can be read.
pub fn read(inbox: &mut dyn Attributes) -> Result<Slots> {
    let name = Level::User.slots();
    let here = inbox.get(Scope::Private, &name)?;
    let by_id = inbox.under(&BY_ID).get(Scope::Private, &name)?;
    let mut found: Option<Slots> = None;
    let mut error = None;
    for text in [here, by_id].into_iter().flatten() {
        match Slots::parse(&text) {
            Ok(slots) if found.as_ref().is_none_or(|f| f.serial < slots.serial) => {
                found = Some(slots);
            }
            Ok(_) => {}
            Err(e) => error = Some(e.context("the user's slots")),
        }
    }
    match (found, error) {
        (Some(slots), _) => Ok(slots),
        (None, None) => Ok(Slots::default()),
        (None, Some(e)) => Err(e),
    }
}

/// Stores `slots`, and reads them back: a dict that has cut them off gets the old ones again.
///
/// # Errors
/// [`crate::ErrorKind::Store`], [`crate::ErrorKind::Refused`] where there are too many.
pub fn write(inbox: &mut dyn Attributes, slots: &mut Slots) -> Result<()> {
    forget_replaced(slots, now());
    slots.serial += 1;
    let name = Level::User.slots();
    let text = slots.write()?;
    let before = inbox.get(Scope::Private, &name)?;
    inbox.commit(vec![Change::set(
        Scope::Private,
        name.clone(),
        text.clone(),
    )])?;
    if inbox.get(Scope::Private, &name)? == Some(text) {
        return Ok(());
    }
    let restore = match before {
        Some(before) => Change::set(Scope::Private, name, before),
        None => Change::unset(Scope::Private, name),
    };
    inbox.commit(vec![restore])?;
    Err(Error::store(
        "the dict does not hold the slots that were just stored in it: is there room for 64 KB?",
    ))
}

/// Drops what can't be undone any more.
pub(super) fn forget_replaced(slots: &mut Slots, now: u64) {
    let is_old = |old: &Replaced| now.saturating_sub(old.time) > UNDO_SECS;
    slots
        .records
        .retain(|record| !matches!(record, Record::Undo(old) if is_old(old)));
}

/// The slot `name`.
pub fn find<'a>(slots: &'a Slots, name: &str) -> Option<&'a Slot> {
    slots.slots().find(|slot| slot.name == name)
}

/// The slot of an escrow key.
pub fn find_escrow<'a>(slots: &'a Slots, key: &PublicKey) -> Option<&'a Slot> {
    slots.slots().find(|slot| {
        slot.slot_type == SlotType::Escrow && slot.public_key().is_ok_and(|k| k.id() == key.id())
    })
}

/// Whether the slot `name` opens the user key `id`.
pub fn opens(slots: &Slots, name: &str, id: &KeyId) -> bool {
    slots.keys_of(name).any(|key| key.id() == Some(*id))
}

/// `name`, or with a number behind it where there is such a slot already.
pub fn free_name(slots: &Slots, name: &str) -> String {
    let taken = |name: &str| {
        slots.records.iter().any(|record| match record {
            Record::Slot(slot) => slot.name == name,
            Record::Key(key) => key.slot == name,
            // Its name is all that is known of it.
            Record::Unread { line, .. } => name_of_unread(line) == name,
            Record::Undo(_) | Record::Locked(_) => false,
        })
    };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_default()
}

/// The name of what can't be read; [`NO_NAME`] where not even that can.
pub fn name_of_unread(line: &str) -> &str {
    let name = line.split(' ').nth(1).filter(|name| is_name(name));
    name.unwrap_or(NO_NAME)
}

/// Removes the slot `name`, and what it opens. Returns whether there was one.
pub fn remove(slots: &mut Slots, name: &str) -> bool {
    let before = slots.records.len();
    slots.records.retain(|record| match record {
        Record::Slot(slot) => slot.name != name,
        Record::Key(key) => key.slot != name,
        Record::Unread { line, .. } => name_of_unread(line) != name,
        Record::Undo(_) | Record::Locked(_) => true,
    });
    slots.records.len() < before
}

/// Drops all that concerns the user key `id`, which is deleted.
pub fn forget_key(slots: &mut Slots, id: &KeyId) -> bool {
    let before = slots.records.len();
    for record in &mut slots.records {
        match record {
            // One seal has to stay.
            Record::Slot(slot) if slot.seals.len() > 1 => slot.seals.retain(|seal| seal.by != id.0),
            _ => {}
        }
    }
    slots.records.retain(|record| match record {
        Record::Key(key) => key.id() != Some(*id),
        Record::Undo(old) => old.id != id.0,
        Record::Locked(locked) => *locked != id.0,
        Record::Slot(_) | Record::Unread { .. } => true,
    });
    slots.records.len() < before
}

/// Changes the slot `name`.
pub fn update(
    slots: &mut Slots,
    name: &str,
    change: impl FnOnce(&mut Slot) -> Result<()>,
) -> Result<()> {
    let slot = slots.records.iter_mut().find_map(|record| match record {
        Record::Slot(slot) if slot.name == name => Some(slot),
        _ => None,
    });
    slot.map_or(Ok(()), change)
}
