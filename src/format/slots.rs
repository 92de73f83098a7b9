//! What is stored of a user's slots: one value, a line for each record. docs/format.md has the lines field by field.
//!
//! One value, so that it changes as a whole in any dict, and is found in dicts that can't list. A line that can't be
//! read concerns its record only, and is kept as it is.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::keystring::{self, Id};
use crate::crypto::digest::Digest;
use crate::crypto::{SecretText, ct_eq};
use crate::error::{Error, Result};
use crate::hex;

/// The longest value that is read or written, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;
/// The most slots of one user.
pub const MAX_SLOTS: usize = 16;
/// The most bytes of a slot's name.
pub const MAX_NAME: usize = 32;
/// The most bytes of a label.
pub const MAX_LABEL: usize = 64;
/// The most Argon2 memory that a stored slot may ask for, in KiB, and the most passes and lanes.
const MAX_ARGON2: (u32, u32, u32) = (1024 * 1024, 16, 16);
/// Salts have 16 bytes; a few more are accepted.
const MAX_SALT: usize = 64;
/// Hexadecimal digits of a line's checksum.
const SUM: usize = 8;
const VERSION: &str = "1";
/// An empty field.
const NONE: &str = "-";

type Text = Zeroizing<String>;

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotType {
    /// A code on paper.
    Recovery,
    /// A random secret that a program keeps.
    App,
    /// Another password.
    Password,
    /// A public key whose private half is elsewhere.
    Key,
    /// The same, from the settings.
    Escrow,
}

const TYPES: [(SlotType, &str); 5] = [
    (SlotType::Recovery, "recovery"),
    (SlotType::App, "app"),
    (SlotType::Password, "password"),
    (SlotType::Key, "key"),
    (SlotType::Escrow, "escrow"),
];

impl SlotType {
    /// Its name, as commands and the format have it.
    pub fn name(self) -> &'static str {
        let found = TYPES.iter().find(|(known, _)| *known == self);
        found.map_or("", |(_, name)| name)
    }

    /// The type of that name.
    pub fn of(name: &str) -> Option<Self> {
        let found = TYPES.iter().find(|(_, known)| *known == name);
        found.map(|(slot_type, _)| *slot_type)
    }
}

/// How a slot's secret is stretched before it opens the slot's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stretch {
    /// Not at all: the secret is random, or there is none.
    None,
    /// PBKDF2-HMAC-SHA256 to 32 bytes.
    Pbkdf2 {
        /// 1 to [`keystring::MAX_ROUNDS`].
        rounds: u32,
        /// 1 to 64 bytes.
        salt: Vec<u8>,
    },
    /// Argon2id, version 1.3, to 32 bytes.
    Argon2id {
        /// KiB.
        memory: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// 8 to 64 bytes.
        salt: Vec<u8>,
    },
}

/// A slot.
#[derive(Clone)]
pub struct Slot {
    /// See [`is_name`].
    pub name: String,
    /// What it is for.
    pub slot_type: SlotType,
    /// Seconds since 1970.
    pub created: u64,
    /// What its owner calls it; at most [`MAX_LABEL`] bytes.
    pub label: String,
    /// How its secret is stretched.
    pub stretch: Stretch,
    /// Its public key, a key string.
    pub public: String,
    /// Its private key, a key string under the stretched secret; none where that is elsewhere.
    pub private: Option<Text>,
    /// The seals, by the user keys that have made them; at least one.
    pub seals: Vec<Seal>,
}

/// That whoever has a user key has approved of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The user key.
    pub by: Id,
    /// Made over [`Slot::sealed`].
    pub seal: Id,
}

impl Slot {
    /// What the seal is made over.
    pub fn sealed(&self) -> String {
        format!("{VERSION} {}", self.open_fields())
    }

    fn open_fields(&self) -> String {
        let label = or_none(&hex::encode(self.label.as_bytes()));
        let stretch = self.stretch.text();
        let (name, kind) = (&self.name, self.slot_type.name());
        format!(
            "{name} {kind} {} {label} {stretch} {}",
            self.created, self.public
        )
    }

