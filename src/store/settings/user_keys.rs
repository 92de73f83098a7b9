//! How user keys are kept: what their passwords are stretched with, and who gets a copy. Needed only where
//! one is made or put under another password.
#![forbid(unsafe_code)]

use super::super::names::Setting;
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

impl Ask<'_, '_> {
    pub(super) fn password_rounds(&mut self) -> Result<u32> {
        let name = self.line().name(Setting::PasswordRounds);
        let Some(value) = self.value(Setting::PasswordRounds) else {
            return Ok(PASSWORD_ROUNDS);
        };
        let value = text(&value);
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        let rounds = value.parse().ok().filter(|_| digits);
        rounds
            .filter(|rounds| (1..=MAX_ROUNDS).contains(rounds))
            .ok_or_else(|| {
                let wrong = wrong(&value);
                Error::setting(format!(
                    "{name} {wrong}, and no user key is made: use {PASSWORD_ROUNDS} (1 to \
                     {MAX_ROUNDS}; 1 only for secrets that are random)"
                ))
            })
    }

    /// `limit` is the memory of this process in bytes, if it has one.
    pub(super) fn password_kdf(&mut self, limit: impl Fn() -> Option<u64>) -> Result<PasswordKdf> {
        let name = self.line().name(Setting::PasswordKdf);
        let Some(value) = self.value(Setting::PasswordKdf) else {
            return Ok(PasswordKdf::Pbkdf2);
        };
        let value = text(&value);
        let (kdf, instead) = match value.as_str() {
            "pbkdf2" => return Ok(PasswordKdf::Pbkdf2),
            "argon2id" => (ARGON2ID, "pbkdf2"),
            "argon2id-strong" => (ARGON2ID_STRONG, "argon2id"),
            other => {
                let wrong = wrong(other);
                return Err(Error::setting(format!(
                    "{name} {wrong}, and no user key is made: use pbkdf2 (or argon2id or \
                     argon2id-strong, which the packaged plugin can't open)"
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
    pub(super) fn escrow(&mut self, fields: &Fields) -> Result<Vec<PublicKey>> {
        if let Some(e) = fields.empty(Setting::EscrowPublic) {
            return Err(e);
        }
        let mut keys: Vec<PublicKey> = Vec::new();
        for (name, shown_as) in self.line().names_of(Setting::EscrowPublic) {
            let Some(key) = self.public_key_at(name, shown_as)? else {
                continue;
            };
            if !keys.iter().any(|other| other.id() == key.id()) {
                keys.push(key);
            }
        }
        self.check_escrow_numbers()?;
        Ok(keys)
    }

    /// Nobody would notice that a key isn't used until it is needed. (2.4 has no such settings.)
    fn check_escrow_numbers(&mut self) -> Result<()> {
        let first = super::Line::V2_3.name(Setting::EscrowPublic);
        for number in (0..10).filter(|number| !(2..=4).contains(number)) {
            let name = format!("{first}{number}");
            if self.text_at(&name).is_some() {
                return Err(Error::setting(format!(
                    "no user key is made: {name} is not used. There can be four keys: use {first}, \
                     {first}2, {first}3 and {first}4"
                )));
            }
        }
        Ok(())
    }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::Line;
    use zeroize::Zeroizing;

    fn kdf(value: &str, limit: Option<u64>) -> std::result::Result<PasswordKdf, String> {
        let mut lookup = |name: &str| {
            (name == "mail_crypt_password_kdf").then(|| Zeroizing::new(value.as_bytes().to_vec()))
        };
        let mut ask = Ask::new(Line::V2_3, &mut lookup);
        ask.password_kdf(|| limit).map_err(|e| e.to_string())
    }

    #[test]
    fn a_password_takes_no_more_than_a_quarter_of_the_processs_memory() {
        for (value, expected, enough, instead) in [
            ("argon2id", ARGON2ID, 76, "or use pbkdf2"),
            ("argon2id-strong", ARGON2ID_STRONG, 256, "or use argon2id"),
        ] {
            assert_eq!(kdf(value, None).unwrap(), expected);
            assert_eq!(kdf(value, Some(enough * MIB)).unwrap(), expected);
            let text = kdf(value, Some(enough * MIB - 1)).unwrap_err();
            let write = format!("vsz_limit = {enough}M, {instead}");
            assert!(text.starts_with("mail_crypt_password_kdf is argon2id"));
            assert!(text.ends_with(&write), "{text}");
        }
        assert_eq!(kdf("pbkdf2", Some(1)).unwrap(), PasswordKdf::Pbkdf2);
    }

    #[test]
    fn the_limit_is_what_the_kernel_says() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n\
                      Max address space         268435456            536870912            bytes     \n";
        assert_eq!(address_space_in(limits), Some(256 * MIB));
        let none = limits.replace("268435456", "unlimited");
        assert_eq!(address_space_in(&none), None);
        assert_eq!(address_space_in(""), None);
    }
}
