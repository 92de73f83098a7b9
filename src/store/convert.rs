//! Converting mail that is there already: what is to be done with each mail, whether what was written is what was
//! read, how much at a time, and what has been done.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::names::Setting;
use super::settings::{SaveVersion, Settings};
use super::state::{Current, Found, State};
use crate::crypto::digest::{Digest, Hmac};
use crate::crypto::{self, Secret};
use crate::error::{Error, Result};
use crate::format::trees::plain_size;

/// What mail is to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Encrypted, as new mail of its folder is.
    Encrypted,
    /// Plaintext.
    Plain,
}

/// What the administrator wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What mail is to become.
    pub to: Target,
    /// So is what is encrypted, but not as new mail is.
    pub rekey: bool,
    /// Only counts.
    pub dry_run: bool,
    /// Bytes a second.
    pub max_rate: Option<u64>,
}

impl Wish {
    /// Reads the parameters; those that weren't given are empty.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`], with what is wrong about them.
    pub fn parse(to: &str, rekey: bool, dry_run: bool, max_rate: &str) -> Result<Self> {
        let to = match to {
            "" | "encrypted" => Target::Encrypted,
            "plain" => Target::Plain,
            _ => return Err(Error::usage("--to is encrypted or plain")),
        };
        if rekey && to == Target::Plain {
            return Err(Error::usage("--rekey makes no plaintext"));
        }
        let max_rate = match max_rate {
            "" => None,
            rate => Some(bytes(rate).ok_or_else(|| {
                Error::usage("--max-rate is a number of bytes a second, as in 500k or 10M")
            })?),
        };
        Ok(Wish {
            to,
            rekey,
            dry_run,
            max_rate,
        })
    }

    /// Whether there is nothing that mail of a folder could become, since new mail isn't encrypted.
    pub fn is_pointless(&self, current: &Current) -> bool {
        self.to == Target::Encrypted && current.version == SaveVersion::ReadOnly
    }

    /// Whether mail of a folder can become what is wanted.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] where it can't.
    pub fn check(&self, current: &Current, settings: &Settings) -> Result<()> {
        match (self.to, current.version) {
            (Target::Plain, _) if !settings.read_plain => Err(Error::setting(format!(
                "{} = no, so nobody could read mail that becomes plaintext",
                settings.name(Setting::ReadPlain)
            ))),
            (Target::Plain, _) | (Target::Encrypted, SaveVersion::V2) => Ok(()),
            (Target::Encrypted, SaveVersion::V1) if !self.rekey => Ok(()),
            (Target::Encrypted, SaveVersion::V1) => Err(Error::setting(
                "new mail is encrypted in version 1, so there is nothing better to convert mail to",
            )),
            (Target::Encrypted, SaveVersion::ReadOnly) => Err(Error::setting(
                "new mail isn't encrypted, so mail can't become as new mail is",
            )),
        }
    }

    /// What is to be done with a mail of `size` bytes.
    ///
    /// # Errors
    /// Why the mail, which can't be read, has to be left.
    pub fn action(&self, found: &Found, size: u64) -> Result<Action> {
        match (self.to, found.state) {
            // Who asks for encrypted mail wants it in this plugin's format.
            (Target::Encrypted, State::OldKey) if found.trees => Ok(Action::Reencrypt),
            (_, State::Unreadable | State::Twice) => {
                let error = found.error.clone();
                Err(error.unwrap_or_else(|| Error::corrupt("it can't be read")))
            }
            // A stream without content has no bytes.
            (_, State::Plain) if size == 0 => Ok(Action::Leave),
            (Target::Encrypted, State::Plain) => Ok(Action::Encrypt),
            (Target::Plain, State::Plain) | (Target::Encrypted, State::Active) => Ok(Action::Leave),
            (Target::Encrypted, State::OtherForm | State::OldKey | State::Version1) => {
                Ok(if self.rekey {
                    Action::Reencrypt
                } else {
                    Action::Older
                })
            }
            (Target::Plain, State::Active | State::OtherForm | State::OldKey | State::Version1) => {
                Ok(Action::Decrypt)
            }
        }
    }
}

/// A number, and k, M or G after it.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(unit).filter(|rate| *rate > 0)
}

/// Makes sure that a mail of TREES with `stored` bytes is as large as its file's name says (`recorded`): Dovecot goes by
/// that once the mail is converted, and TREES has counted the last chunk twice.
///
/// # Errors
/// [`crate::ErrorKind::Setting`], with the setting that has Dovecot pass over names.
pub fn check_name(found: &Found, stored: u64, recorded: Option<u64>) -> Result<()> {
    let Some(recorded) = recorded.filter(|_| found.trees) else {
        return Ok(());
    };
    let size = plain_size(stored)?;
    if size == recorded {
        return Ok(());
    }
    Err(Error::setting(format!(
        "its file's name says {recorded} bytes, which TREES has miscounted: it has {size}. Set \
         maildir_broken_filename_sizes = yes"
    )))
}