    fn write(&self, out: &mut SecretText) {
        out.push_str(&self.open_fields());
        out.push_str(" ");
        out.push_str(self.private.as_ref().map_or(NONE, |text| text.as_str()));
        let joined = |ids: Vec<String>| ids.join(",");
        let by = joined(
            self.seals
                .iter()
                .map(|seal| hex::encode(&seal.by))
                .collect(),
        );
        let seals = joined(
            self.seals
                .iter()
                .map(|seal| hex::encode(&seal.seal))
                .collect(),
        );
        out.push_str(&format!(" {by} {seals}"));
    }

    fn parse(fields: &[&str]) -> Result<Self> {
        let &[
            name,
            slot_type,
            created,
            label,
            stretch,
            public,
            private,
            sealed_by,
            seal,
        ] = fields
        else {
            return Err(bad("number of fields"));
        };
        let slot = Slot {
            name: Some(name.to_owned())
                .filter(|n| is_name(n))
                .ok_or_else(|| bad("name"))?,
            slot_type: SlotType::of(slot_type).ok_or_else(|| bad("type"))?,
            created: number(created)?,
            label: label_of(label)?,
            stretch: Stretch::parse(stretch)?,
            public: public.to_owned(),
            private: (private != NONE).then(|| Zeroizing::new(private.to_owned())),
            seals: seals(sealed_by, seal)?,
        };
        let keyless = matches!(slot.slot_type, SlotType::Key | SlotType::Escrow);
        let fits = keyless == slot.private.is_none();
        fits.then_some(slot).ok_or_else(|| bad("private key"))
    }
}

/// A user key under a slot's key.
#[derive(Clone)]
pub struct SlotKey {
    /// The slot's name.
    pub slot: String,
    /// A private key string of type 1.
    pub text: Text,
}

/// What a password change replaced.
#[derive(Clone)]
pub struct Replaced {
    /// When, in seconds since 1970.
    pub time: u64,
    /// The user key.
    pub id: Id,
    /// SHA-256 of the text that replaced it.
    pub by: Id,
    /// The text that was replaced.
    pub text: Text,
}

/// One line.
#[derive(Clone)]
pub enum Record {
    /// `slot`
    Slot(Slot),
    /// `key`
    Key(SlotKey),
    /// `undo`
    Undo(Replaced),
    /// `locked`: a user key that nothing opens, by its id.
    Locked(Id),
    /// A line that is damaged, or newer than this program.
    Unread {
        /// The line, with its checksum.
        line: Text,
        /// What is wrong with it; no part of the line but a slot's name.
        why: Error,
    },
}

/// All records of a user.
#[derive(Clone, Default)]
pub struct Slots {
    /// Counts the changes.
    pub serial: u64,
    /// In the order in which they are stored.
    pub records: Vec<Record>,
}

