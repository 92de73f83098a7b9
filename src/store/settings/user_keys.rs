//! How user keys are kept: what their passwords are stretched with, and who gets a copy. Needed only where
//! one is made or put under another password.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::names::{Line, Setting};
use super::FAILED_KEYS;
use super::ask::{Ask, shown, text};
use super::fields::Fields;
use crate::error::{Error, Result};
use crate::format::keystring::MAX_ROUNDS;
use crate::key::{PASSWORD_ROUNDS, PublicKey};

/// What a password is stretched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordKdf {
    /// What every plugin opens, with [`super::Settings::password_rounds`].
    Pbkdf2,
    /// What only ours opens.
    Argon2id {
        /// The memory that it takes, in KiB.
        memory_kib: u32,
        /// How often it goes through the memory.
        passes: u32,
        /// How many threads could do it.
        lanes: u32,
    },
}

/// OWASP's first choice.
const ARGON2ID: PasswordKdf = PasswordKdf::Argon2id {
    memory_kib: 19 * 1024,
    passes: 2,
    lanes: 1,
};

/// RFC 9106's second choice, in one lane.
const ARGON2ID_STRONG: PasswordKdf = PasswordKdf::Argon2id {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};

/// The part of the process's memory that stretching a password may take: mail needs the rest.
const SHARE: u64 = 4;

const MIB: u64 = 1024 * 1024;

/// What is set, or why it can't be used.
pub(super) struct UserKeys {
    pub(super) rounds: Result<u32>,
    pub(super) kdf: Result<PasswordKdf>,
    pub(super) escrow: Result<Vec<PublicKey>>,
}

impl UserKeys {
    pub(super) fn load(ask: &mut Ask<'_, '_>, fields: &Fields) -> Self {
        if let Some(why) = ask.failed(FAILED_KEYS) {
            return Self::unusable(&none_made(&why));
        }
        UserKeys {
            rounds: rounds(ask, fields),
            kdf: kdf(ask, fields, address_space),
            escrow: escrow(ask, fields),
        }
    }

    pub(super) fn unusable(error: &Error) -> Self {
        UserKeys {
            rounds: Err(error.clone()),
            kdf: Err(error.clone()),
            escrow: Err(error.clone()),
        }
    }
}

impl Default for UserKeys {
    fn default() -> Self {
        UserKeys {
            rounds: Ok(PASSWORD_ROUNDS),
            kdf: Ok(PasswordKdf::Pbkdf2),
            escrow: Ok(Vec::new()),
        }
    }
}

fn none_made(why: &dyn std::fmt::Display) -> Error {
    Error::setting(format!("no user key is made: {why}"))
}

fn rounds(ask: &mut Ask<'_, '_>, fields: &Fields) -> Result<u32> {
    let Some((name, value)) = text_of(ask, fields, Setting::PasswordRounds)? else {
        return Ok(PASSWORD_ROUNDS);
    };
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let rounds = value.parse().ok().filter(|_| digits);
    let allowed = rounds.filter(|rounds| (1..=MAX_ROUNDS).contains(rounds));
    allowed.ok_or_else(|| {
        Error::setting(format!(
            "{name} {}, and no user key is made: use {PASSWORD_ROUNDS} (1 to {MAX_ROUNDS}; 1 only \
             for secrets that are random)",
            wrong(&value)
        ))
    })
}

/// `limit` is the memory of this process in bytes, if it has one.
fn kdf(
    ask: &mut Ask<'_, '_>,
    fields: &Fields,
    limit: impl Fn() -> Option<u64>,
) -> Result<PasswordKdf> {
    let Some((name, value)) = text_of(ask, fields, Setting::PasswordKdf)? else {
        return Ok(PasswordKdf::Pbkdf2);
    };
    let (kdf, instead) = match value.as_str() {
        "pbkdf2" => return Ok(PasswordKdf::Pbkdf2),
        "argon2id" => (ARGON2ID, "pbkdf2"),
        "argon2id-strong" => (ARGON2ID_STRONG, "argon2id"),
        other => {
            return Err(Error::setting(format!(
                "{name} {}, and no user key is made: use pbkdf2 (or argon2id or argon2id-strong, \
                 which the packaged plugin can't open)",
                wrong(other)
            )));
        }
    };
    let needed = kdf.memory() * SHARE;
    match limit() {
        Some(limit) if limit < needed => Err(Error::setting(format!(
            "{name} is {}, and no user key is made: it takes {} MiB, more than a quarter of this \
             process's {} MiB. Give its service vsz_limit = {}M, or use {instead}",
            &*value,
            kdf.memory() / MIB,
            limit / MIB,
            needed / MIB
        ))),
        _ => Ok(kdf),
    }
}

/// The keys that are set, whatever their numbers, each once.
fn escrow(ask: &mut Ask<'_, '_>, fields: &Fields) -> Result<Vec<PublicKey>> {
    if let Some(e) = fields.empty(Setting::EscrowPublic) {
        return Err(e);
    }
    let mut keys: Vec<PublicKey> = Vec::new();
    for (name, shown_as) in ask.line().names_of(Setting::EscrowPublic) {
        match ask.public_key_at(name, shown_as)? {
            None => check_heard(fields, name)?,
            Some(key) if keys.iter().any(|other| other.id() == key.id()) => (),
            Some(key) => keys.push(key),
        }
    }
    check_escrow_numbers(ask)?;
    Ok(keys)
}

/// Nobody would notice that a key isn't used until it is needed. (2.4 has no such settings.)
fn check_escrow_numbers(ask: &mut Ask<'_, '_>) -> Result<()> {
    let first = Line::V2_3.name(Setting::EscrowPublic);
    for number in (0..10).filter(|number| !(2..=4).contains(number)) {
        let name = format!("{first}{number}");
        if ask.text_at(&name).is_some() {
            return Err(none_made(&format!(
                "{name} is not used. There can be four keys: use {first}, \
                 {first}2, {first}3 and {first}4"
            )));
        }
    }
    Ok(())
}

/// What the administrator calls the setting, and its value, if it is set.
fn text_of(
    ask: &mut Ask<'_, '_>,
    fields: &Fields,
    setting: Setting,
) -> Result<Option<(&'static str, Zeroizing<String>)>> {
    match ask.value(setting) {
        Some(value) => Ok(Some((ask.line().name(setting), text(&value)))),
        None => check_heard(fields, Line::V2_3.name(setting)).map(|()| None),
    }
}

fn check_heard(fields: &Fields, old: &str) -> Result<()> {
    fields.check_heard(old).map_err(|e| none_made(&e))
}

impl PasswordKdf {
    /// The memory that it takes, in bytes.
    fn memory(self) -> u64 {
        match self {
            PasswordKdf::Pbkdf2 => 0,
            PasswordKdf::Argon2id { memory_kib, .. } => u64::from(memory_kib) * 1024,
        }
    }
}

fn wrong(value: &str) -> String {
    match value {
        "" => "is empty".to_owned(),
        other => format!("is '{}'", shown(other)),
    }
}

/// The process's address space in bytes, which Dovecot limits to `vsz_limit`. `None` where there is no limit, or
/// nobody says: in a chroot there is no /proc.
pub(super) fn address_space() -> Option<u64> {
    address_space_in(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn address_space_in(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