/// What is to be done with a mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is what it should be.
    Leave,
    /// Nothing, as long as nobody asks for `--rekey`.
    Older,
    /// Plaintext is encrypted.
    Encrypt,
    /// It is encrypted anew.
    Reencrypt,
    /// It is decrypted.
    Decrypt,
}

/// Compares the content of a mail before and after. Without the run's random key nothing can be told from what it
/// remembers.
pub struct Comparison {
    key: Secret,
    before: Option<Hmac>,
    after: Option<Hmac>,
}

impl Comparison {
    /// For mails, one after the other.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn new() -> Result<Self> {
        let mut key = Secret::zeroed(32);
        crypto::random(&mut key)?;
        Ok(Comparison {
            key,
            before: None,
            after: None,
        })
    }

    /// Begins with the next mail.
    ///
    /// # Errors
    /// Where libcrypto fails.
    pub fn begin(&mut self) -> Result<()> {
        self.before = Some(Hmac::new(Digest::Sha256, &self.key)?);
        self.after = Some(Hmac::new(Digest::Sha256, &self.key)?);
        Ok(())
    }

    /// Takes the next bytes of the mail's content, as it was read or (`after`) as it reads now.
    ///
    /// # Errors
    /// Where libcrypto fails.
    pub fn update(&mut self, after: bool, data: &[u8]) -> Result<()> {
        let hash = if after {
            &mut self.after
        } else {
            &mut self.before
        };
        hash.as_mut().ok_or_else(not_begun)?.update(data)
    }

    /// Makes sure that the content is the same.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] where it isn't.
    pub fn finish(&mut self) -> Result<()> {
        let before = self.before.take().ok_or_else(not_begun)?.finish()?;
        let after = self.after.take().ok_or_else(not_begun)?.finish()?;
        if !crypto::ct_eq(&before, &after) {
            return Err(Error::internal(
                "what was written isn't what was read, and the mail was left as it is",
            ));
        }
        Ok(())
    }
}

fn not_begun() -> Error {
    Error::internal("no mail is being compared")
}

