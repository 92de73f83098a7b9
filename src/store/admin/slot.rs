//! `cryptokey slot ..`: what opens the user's keys besides the password.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::{Attributes, Host, Level, Scope};
use super::super::filing::{self, Filed};
use super::super::keyring::{Keyring, MIN_SECRET, is_login, user_keys};
use super::super::names::Setting;
use super::super::settings::PasswordKdf;
use super::super::slots;
use super::request::{Input, Request};
use super::row::{About, Row};
use super::user_keys::{UserKeys, open_key};
use crate::crypto::{Secret, date};
use crate::error::{Error, ErrorKind, Result};
use crate::format::code;
use crate::format::slots::{
    MAX_LABEL, MAX_NAME, Record, Slot, SlotType, Slots, Stretch, is_label, is_name,
};
use crate::key::slot::{SlotOpener, new_code};
use crate::key::{KeyId, Protection, PublicKey, StoredKey};

/// What a new slot is opened with.
enum Opens {
    Secret(Stretch, Secret),
    Key(PublicKey),
}

/// Adds a slot for all keys of the user that aren't locked. A secret that was made is the row.
///
/// # Errors
/// [`ErrorKind::Usage`]; what opening the keys says; [`ErrorKind::Store`].
pub(super) fn add(ring: &mut Keyring, host: &mut dyn Host, request: &Request) -> Result<Vec<Row>> {
    let slot_type = slot_type(ring, &request.slot_type)?;
    let input = Input::read(&request.input, request.key_in_input)?;
    let (opener, opens, shown) = secrets(ring, slot_type, input, request.given)?;
    if opener.is_some() {
        ring.give(opener.as_deref(), None);
    }
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    let mut found = slots::read(inbox.as_mut())?;
    let keys = UserKeys::read(inbox.as_mut(), &found, |inbox, id| {
        open_key(ring, inbox, host, id)
    })?;
    keys.active(host.username())?;
    let name = new_name(&found, slot_type, &request.slot)?;
    if !is_label(&request.label) {
        let text =
            format!("a label has at most {MAX_LABEL} bytes, none of them a control character");
        return Err(Error::usage(text));
    }
    let mut slot = make(&found, (&name, slot_type, &request.label), opens)?;
    keys.seal(&mut slot)?;
    let wrapped: Vec<_> = keys
        .open
        .iter()
        .map(|(_, key)| slot.wrap(key))
        .collect::<Result<_>>()?;
    found.records.push(Record::Slot(slot));
    found.records.extend(wrapped.into_iter().map(Record::Key));
    slots::write(inbox.as_mut(), &mut found)?;
    ring.forget();
    let mut row = match shown {
        Some(secret) => Row {
            cells: vec![secret],
            ..Row::default()
        },
        None => Row::default(),
    };
    row.note = Some(format!("slot {name} opens {} key(s)", keys.open.len()));
    let mut rows = vec![row];
    rows.extend(keys.locked_note().map(Row::note));
    Ok(rows)
}

fn slot_type(ring: &Keyring, name: &str) -> Result<SlotType> {
    match SlotType::of(name) {
        Some(SlotType::Escrow) => Err(Error::usage(format!(
            "an escrow slot is made of {}",
            ring.settings().name(Setting::EscrowPublic)
        ))),
        Some(slot_type) => Ok(slot_type),
        None => Err(Error::usage(format!(
            "'{}' is no type of slot: use recovery, app, password or key",
            name.escape_default()
        ))),
    }
}

