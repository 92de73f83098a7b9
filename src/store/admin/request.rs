//! What the administrator wants.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::attributes::Host;
use super::super::events::{Change, Happened, kind};
use super::plan::Task;
use crate::crypto::Secret;
use crate::error::{Error, Result};
use crate::format::pem;
use crate::key::{PrivateKey, PublicKey, StoredKey};

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `cryptokey generate`
    Generate,
    /// `cryptokey list`
    List,
    /// `cryptokey export`
    Export,
    /// `cryptokey password`
    Password,
    /// `cryptokey import`
    Import,
    /// `cryptokey delete`
    Delete,
    /// `cryptokey slot list`
    SlotList,
    /// `cryptokey slot add`
    SlotAdd,
    /// `cryptokey slot remove`
    SlotRemove,
    /// `cryptokey slot test`
    SlotTest,
    /// `cryptokey reset`
    Reset,
    /// `cryptokey reopen`
    Reopen,
    /// `cryptokey rotate`
    Rotate,
}

/// A command with its parameters.
#[derive(Default)]
pub struct Request {
    /// The command.
    pub verb: Option<Verb>,
    /// `-U`: it is about the user's own keys.
    pub user_key: bool,
    /// `-R`: folder keys are put under the active user key.
    pub rekey: bool,
    /// `-f`
    pub force: bool,
    /// One of the masks stands for all folders.
    pub all: bool,
    /// `rotate`: folders get new keys, too.
    pub folders: bool,
    /// `reset`: without opening anything.
    pub abandon: bool,
    /// `list`: what needs older keys.
    pub needed: bool,
    /// `password`: back to the last one.
    pub undo: bool,
    /// `password`: the old strings are not kept.
    pub no_undo: bool,
    /// `password`: as the packaged plugin can open it.
    pub compat: bool,
    /// `password`: to none.
    pub clear: bool,
    /// `slot add`: the secret is given.
    pub given: bool,
    /// A key comes before the secrets.
    pub key_in_input: bool,
    /// `slot add`: the type.
    pub slot_type: String,
    /// The slot's name; empty: by its type.
    pub slot: String,
    /// The slot's label.
    pub label: String,
    /// The keys to delete.
    pub key_ids: Vec<String>,
    /// `password`: the old one; without it the configured one.
    pub old: Option<Secret>,
    /// `password`: the new one.
    pub new: Option<Secret>,
    /// Standard input: the key to import, or secrets, one a line.
    pub input: Secret,
}

impl Request {
    /// Tells what became of a step, if it changes keys. Of new ones the keyring tells.
    pub(super) fn tell(&self, task: Task, done: &Result<()>, host: &dyn Host) {
        let change = match task {
            Task::Password if self.undo => Change::PasswordUndone,
            Task::Password if self.clear => Change::PasswordCleared,
            Task::Password => Change::Password,
            Task::Reset if self.abandon => Change::Abandoned,
            Task::Reset => Change::Reset,
            Task::Reopen => Change::Reopened,
            Task::Rekey => Change::Rekeyed,
            Task::Import => Change::Imported,
            Task::Delete => Change::Deleted,
            Task::SlotAdd => Change::SlotAdded,
            Task::SlotRemove => Change::SlotRemoved,
            _ => return,
        };
        let error = kind(done);
        host.events().emit(Happened::changed(change, error));
    }
}

/// What stood in standard input.
pub(super) struct Input {
    /// The key before the secrets.
    pub key: Option<Zeroizing<String>>,
    /// The secrets.
    pub lines: Vec<Secret>,
}

