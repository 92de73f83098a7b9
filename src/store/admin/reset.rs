//! `cryptokey reset`, `reopen` and `rotate`: when a password is lost, found again, or known to others.
#![forbid(unsafe_code)]

use super::super::attributes::{Attributes, Host, Level};
use super::super::filing;
use super::super::keyring::{Extend, Keyring};
use super::super::names::Setting;
use super::super::slots;
use super::generate::check_no_slots_secret;
use super::request::{Input, Request};
use super::row::{About, Row};
use super::user_keys::{Keep, NewPassword, UserKeys, all_ids, is_under, open_key, put_under};
use super::{Generated, folder_key};
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::format::keystring::Id;
use crate::format::slots::{Record, Slot, SlotType, Slots, Stretch};
use crate::key::slot::{SlotOpener, new_code};
use crate::key::{KeyId, PrivateKey};

/// Puts the user's keys under a new password, opened by whatever was given in place of the old one. A recovery code
/// that was used is replaced, and the new one is the row.
///
/// # Errors
/// What opening the keys says: then nothing is changed.
pub(super) fn reset(
    ring: &mut Keyring,
    host: &mut dyn Host,
    request: &Request,
) -> Result<Vec<Row>> {
    let mut input = Input::read(&request.input, request.key_in_input)?;
    let key = input.take_private_key()?;
    let (opener, [new]) = input.split(["the new password"])?;
    check_no_key_above(ring)?;
    if request.abandon {
        if key.is_some() || opener.is_some() {
            return Err(Error::usage(
                "--abandon opens nothing: give the new password alone",
            ));
        }
        return abandon(ring, host, &new);
    }
    ring.give(opener.as_deref(), key);
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    let found = slots::read(inbox.as_mut())?;
    let keys = UserKeys::read(inbox.as_mut(), &found, |inbox, id| {
        open_key(ring, inbox, host, id).map_err(|e| not_opened(&e, id))
    })?;
    keys.active(host.username())?;
    let used = ring.used_slot().map(str::to_owned);
    let new_password = NewPassword::Set(&new);
    put_under(
        ring,
        inbox.as_mut(),
        host,
        &keys.open,
        new_password,
        Keep::Old,
    )?;
    let mut rows = Vec::new();
    if let Some(name) = used {
        rows.extend(replace_code(inbox.as_mut(), &keys, &name)?);
    }
    rows.push(Row::note(format!(
        "{} key(s) are under the new password",
        keys.open.len()
    )));
    rows.extend(keys.locked_note().map(Row::note));
    ring.give(Some(&new), None);
    Ok(rows)
}

/// A user key under a key of the settings has no password to forget.
fn check_no_key_above(ring: &Keyring) -> Result<()> {
    if ring.settings().user_key_keys.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Refused,
        format!(
            "{} protects the user's keys, and no password",
            ring.settings().name(Setting::UserKeyKey)
        ),
    ))
}

fn not_opened(e: &Error, id: &KeyId) -> Error {
    if e.kind() == ErrorKind::Store {
        return e.clone();
    }
    Error::new(
        e.kind(),
        format!(
            "{e}. Nothing was changed: if nothing opens key {id} any more, see reset --abandon"
        ),
    )
}

/// Puts a new code in place of the one that was used, which somebody may have seen.
fn replace_code(inbox: &mut dyn Attributes, keys: &UserKeys, name: &str) -> Result<Option<Row>> {
    let mut found = slots::read(inbox)?;
    let Some(used) = slots::find(&found, name).cloned() else {
        return Ok(None);
    };
    if used.slot_type != SlotType::Recovery {
        return Ok(None);
    }
    let (secret, text) = new_code()?;
    let about = (used.name.as_str(), used.slot_type, used.label.as_str());
    let mut slot = Slot::new(about, SlotOpener::Secret(&Stretch::None, &secret))?;
    keys.seal(&mut slot)?;
    let wrapped: Vec<_> = keys
        .open
        .iter()
        .map(|(_, key)| slot.wrap(key))
        .collect::<Result<_>>()?;
    slots::remove(&mut found, name);
    found.records.push(Record::Slot(slot));
    found.records.extend(wrapped.into_iter().map(Record::Key));
    slots::write(inbox, &mut found)?;
    Ok(Some(Row {
        cells: vec![text],
        note: Some(format!(
            "slot {name} has a new code: the one that was used opens nothing any more"
        )),
        error: None,
    }))
}