/// What opens the user's keys now, what opens the new slot, and what of it has to be shown.
#[allow(clippy::type_complexity)]
fn secrets(
    ring: &Keyring,
    slot_type: SlotType,
    input: Input,
    given: bool,
) -> Result<(Option<Secret>, Opens, Option<Zeroizing<String>>)> {
    if given && slot_type != SlotType::App {
        return Err(Error::usage("only the secret of an app slot can be given"));
    }
    match slot_type {
        SlotType::Key | SlotType::Escrow => {
            let key = input.public_key()?;
            let (opener, []) = input.split([])?;
            Ok((opener, Opens::Key(key), None))
        }
        SlotType::Password => {
            let (opener, [password]) = input.split(["the second password"])?;
            let stretch = match ring.settings().password_kdf()? {
                PasswordKdf::Pbkdf2 => Stretch::pbkdf2(ring.settings().password_rounds()?)?,
                PasswordKdf::Argon2id {
                    memory_kib,
                    passes,
                    lanes,
                } => Stretch::argon2id((memory_kib, passes, lanes))?,
            };
            Ok((opener, Opens::Secret(stretch, password), None))
        }
        SlotType::App if given => {
            let (opener, [secret]) = input.split(["the app's secret"])?;
            if secret.len() < MIN_SECRET {
                return Err(Error::setting(format!(
                    "the app's secret must be random and have {MIN_SECRET} bytes or more: it is not stretched"
                )));
            }
            let secret = code::read(&secret)?.unwrap_or(secret);
            Ok((opener, Opens::Secret(Stretch::None, secret), None))
        }
        SlotType::Recovery | SlotType::App => {
            let (opener, []) = input.split([])?;
            let (secret, text) = new_code()?;
            Ok((opener, Opens::Secret(Stretch::None, secret), Some(text)))
        }
    }
}

fn new_name(found: &Slots, slot_type: SlotType, wanted: &str) -> Result<String> {
    if wanted.is_empty() {
        return Ok(slots::free_name(found, slot_type.name()));
    }
    if !is_name(wanted) || is_login(wanted) {
        return Err(Error::usage(format!(
            "'{}' can't be a slot's name: use 1 to {MAX_NAME} letters a to z, digits and dashes, and none that \
             begins with {}",
            wanted.escape_default(),
            slots::LOGIN
        )));
    }
    if slots::free_name(found, wanted) != wanted {
        let text = format!("there is a slot {wanted} already: remove it first");
        return Err(Error::new(ErrorKind::Refused, text));
    }
    Ok(wanted.to_owned())
}

fn make(found: &Slots, about: (&str, SlotType, &str), opens: Opens) -> Result<Slot> {
    match opens {
        Opens::Key(key) => Slot::new(about, SlotOpener::Key(&key)),
        Opens::Secret(stretch, secret) => {
            let stretch = shared_stretch(found, stretch);
            let stretched = stretch.stretch(&secret)?;
            Slot::new(about, SlotOpener::Secret(&stretch, &stretched))
        }
    }
}

/// Second passwords share a salt, so that one costs no more to try than the next: a login is stretched once for all of
/// them.
fn shared_stretch(found: &Slots, new: Stretch) -> Stretch {
    let same = |other: &&Slot| match (&new, &other.stretch) {
        (Stretch::Pbkdf2 { rounds, .. }, Stretch::Pbkdf2 { rounds: other, .. }) => rounds == other,
        (
            Stretch::Argon2id {
                memory,
                passes,
                lanes,
                ..
            },
            Stretch::Argon2id {
                memory: m,
                passes: p,
                lanes: l,
                ..
            },
        ) => (memory, passes, lanes) == (m, p, l),
        _ => false,
    };
    found
        .slots()
        .find(same)
        .map_or(new.clone(), |slot| slot.stretch.clone())
}

/// Removes a slot.
///
/// # Errors
/// [`ErrorKind::NoKey`] where there is none of this name; [`ErrorKind::Refused`] for the last one that opens the
/// user's keys where no password does, unless forced.
pub(super) fn remove(
    ring: &mut Keyring,
    host: &mut dyn Host,
    request: &Request,
) -> Result<Vec<Row>> {
    let name = request.slot.as_str();
    let mut inbox = host.inbox()?;
    let _lock = inbox.lock(Level::User)?;
    let mut found = slots::read(inbox.as_mut())?;
    if is_login(name) && slots::find(&found, name).is_some() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("slot {name} is the password's own: password --compat does without it"),
        ));
    }
    if !request.force {
        check_not_last(ring, inbox.as_mut(), &found, name)?;
    }
    if !slots::remove(&mut found, name) {
        let text = format!(
            "user {} has no slot '{}'",
            host.username(),
            name.escape_default()
        );
        return Err(Error::new(ErrorKind::NoKey, text));
    }
    slots::write(inbox.as_mut(), &mut found)?;
    ring.forget();
    Ok(vec![Row::done(
        true,
        About {
            mailbox: "",
            id: name,
        },
    )])
}

