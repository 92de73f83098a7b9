//! The user's own keys and slots, and what nobody needs.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::super::slot;
use super::super::user_keys::all_ids;
use super::Check;
use super::keys::{OPEN_ADVICE, Opens, StoredFolderKey, under};
use super::line::{Level as Bad, Line, many};
use crate::error::{ErrorKind, Result};
use crate::format::slots::{Record, Slot};
use crate::hex;
use crate::store::attributes::{Attributes, BY_ID, Host, Level};
use crate::store::filing;
use crate::store::keyring::Keyring;
use crate::store::names::Setting;
use crate::store::settings::SaveVersion;
use crate::store::slots;

/// Keeps the GUID and the id of a folder key whose attribute is `path`: `priv/GUID/..`.
pub(super) fn note_litter(litter: &mut BTreeMap<String, BTreeSet<String>>, path: &str) {
    let prefix = Level::Folder.private_prefix();
    let Some((guid, name)) = path
        .strip_prefix("priv/")
        .and_then(|rest| rest.split_once('/'))
    else {
        return;
    };
    if let Some(id) = name.strip_prefix(&prefix) {
        litter
            .entry(guid.to_owned())
            .or_default()
            .insert(id.to_owned());
    }
}

/// What is to say after all folders.
///
/// # Errors
/// [`ErrorKind::Store`].
pub(super) fn end(check: &mut Check, ring: &mut Keyring, host: &mut dyn Host) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut inbox = host.inbox()?;
    let inbox = inbox.as_mut();
    if check.wanted.whole {
        without_folder(check, ring, inbox, host)?;
    }
    lines.extend(user_keys(check, ring, inbox, host)?);
    lines.extend(slots_of(check, ring, inbox, host)?);
    lines.extend(folder_keys(check));
    if check.wanted.whole && !check.incomplete {
        lines.extend(litter(check));
        lines.extend(read_plain(check, ring));
    }
    Ok(lines)
}