impl Slots {
    /// Parses the stored value.
    ///
    /// # Errors
    /// Corrupt or unsupported where nothing of it can be used. No error shows any of the text but a slot's name.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(Error::corrupt("slots longer than 64 KB"));
        }
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let serial = match first.split_once(' ') {
            Some((VERSION, serial)) => number(serial)?,
            Some((version, _)) if number(version).is_ok() => {
                let text = format!("slots of version {}", version.escape_default());
                return Err(Error::unsupported(text));
            }
            _ => return Err(Error::corrupt("slots with a bad first line")),
        };
        let records: Vec<_> = lines.map(Record::parse).collect::<Result<_>>()?;
        let slots = Slots { serial, records };
        if slots.slots().count() > MAX_SLOTS {
            return Err(Error::corrupt(format!("more than {MAX_SLOTS} slots")));
        }
        Ok(slots)
    }

    /// The value to store.
    ///
    /// # Errors
    /// As libcrypto; [`crate::ErrorKind::Refused`] where it would be too long to be read again.
    pub fn write(&self) -> Result<Text> {
        let mut out = SecretText::with_capacity(4096);
        out.push_str(&format!("{VERSION} {}", self.serial));
        for record in &self.records {
            out.push_str("\n");
            record.write(&mut out)?;
        }
        let text = out.finish();
        if text.len() > MAX_TEXT || self.slots().count() > MAX_SLOTS {
            return Err(Error::new(
                crate::ErrorKind::Refused,
                format!(
                    "there is room for {MAX_SLOTS} slots and 64 KB: remove a slot, or delete older user keys"
                ),
            ));
        }
        Ok(text)
    }

    /// The slots that can be read.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.records.iter().filter_map(|record| match record {
            Record::Slot(slot) => Some(slot),
            _ => None,
        })
    }

    /// The user keys that the slot `name` opens.
    pub fn keys_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a SlotKey> {
        self.records.iter().filter_map(move |record| match record {
            Record::Key(key) if key.slot == name => Some(key),
            _ => None,
        })
    }

    /// Whether the user key `id` is known to be locked.
    pub fn is_locked(&self, id: &Id) -> bool {
        let is_it = |record: &Record| matches!(record, Record::Locked(locked) if locked == id);
        self.records.iter().any(is_it)
    }
}

impl Record {
    fn parse(line: &str) -> Result<Self> {
        if line.is_empty() {
            return Err(Error::corrupt("slots with an empty line"));
        }
        Ok(Self::parse_known(line).unwrap_or_else(|why| {
            let mut fields = line.split(' ');
            let name = match (fields.next(), fields.next()) {
                (Some("slot" | "key"), Some(name)) if is_name(name) => Some(name),
                _ => None,
            };
            let why = match name {
                Some(name) => why.context(format_args!("slot {name}")),
                None => why.context("a slot"),
            };
            let line = Zeroizing::new(line.to_owned());
            Record::Unread { line, why }
        }))
    }

    fn parse_known(line: &str) -> Result<Self> {
        let (body, given) = line.rsplit_once(' ').ok_or_else(|| bad("line"))?;
        if !ct_eq(sum(body)?.as_bytes(), given.as_bytes()) {
            return Err(Error::corrupt("its line is damaged"));
        }
        let fields: Vec<&str> = body.split(' ').take(12).collect();
        match *fields.as_slice() {
            ["slot", ref rest @ ..] => Slot::parse(rest).map(Record::Slot),
            ["key", slot, text] if is_name(slot) => Ok(Record::Key(SlotKey {
                slot: slot.to_owned(),
                text: Zeroizing::new(text.to_owned()),
            })),
            ["undo", time, id, by, text] => Ok(Record::Undo(Replaced {
                time: number(time)?,
                id: keystring::id(id)?,
                by: keystring::id(by)?,
                text: hex::decode(text)?.into_text().ok_or_else(|| bad("text"))?,
            })),
            ["locked", id] => keystring::id(id).map(Record::Locked),
            _ => Err(Error::unsupported("a record of an unknown kind")),
        }
    }

    fn write(&self, out: &mut SecretText) -> Result<()> {
        let mut line = SecretText::with_capacity(1024);
        match self {
            Record::Unread { line, .. } => {
                out.push_str(line);
                return Ok(());
            }
            Record::Slot(slot) => {
                line.push_str("slot ");
                slot.write(&mut line);
            }
            Record::Key(key) => {
                line.push_str(&format!("key {} ", key.slot));
                line.push_str(&key.text);
            }
            Record::Undo(old) => {
                let (id, by) = (hex::encode(&old.id), hex::encode(&old.by));
                line.push_str(&format!("undo {} {id} {by} ", old.time));
                hex::push(&mut line, old.text.as_bytes());
            }
            Record::Locked(id) => line.push_str(&format!("locked {}", hex::encode(id))),
        }
        let line = line.finish();
        out.push_str(&line);
        out.push_str(" ");
        out.push_str(&sum(&line)?);
        Ok(())
    }
}