fn check_not_last(
    ring: &Keyring,
    inbox: &mut dyn Attributes,
    found: &Slots,
    name: &str,
) -> Result<()> {
    let Some(active) = filing::active(Level::User, inbox)? else {
        return Ok(());
    };
    let others = found.slots().any(|slot| {
        slot.name != name
            && slot.slot_type != SlotType::Escrow
            && slots::opens(found, &slot.name, &active.id)
    });
    let is_escrow = slots::find(found, name).is_some_and(|s| s.slot_type == SlotType::Escrow);
    if others || is_escrow || password_opens(ring, inbox, found, &active.id)? {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Refused,
        format!(
            "slot {name} is the last one that opens key {}: use -f to remove it all the same",
            active.id
        ),
    ))
}

/// Whether the user key `id` is stored so that a password, or a key of the settings, opens it.
fn password_opens(
    ring: &Keyring,
    inbox: &mut dyn Attributes,
    found: &Slots,
    id: &KeyId,
) -> Result<bool> {
    let filed = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
    let opens = filed.texts().any(|text| {
        let protection = StoredKey::parse(&text).map(|key| key.protection());
        match protection {
            Ok(Protection::None | Protection::Password) => true,
            Ok(Protection::Key(by)) => {
                let mut keys = ring.settings().user_key_keys.iter();
                let of_login = |slot: &Slot| {
                    is_login(&slot.name) && slot.public_key().is_ok_and(|key| key.matches(&by))
                };
                keys.any(|key| key.matches(&by)) || found.slots().any(of_login)
            }
            Err(_) => false,
        }
    });
    Ok(opens)
}

/// Says what a secret opens, and changes nothing.
///
/// # Errors
/// [`ErrorKind::WrongPassword`] where it opens nothing; corrupt for a mistyped code.
pub(super) fn test(ring: &mut Keyring, host: &mut dyn Host, request: &Request) -> Result<Vec<Row>> {
    let mut input = Input::read(&request.input, request.key_in_input)?;
    let key = input.take_private_key()?;
    let secret = match key {
        Some(_) => None,
        None => {
            let (_, [secret]) = input.split(["the secret to test"])?;
            code::read(&secret)?;
            Some(secret)
        }
    };
    ring.give(secret.as_deref(), key);
    let mut inbox = host.inbox()?;
    let found = slots::read(inbox.as_mut())?;
    let mut rows = Vec::new();
    for id in user_keys(inbox.as_mut())? {
        let filed = Filed::read(inbox.as_mut(), Scope::Private, &Level::User.private(&id))?;
        let opens = |text: Zeroizing<String>| {
            let stored = StoredKey::parse(&text).ok()?;
            let secret = secret.as_deref()?;
            let is_under = stored.protection() == Protection::Password;
            let key = is_under.then(|| stored.unlock_with_password(secret).ok())??;
            key.matches(&id).then_some(())
        };
        if filed.texts().any(|text| opens(text).is_some()) {
            rows.push(Row::of(["", &id.to_string()]));
        }
    }
    for name in ring.opened_slots(inbox.as_mut(), host)? {
        let ids = opened_by(inbox.as_mut(), &found, &name)?;
        rows.push(Row::of([&name, &ids]));
    }
    if rows.is_empty() {
        return Err(Error::new(
            ErrorKind::WrongPassword,
            format!("the secret opens no key of user {}", host.username()),
        ));
    }
    ring.forget();
    Ok(rows)
}