/// How long to wait after so many `bytes` in `elapsed`, in order not to be faster than `rate`.
pub fn pause(rate: u64, bytes: u64, elapsed: Duration) -> Duration {
    let due = bytes as f64 / rate as f64;
    Duration::from_secs_f64(due.min(1e9)).saturating_sub(elapsed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::state::{LOOK_SIZE, look};
    use crate::store::testing::{Mailbox, Session, SharedDict, keyring};
    use crate::stream::Sizes;

    fn wish(to: &str, rekey: bool) -> Wish {
        Wish::parse(to, rekey, false, "").unwrap()
    }

    fn found(state: State) -> Found {
        let mut found = Found::unreadable(Error::corrupt("why"));
        found.state = state;
        found
    }

    const ALL: [State; 7] = [
        State::Active,
        State::OtherForm,
        State::OldKey,
        State::Version1,
        State::Plain,
        State::Twice,
        State::Unreadable,
    ];

    #[test]
    fn parameters_that_mean_nothing_are_refused() {
        for (to, rekey, rate) in [
            ("cipher", false, ""),
            ("plain", true, ""),
            ("", false, "0"),
            ("", false, "M"),
            ("", false, "10 MB"),
            ("", false, "99999999999999999999G"),
        ] {
            let wish = Wish::parse(to, rekey, false, rate);
            assert_eq!(wish.err().map(|e| e.kind()), Some(ErrorKind::Usage));
        }
        let wish = Wish::parse("", true, true, "10M").unwrap();
        assert_eq!(wish.to, Target::Encrypted);
        assert_eq!(wish.max_rate, Some(10 << 20));
    }

    #[test]
    fn what_cannot_be_read_and_what_is_encrypted_twice_is_never_touched() {
        for wish in [
            wish("encrypted", false),
            wish("encrypted", true),
            wish("plain", false),
        ] {
            for state in [State::Twice, State::Unreadable] {
                assert!(wish.action(&found(state), 100).is_err());
            }
        }
    }

    #[test]
    fn only_plaintext_is_encrypted_unless_older_mail_is_wanted_too() {
        let only = ALL.map(|state| wish("", false).action(&found(state), 100).ok());
        let too = ALL.map(|state| wish("", true).action(&found(state), 100).ok());
        let (leave, older) = (Some(Action::Leave), Some(Action::Older));
        let (again, new) = (Some(Action::Reencrypt), Some(Action::Encrypt));
        assert_eq!(only, [leave, older, older, older, new, None, None]);
        assert_eq!(too, [leave, again, again, again, new, None, None]);
    }

    #[test]
    fn all_that_is_encrypted_becomes_plaintext() {
        let plain = ALL.map(|state| wish("plain", false).action(&found(state), 100).ok());
        let decrypt = Some(Action::Decrypt);
        let leave = Some(Action::Leave);
        assert_eq!(
            plain,
            [decrypt, decrypt, decrypt, decrypt, leave, None, None]
        );
    }

    #[test]
    fn mail_of_trees_is_converted_without_being_asked_for() {
        let mut mail = found(State::OldKey);
        mail.trees = true;
        let action = |to: &str| wish(to, false).action(&mail, 100).unwrap();
        assert_eq!(action("encrypted"), Action::Reencrypt);
        assert_eq!(action("plain"), Action::Decrypt);
        // A header, and an empty chunk.
        check_name(&mail, 55, None).unwrap();
        check_name(&mail, 55, Some(0)).unwrap();
        assert!(check_name(&mail, 155, Some(200)).is_err());
        check_name(&found(State::OldKey), 155, Some(200)).unwrap();
    }

    #[test]
    fn an_empty_mail_is_left() {
        let action = wish("", false).action(&found(State::Plain), 0).unwrap();
        assert_eq!(action, Action::Leave);
    }

    #[test]
    fn nothing_is_encrypted_where_new_mail_is_not() {
        let dict = SharedDict::default();
        let mut folder = Mailbox::new(&dict, "Work");
        let mut session = Session::new(&dict);
        let mut check = |version: &str, wish: Wish| {
            let mut ring = keyring(&[("mail_crypt_save_version", version)]);
            let current = Current::of(&mut ring, &mut folder, &mut session).unwrap();
            let allowed = wish.check(&current, ring.settings());
            assert!(!wish.is_pointless(&current) || allowed.is_err());
            allowed
        };
        assert!(check("0", wish("", false)).is_err());
        check("0", wish("plain", false)).unwrap();
        check("1", wish("", false)).unwrap();
        assert!(check("1", wish("", true)).is_err());
        check("2", wish("", true)).unwrap();
    }

    #[test]
    fn nothing_becomes_plaintext_that_would_be_refused() {
        let dict = SharedDict::default();
        let mut folder = Mailbox::new(&dict, "Work");
        let mut session = Session::new(&dict);
        let mut ring = keyring(&[("mail_crypt_read_plain", "no")]);
        let current = Current::of(&mut ring, &mut folder, &mut session).unwrap();
        let error = wish("plain", false).check(&current, ring.settings());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Setting);
        wish("", false).check(&current, ring.settings()).unwrap();
    }

    #[test]
    fn what_was_converted_needs_no_second_conversion() {
        let dict = SharedDict::default();
        let mut folder = Mailbox::new(&dict, "Work");
        let mut session = Session::new(&dict);
        let mut ring = keyring(&[]);
        let mut writer =
            crate::store::Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
        let mut stored = writer.update(b"Subject: hi\n\n").unwrap().to_vec();
        stored.extend_from_slice(writer.finish().unwrap());
        assert!(stored.len() < LOOK_SIZE);
        let current = Current::of(&mut ring, &mut folder, &mut session).unwrap();
        let sizes = Sizes {
            recorded: None,
            with_crlf: None,
            actual: None,
        };
        let found = look(&stored, sizes, &current);
        let action = wish("", true).action(&found, stored.len() as u64);
        assert_eq!(action.unwrap(), Action::Leave);
    }

    #[test]
    fn a_changed_byte_or_a_missing_one_is_noticed() {
        let mut comparison = Comparison::new().unwrap();
        let mut same = |after: &[&[u8]]| {
            comparison.begin().unwrap();
            comparison.update(false, b"a mail").unwrap();
            for part in after {
                comparison.update(true, part).unwrap();
            }
            comparison.finish().is_ok()
        };
        assert!(same(&[b"a ", b"mail"]));
        assert!(!same(&[b"a main"]));
        assert!(!same(&[b"a mai"]));
        assert!(!same(&[]));
        assert!(comparison.finish().is_err(), "no mail was begun");
    }

    #[test]
    fn it_waits_as_long_as_the_rate_asks_for() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(100, 300, second), 2 * second);
        assert_eq!(pause(100, 50, second), Duration::ZERO);
        assert!(pause(1, u64::MAX, second) > second);
    }
}