impl Input {
    /// Takes `input` apart.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`]: what is wrong with it, without any of it.
    pub(super) fn read(input: &[u8], with_key: bool) -> Result<Self> {
        if input.contains(&0) {
            return Err(Error::setting("there is a NUL byte in the input"));
        }
        let (key, rest) = if with_key {
            split_key(input)?
        } else {
            (None, input)
        };
        let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
        let lines = rest.split(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let lines = lines.filter(|_| !rest.is_empty());
        Ok(Input {
            key,
            lines: lines.map(|line| line.iter().copied().collect()).collect(),
        })
    }

    /// The secret that opens what is there, if it was given, and the `wanted` new ones after it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] for another number of lines, with what was expected.
    pub(super) fn split<const N: usize>(
        mut self,
        wanted: [&str; N],
    ) -> Result<(Option<Secret>, [Secret; N])> {
        let found = self.lines.len();
        let opener = (found == N + 1).then(|| self.lines.remove(0));
        let new: std::result::Result<[Secret; N], _> = self.lines.try_into();
        let Ok(new) = new else {
            let opener = "what opens the keys, or nothing where that is configured";
            let lines: Vec<&str> = std::iter::once(opener).chain(wanted).collect();
            return Err(Error::setting(format!(
                "there are {found} lines in the input; expected are, one a line: {}",
                lines.join("; ")
            )));
        };
        match new.iter().position(|secret| secret.is_empty()) {
            Some(at) => Err(Error::setting(format!(
                "{} is empty",
                wanted.get(at).copied().unwrap_or("a secret")
            ))),
            None => Ok((opener.filter(|secret| !secret.is_empty()), new)),
        }
    }

    /// The private key that came with the command; where it is under a password, the first line has that.
    ///
    /// # Errors
    /// What parsing and unlocking say.
    pub(super) fn take_private_key(&mut self) -> Result<Option<PrivateKey>> {
        let Some(text) = self.key.take() else {
            return Ok(None);
        };
        let stored = StoredKey::parse(&text).map_err(|e| e.context("the given key"))?;
        let key = match stored.unlock() {
            Err(e) if e.kind() == crate::ErrorKind::NoKey && !self.lines.is_empty() => {
                stored.unlock_with_password(&self.lines.remove(0))
            }
            unlocked => unlocked,
        };
        key.map(Some).map_err(|e| e.context("the given key"))
    }

    /// The public key that came with the command.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where there is none; what parsing says.
    pub(super) fn public_key(&self) -> Result<PublicKey> {
        let Some(text) = &self.key else {
            return Err(Error::usage(
                "a public key is needed: give its file with -k",
            ));
        };
        PublicKey::parse(text).map_err(|e| e.context("the given key"))
    }
}

/// A key's text, and what follows it: PEM to its end, anything else to the end of its line.
fn split_key(input: &[u8]) -> Result<(Option<Zeroizing<String>>, &[u8])> {
    let is_pem = input.starts_with(pem::BEGIN.as_bytes());
    let mut end = 0;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        if !is_pem || line.starts_with(b"-----END ") {
            break;
        }
    }
    let (key, rest) = input.split_at(end);
    let key = std::str::from_utf8(key).map_err(|_| Error::corrupt("the given key is not text"))?;
    if key.trim().is_empty() {
        return Err(Error::setting("the file of the key is empty"));
    }
    Ok((Some(Zeroizing::new(key.to_owned())), rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Vec<u8>> {
        let input = Input::read(input, false).unwrap();
        input.lines.iter().map(|line| line.to_vec()).collect()
    }

    #[test]
    fn secrets_are_lines() {
        assert_eq!(lines(b""), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"a"), [b"a"]);
        assert_eq!(lines(b"a\n"), [b"a"]);
        assert_eq!(lines(b"a\r\nb\r\n"), [b"a", b"b"]);
        assert_eq!(lines(b"\nb"), [b"".as_slice(), b"b"]);
        assert!(Input::read(b"a\0b", false).is_err());
    }

    #[test]
    fn what_opens_comes_first_and_may_be_left_out() {
        let split = |input: &[u8]| {
            Input::read(input, false)
                .unwrap()
                .split(["the new password"])
        };
        let (opener, [new]) = split(b"old\nnew\n").unwrap();
        assert_eq!((&*opener.unwrap(), &*new), (&b"old"[..], &b"new"[..]));
        let (opener, [new]) = split(b"new").unwrap();
        assert_eq!((opener.is_none(), &*new), (true, &b"new"[..]));
        let (opener, _) = split(b"\nnew").unwrap();
        assert!(opener.is_none());
        for wrong in ["", "a\nb\nc", "old\n\n"] {
            let error = split(wrong.as_bytes()).err().unwrap().to_string();
            assert!(error.contains("the new password"), "{error}");
        }
    }

    #[test]
    fn a_key_may_come_first() {
        let pem = "-----BEGIN X-----\nAA==\n-----END X-----\n";
        let input = Input::read(format!("{pem}new\n").as_bytes(), true).unwrap();
        assert_eq!(input.key.unwrap().as_str(), pem);
        assert_eq!(input.lines.len(), 1);
        let input = Input::read(b"2:key\nnew\n", true).unwrap();
        assert_eq!(input.key.unwrap().as_str(), "2:key\n");
        assert_eq!(input.lines.len(), 1);
        assert!(Input::read(b"\nnew\n", true).is_err());
    }
}