/// Makes a new user key under `new`. The keys that don't open stay, and are known to be locked from now on. Done once
/// more after an interruption, it goes on.
fn abandon(ring: &mut Keyring, host: &mut dyn Host, new: &Secret) -> Result<Vec<Row>> {
    let opens = ring.opens_own(host);
    ring.give(Some(new), None);
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    let mut found = slots::read(inbox.as_mut())?;
    let (open, locked) = partition(ring, inbox.as_mut(), host, &found)?;
    let active = filing::active(Level::User, inbox.as_mut())?;
    let is_done = active.is_some_and(|active| open.iter().any(|key| key.matches(&active.id)));
    let was_begun = locked.iter().any(|id| found.is_locked(&id.0));
    match (is_done, was_begun, opens) {
        (true, true, _) => {
            let text = "the user's key is under the new password already: folders get new keys where nothing opens theirs";
            return Ok(vec![Row::note(text.to_owned())]);
        }
        // What opens needn't be abandoned.
        (true, false, _) | (false, _, true) => {
            return Err(Error::new(
                ErrorKind::Refused,
                "the user's key opens with what is configured or given: change its password instead",
            ));
        }
        (false, _, false) => {}
    }
    let marks = locked.iter().filter(|id| !found.is_locked(&id.0));
    let marks: Vec<Record> = marks.map(|id| Record::Locked(id.0)).collect();
    if !marks.is_empty() {
        found.records.extend(marks);
        slots::write(inbox.as_mut(), &mut found)?;
    }
    let made = ring.generate_user_key(inbox.as_mut(), host, Extend::Escrow)?;
    ring.give(Some(new), None);
    Ok(vec![Row::note(format!(
        "new key {} for the user; {} key(s) stay, locked",
        made.id(),
        locked.len()
    ))])
}

/// The user's keys that open, and the names of those that don't.
fn partition(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    found: &Slots,
) -> Result<(Vec<PrivateKey>, Vec<KeyId>)> {
    let (mut open, mut locked) = (Vec::new(), Vec::new());
    for id in all_ids(inbox, found)? {
        match open_key(ring, inbox, host, &id) {
            Err(e) if e.kind() == ErrorKind::Store => return Err(e),
            Err(_) => locked.push(id),
            Ok(key) => open.push(key),
        }
    }
    Ok((open, locked))
}