impl Stretch {
    fn text(&self) -> String {
        match self {
            Stretch::None => NONE.to_owned(),
            Stretch::Pbkdf2 { rounds, salt } => format!("pbkdf2:{rounds}:{}", hex::encode(salt)),
            Stretch::Argon2id {
                memory,
                passes,
                lanes,
                salt,
            } => format!("argon2id:{memory}:{passes}:{lanes}:{}", hex::encode(salt)),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split(':').take(6).collect();
        let limited = |text: &str, max: u32| match number(text)?.try_into() {
            Ok(n @ 1..) if n <= max => Ok(n),
            _ => Err(bad("number")),
        };
        let salt = |text: &str, least: usize| match hex::decode(text)?.to_vec() {
            salt if (least..=MAX_SALT).contains(&salt.len()) => Ok(salt),
            _ => Err(bad("salt")),
        };
        match *fields.as_slice() {
            [NONE] => Ok(Stretch::None),
            ["pbkdf2", rounds, text] => Ok(Stretch::Pbkdf2 {
                rounds: limited(rounds, keystring::MAX_ROUNDS)?,
                salt: salt(text, 1)?,
            }),
            ["argon2id", memory, passes, lanes, text] => {
                let stretch = Stretch::Argon2id {
                    memory: limited(memory, MAX_ARGON2.0)?,
                    passes: limited(passes, MAX_ARGON2.1)?,
                    lanes: limited(lanes, MAX_ARGON2.2)?,
                    salt: salt(text, 8)?,
                };
                match stretch {
                    // Argon2's own rule.
                    Stretch::Argon2id { memory, lanes, .. } if memory < 8 * lanes => {
                        Err(bad("memory"))
                    }
                    stretch => Ok(stretch),
                }
            }
            _ => Err(bad("KDF")),
        }
    }
}

/// Whether a slot may have this name: 1 to [`MAX_NAME`] lower-case letters, digits and dashes.
pub fn is_name(name: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !name.is_empty() && name != NONE && name.len() <= MAX_NAME && name.bytes().all(good)
}

/// Whether a slot may have this label.
pub fn is_label(label: &str) -> bool {
    label.len() <= MAX_LABEL && !label.chars().any(char::is_control)
}

fn label_of(text: &str) -> Result<String> {
    if text == NONE {
        return Ok(String::new());
    }
    let label = String::from_utf8(hex::decode(text)?.to_vec()).ok();
    label
        .filter(|l| !l.is_empty() && is_label(l))
        .ok_or_else(|| bad("label"))
}

fn seals(by: &str, seals: &str) -> Result<Vec<Seal>> {
    let ids = |text: &str| {
        text.split(',')
            .map(keystring::id)
            .collect::<Result<Vec<Id>>>()
    };
    let (by, seals) = (ids(by)?, ids(seals)?);
    let mut keys: Vec<&Id> = by.iter().collect();
    keys.sort_unstable();
    keys.dedup();
    if by.len() != seals.len() || keys.len() != by.len() {
        return Err(bad("list of seals"));
    }
    let pairs = by.into_iter().zip(seals);
    Ok(pairs.map(|(by, seal)| Seal { by, seal }).collect())
}

fn or_none(text: &str) -> String {
    if text.is_empty() { NONE } else { text }.to_owned()
}

/// A number without sign and leading zeros.
fn number(text: &str) -> Result<u64> {
    match text.parse() {
        Ok(n) if u64::to_string(&n) == text => Ok(n),
        _ => Err(bad("number")),
    }
}

/// What tells a damaged line from a wrong secret. It protects nothing: whoever changes a line can change this, too.
fn sum(line: &str) -> Result<String> {
    let mut sum = hex::encode(&Digest::Sha256.hash(&[line.as_bytes()])?);
    sum.truncate(SUM);
    Ok(sum)
}

fn bad(what: &str) -> Error {
    Error::corrupt(format!("a bad {what}"))
}

#[cfg(test)]
mod tests;