/// All slots, with what can be said of each.
///
/// # Errors
/// [`ErrorKind::Store`]; corrupt where nothing of what is stored can be read.
pub fn list(ring: &mut Keyring, host: &mut dyn Host) -> Result<Vec<Row>> {
    let mut inbox = host.inbox()?;
    let found = slots::read(inbox.as_mut())?;
    let mut rows = Vec::new();
    for record in &found.records {
        match record {
            Record::Slot(slot) => rows.push(slot_row(ring, inbox.as_mut(), host, &found, slot)?),
            Record::Unread { line, why } => {
                let name = slots::name_of_unread(line);
                let mut row = Row::of([name, "", "", "", "", "damaged", ""]);
                row.error = Some(why.to_string());
                rows.push(row);
            }
            Record::Key(_) | Record::Undo(_) | Record::Locked(_) => {}
        }
    }
    let active = filing::active(Level::User, inbox.as_mut())?;
    for key in ring.settings().escrow()? {
        let has = |id: &KeyId| {
            slots::find_escrow(&found, key).is_some_and(|s| slots::opens(&found, &s.name, id))
        };
        if active.as_ref().is_some_and(|active| !has(&active.id)) {
            let id = key.id().to_string();
            rows.push(Row::of([
                "",
                SlotType::Escrow.name(),
                &id,
                "",
                "",
                "missing",
                "",
            ]));
        }
    }
    Ok(rows)
}

fn slot_row(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    found: &Slots,
    slot: &Slot,
) -> Result<Row> {
    let kdf = match &slot.stretch {
        Stretch::None => "none".to_owned(),
        Stretch::Pbkdf2 { rounds, .. } => format!("pbkdf2 {rounds}"),
        Stretch::Argon2id {
            memory,
            passes,
            lanes,
            ..
        } => format!("argon2id {memory} KiB {passes} {lanes}"),
    };
    let kdf = if slot.private.is_none() { "" } else { &kdf };
    let (state, error) = state(ring, inbox, host, slot)?;
    let opens = opened_by(inbox, found, &slot.name)?;
    let (kind, created) = (slot.slot_type.name(), date(slot.created)?);
    let mut row = Row::of([&slot.name, kind, &slot.label, &created, kdf, state, &opens]);
    row.error = error;
    Ok(row)
}

/// Whether all keys of the user that open have sealed the slot, and what is wrong if not.
///
/// # Errors
/// [`ErrorKind::Store`].
pub(super) fn state(
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
    slot: &Slot,
) -> Result<(&'static str, Option<String>)> {
    // It is made by a session, with the one key at hand, and what the password opens is not in it.
    if is_login(&slot.name) {
        return Ok(("", None));
    }
    let mut checked = false;
    for id in user_keys(inbox)? {
        let Ok(owner) = open_key(ring, inbox, host, &id) else {
            continue;
        };
        let opens = slot.slot_type != SlotType::Escrow;
        match slot.check_seal(&owner) {
            Ok(()) => checked = true,
            Err(e) if opens || slot.seals.iter().any(|seal| owner.matches(&KeyId(seal.by))) => {
                return Ok(("wrong seal", Some(e.to_string())));
            }
            Err(_) => {}
        }
    }
    // Seals can't be checked without a key of the user.
    Ok((if checked { "sealed" } else { "not checked" }, None))
}

/// The user keys that the slot `name` opens.
fn opened_by(inbox: &mut dyn Attributes, found: &Slots, name: &str) -> Result<String> {
    if is_login(name) {
        return under_login(inbox, found, name);
    }
    let ids = found.keys_of(name).filter_map(|key| key.id());
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    Ok(ids.join(" "))
}

/// The user keys that are stored under the key of the password's slot.
fn under_login(inbox: &mut dyn Attributes, found: &Slots, name: &str) -> Result<String> {
    let Some(public) = slots::find(found, name).and_then(|slot| slot.public_key().ok()) else {
        return Ok(String::new());
    };
    let mut ids = Vec::new();
    for id in user_keys(inbox)? {
        let filed = Filed::read(inbox, Scope::Private, &Level::User.private(&id))?;
        let under = |text: Zeroizing<String>| {
            let protection = StoredKey::parse(&text).map(|key| key.protection());
            matches!(protection, Ok(Protection::Key(by)) if public.matches(&by))
        };
        if filed.texts().any(under) {
            ids.push(id.to_string());
        }
    }
    Ok(ids.join(" "))
}