/// Adds the keys that are filed by their ids, and that no folder has.
fn without_folder(
    check: &mut Check,
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<()> {
    // Where the dict can't list, each is still found by its id.
    let ids = filing::listed_by_id(Level::Folder, inbox).unwrap_or_default();
    for id in ids {
        if check.stored.iter().any(|key| key.id == id) {
            continue;
        }
        for by in under(inbox, &id)? {
            *check.under.entry(by).or_default() += 1;
        }
        let about = (id, String::new(), false);
        let key = StoredFolderKey::read(about, &check.protections, ring, inbox, host)?;
        check.stored.push(key);
    }
    Ok(())
}

fn user_keys(
    check: &Check,
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let active = match filing::active(Level::User, inbox) {
        Ok(active) => active.map(|active| active.id),
        Err(e) if e.kind() == ErrorKind::Store => return Err(e),
        Err(e) => {
            lines.push(Line::new(
                Bad::Problem,
                "user-key",
                "",
                e.to_log(),
                GENERATE,
            ));
            None
        }
    };
    let ids = all_ids(inbox, &check.protections.slots)?;
    if active.is_none() && !ids.is_empty() && lines.is_empty() {
        let text = "the user has keys, and none of them is active";
        lines.push(Line::new(Bad::Problem, "user-key", "", text, GENERATE));
    }
    if active.is_some_and(|active| !ids.contains(&active)) {
        let text = "the user's active key has no private half: what is put under it is lost";
        lines.push(Line::new(Bad::Problem, "user-key", "", text, OPEN_ADVICE));
    }
    for id in ids {
        let opens = check.protections.user_key(ring, inbox, host, &id)?;
        let is_active = active == Some(id);
        let count = check.under.get(&id).copied().unwrap_or_default();
        let text = format!(
            "user key {id}, over {}, {}",
            many(count, "folder key"),
            opens.words()
        );
        let unneeded = count == 0 && !is_active && check.wanted.whole && !check.incomplete;
        let (level, advice) = match &opens {
            Opens::No(_) | Opens::Missing(_) => (Bad::Problem, OPEN_ADVICE),
            Opens::Locked => (Bad::Note, OPEN_ADVICE),
            Opens::Yes | Opens::Untried if unneeded => (
                Bad::Note,
                "If nothing in others' folders is under it either (doveadm mailbox cryptokey list -U --needed), cryptokey delete -U deletes it",
            ),
            Opens::Yes | Opens::Untried => (Bad::Fact, ""),
        };
        let state = if is_active { "active" } else { "older" };
        let line = Line::new(level, "user-key", "", text, advice);
        lines.push(line.about_key(id, state, opens.name()));
    }
    Ok(lines)
}

const GENERATE: &str = "doveadm mailbox cryptokey generate -U makes one";

/// The slots whose seal is wrong, and what can't be read.
fn slots_of(
    check: &Check,
    ring: &mut Keyring,
    inbox: &mut dyn Attributes,
    host: &mut dyn Host,
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    if let Some(e) = &check.protections.error {
        let advice = "Bring the attribute back from a backup: it holds what opens the keys besides the password";
        lines.push(Line::new(Bad::Problem, "slot", "", e.to_log(), advice));
    }
    for slot in check.protections.slots.slots() {
        if let (_, Some(error)) = slot::state(ring, inbox, host, slot)? {
            lines.push(wrong_seal(slot, error));
        }
    }
    for record in &check.protections.slots.records {
        if let Record::Unread { line, .. } = record {
            let text = format!("slot {} can't be read", slots::name_of_unread(line));
            let advice =
                "A newer release may have made it; see doveadm mailbox cryptokey slot list";
            lines.push(Line::new(Bad::Note, "slot", "", text, advice));
        }
    }
    Ok(lines)
}

fn wrong_seal(slot: &Slot, error: String) -> Line {
    let text = format!(
        "slot {} isn't sealed by the user's keys: {error}",
        slot.name
    );
    let advice = "Somebody may have put it there: no new key goes under it";
    let mut line = Line::new(Bad::Problem, "slot", "", text, advice);
    line.state = "wrong-seal";
    line
}

/// Folder keys that nothing opens though no mail has shown it, and those that no mail needs.
fn folder_keys(check: &Check) -> Vec<Line> {
    let mut lines = Vec::new();
    let all = check.wanted.whole && !check.incomplete;
    for key in &check.stored {
        let needed = check.needed.iter().any(|id| key.is(id));
        let place = if key.mailbox.is_empty() {
            "no folder has it".to_owned()
        } else {
            format!("folder key of {}", key.mailbox)
        };
        let state = if key.active { "active" } else { "older" };
        let line = |level, text: String, advice: &str| {
            let line = Line::new(level, "key", &key.mailbox, text, advice);
            line.about_key(key.id, state, key.opens.name())
                .about_mails(0, None)
        };
        match &key.opens {
            // Each of its mails says so already.
            Opens::No(_) | Opens::Missing(_) if needed => {}
            Opens::No(_) | Opens::Missing(_) => {
                let text = format!("key {} ({place}) {}", key.id, key.opens.words());
                lines.push(line(Bad::Problem, text, OPEN_ADVICE));
            }
            Opens::Locked | Opens::Yes | Opens::Untried if needed || key.active || !all => {}
            Opens::Locked | Opens::Yes | Opens::Untried => {
                let text = format!("no mail needs key {} ({place})", key.id);
                let advice = if key.mailbox.is_empty() {
                    "It does no harm, and a backup may need it"
                } else {
                    "doveadm mailbox cryptokey delete deletes it, if no backup needs it"
                };
                lines.push(line(Bad::Note, text, advice));
            }
        }
    }
    lines
}

/// Keys under GUIDs that no folder has any more.
fn litter(check: &Check) -> Option<Line> {
    let by_id = hex::encode(&BY_ID);
    let old = |guid: &str| *guid != by_id && !check.guids.contains(guid);
    let found: Vec<_> = check.litter.iter().filter(|(guid, _)| old(guid)).collect();
    if found.is_empty() {
        return None;
    }
    let keys = found.iter().map(|(_, ids)| ids.len() as u64).sum();
    let text = format!(
        "under {} that no folder of the user has: {}",
        many(found.len() as u64, "GUID"),
        many(keys, "key")
    );
    let advice = "Their folders were deleted, got another GUID, or are others': it does no harm";
    let mut line = Line::new(Bad::Note, "litter", "", text, advice);
    line.state = "old-guid";
    Some(line)
}

/// Whether plaintext could be refused.
fn read_plain(check: &Check, ring: &Keyring) -> Option<Line> {
    let settings = ring.settings();
    let writes = settings
        .writing()
        .is_ok_and(|w| w.version != SaveVersion::ReadOnly);
    if !writes || !settings.read_plain || check.counts.plain() > 0 || check.needed.is_empty() {
        return None;
    }
    let text = "no mail is stored in plaintext";
    let advice = format!(
        "{} = no could be set for the user",
        settings.name(Setting::ReadPlain)
    );
    Some(Line::new(Bad::Note, "user", "", text, advice))
}