/// Gives a folder a new key if nothing opens the one that it has: after [`abandon`].
///
/// # Errors
/// As [`folder_key`].
pub(super) fn renew(
    ring: &mut Keyring,
    folder: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<Option<Generated>> {
    let Some(active) = filing::active(Level::Folder, folder)? else {
        return Ok(None);
    };
    match ring.private_key(&[active.id], folder, host) {
        Ok(_) => Ok(None),
        Err(e) if e.kind() == ErrorKind::Store => Err(e),
        Err(_) => folder_key(ring, folder, host, true).map(Some),
    }
}

/// Puts locked keys that the given secret opens under today's password again.
///
/// # Errors
/// [`ErrorKind::WrongPassword`] where it opens none of them; [`ErrorKind::Refused`] where none is locked.
pub(super) fn reopen(
    ring: &mut Keyring,
    host: &mut dyn Host,
    request: &Request,
) -> Result<Vec<Row>> {
    let mut input = Input::read(&request.input, request.key_in_input)?;
    let key = input.take_private_key()?;
    let (secret, today) = old_and_today(ring, input, key.is_some())?;
    check_no_key_above(ring)?;
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    let found = slots::read(inbox.as_mut())?;
    // Today's password has to be right: the keys would be under a third one.
    ring.give(Some(&today), None);
    check_no_slots_secret(ring, inbox.as_mut(), host)?;
    let keys = UserKeys::read(inbox.as_mut(), &found, |inbox, id| {
        open_key(ring, inbox, host, id)
    })?;
    let password = NewPassword::Set(&today);
    // An interrupted reopen or import has put them there, and left the mark.
    let (under, locked) = partition_under(ring, inbox.as_mut(), &keys.locked, password)?;
    let (mut opened, _) = open_all(ring, inbox.as_mut(), host, &under);
    ring.give(secret.as_deref(), key);
    let (others, error) = open_all(ring, inbox.as_mut(), host, &locked);
    opened.extend(others);
    if opened.is_empty() {
        return Err(error.unwrap_or_else(|| {
            let text = format!("user {} has no locked key", host.username());
            Error::new(ErrorKind::Refused, text)
        }));
    }
    // Giving up may have been interrupted before there was a new one.
    if !opened.iter().any(|(_, key)| keys.is_active(key)) {
        keys.active(host.username())?;
    }
    put_under(ring, inbox.as_mut(), host, &opened, password, Keep::Nothing)?;
    unlock_marks(inbox.as_mut(), &opened)?;
    ring.give(Some(&today), None);
    Ok(opened
        .iter()
        .map(|(id, _)| {
            Row::done(
                true,
                About {
                    mailbox: "",
                    id: &id.to_string(),
                },
            )
        })
        .collect())
}

/// The secret that turned up, and today's password: on a second line, or the configured one.
fn old_and_today(ring: &Keyring, input: Input, has_key: bool) -> Result<(Option<Secret>, Secret)> {
    let mut lines = input.lines.into_iter();
    let secret = if has_key { None } else { lines.next() };
    if secret.is_none() && !has_key {
        return Err(Error::setting("there is no old secret in the input"));
    }
    let configured = || {
        let password = ring.settings().password.as_ref();
        password.map(|p| p.value.iter().copied().collect())
    };
    let today = lines
        .next()
        .or_else(configured)
        .filter(|p: &Secret| !p.is_empty());
    let today = today.ok_or_else(|| {
        Error::setting(format!(
            "today's password is needed, too: in {}, or on a second line",
            ring.settings().name(Setting::Password)
        ))
    })?;
    match lines.next() {
        Some(_) => Err(Error::setting("there are too many lines in the input")),
        None => Ok((secret, today)),
    }
}

/// Which of the keys are under the new password already, and which are not.
fn partition_under(
    ring: &Keyring,
    inbox: &mut dyn Attributes,
    ids: &[KeyId],
    new: NewPassword<'_>,
) -> Result<(Vec<KeyId>, Vec<KeyId>)> {
    let (mut under, mut others) = (Vec::new(), Vec::new());
    for id in ids {
        match is_under(ring, inbox, id, new)? {
            true => under.push(*id),
            false => others.push(*id),
        }
    }
    Ok((under, others))
}

#[allow(clippy::type_complexity)]
fn open_all(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    ids: &[KeyId],
) -> (Vec<(KeyId, PrivateKey)>, Option<Error>) {
    let mut opened = Vec::new();
    let mut error = None;
    for id in ids {
        match open_key(ring, inbox, host, id) {
            Ok(key) => opened.push((*id, key)),
            Err(e) => error = Some(e),
        }
    }
    (opened, error)
}

/// Takes the marks of the keys away. Slots stay what they are: nobody can tell whether those of these keys and those of
/// today's are the same person's.
pub(super) fn unlock_marks(
    inbox: &mut dyn Attributes,
    opened: &[(KeyId, PrivateKey)],
) -> Result<()> {
    let mut found = slots::read(inbox)?;
    let is_open = |id: &Id| opened.iter().any(|(open, _)| open.0 == *id);
    found
        .records
        .retain(|record| !matches!(record, Record::Locked(id) if is_open(id)));
    slots::write(inbox, &mut found)
}

/// Before a new user key is made: the password that was given must be the one that the keys are under, since the new
/// key will be under it.
///
/// # Errors
/// What opening the keys says; [`ErrorKind::Refused`] where a slot's secret was given.
pub(super) fn check_rotation(
    ring: &mut Keyring,
    host: &mut dyn Host,
    request: &Request,
) -> Result<()> {
    let input = Input::read(&request.input, false)?;
    let (password, []) = input.split([])?;
    if let Some(password) = password {
        ring.give(Some(&password), None);
    }
    let mut inbox = host.inbox()?;
    let found = slots::read(inbox.as_mut()).unwrap_or_default();
    let keys = UserKeys::read(inbox.as_mut(), &found, |inbox, id| {
        open_key(ring, inbox, host, id)
    })?;
    keys.active(host.username())?;
    check_no_slots_secret(ring, inbox.as_mut(), host)
}
