//! In which state a mail lies on the disk. What converts mail and what checks it go by this.
#![forbid(unsafe_code)]

use super::attributes::{Attributes, Host, Level};
use super::keyring::Keyring;
use super::settings::SaveVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::format::stream::{Header, MAX_HEADER, Version, header_len};
use crate::format::trees::{check_header, is_trees};
use crate::key::{KeyId, KeyType, PublicKey};
use crate::stream::{Algorithm, Sizes, is_encrypted, is_encrypted_mail, refuse_damaged};

/// So many bytes of a file say all that can be told without opening it.
pub const LOOK_SIZE: usize = MAX_HEADER;

/// How a mail is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// As new mail of the folder is: to its active key.
    Active,
    /// Encrypted to the active key, but not as new mail is: with another algorithm, or with more
    /// key derivation rounds.
    OtherForm,
    /// Encrypted to a key that isn't the active one.
    OldKey,
    /// In version 1 of the format, to whichever key: nothing proves that it wasn't changed.
    Version1,
    /// Not encrypted.
    Plain,
    /// Encrypted once more inside. Only who opens a mail can tell: see [`Found::inside`].
    Twice,
    /// Damaged, or of a kind that nobody here can read.
    Unreadable,
}

/// What a mail's first bytes tell.
#[derive(Debug)]
pub struct Found {
    /// The state.
    pub state: State,
    /// The keys that it is encrypted to, by the ids in its header (version 1: old ids).
    pub keys: Vec<KeyId>,
    /// Whether the active key is one of them.
    pub to_active: bool,
    /// TREES wrote it. Nobody can tell for which key; it is a [`State::OldKey`].
    pub trees: bool,
    /// Why it is [`State::Unreadable`] or [`State::Twice`].
    pub error: Option<Error>,
}

/// What new mail of a folder is encrypted to, and how.
pub struct Current {
    /// Its version of the format, or that none is encrypted.
    pub version: SaveVersion,
    /// The key; `None` where the folder has none yet, or no new mail is encrypted.
    pub key: Option<PublicKey>,
    algorithm: Algorithm,
}

impl Current {
    /// What the user's settings and the folder's attributes say now. No key is made.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] where the settings can't be used, [`ErrorKind::Keyless`] where the active key is
    /// gone, [`ErrorKind::Store`] where the dict can't answer.
    pub fn of(
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Self> {
        let writing = ring.settings().writing()?;
        let (version, algorithm) = (writing.version, writing.algorithm);
        let key = match (version, ring.settings().global_public()?) {
            (SaveVersion::ReadOnly, _) => None,
            (_, Some(global)) => Some(global.clone()),
            (_, None) => ring.active_public(Level::Folder, folder, host)?,
        };
        Ok(Current {
            version,
            key,
            algorithm,
        })
    }

    /// The same where the active key is gone: no new mail can be stored.
    ///
    /// # Errors
    /// As [`Current::of`].
    pub fn without_key(ring: &Keyring) -> Result<Self> {
        let writing = ring.settings().writing()?;
        Ok(Current {
            version: writing.version,
            key: None,
            algorithm: writing.algorithm,
        })
    }

    fn is_to_active(&self, keys: &[KeyId]) -> bool {
        let key = self.key.as_ref();
        key.is_some_and(|key| keys.iter().any(|id| key.matches(id)))
    }

    /// Whether a mail with this header was written as one is today.
    fn is_form(&self, header: &Header) -> bool {
        let rsa = self.key.as_ref().map(PublicKey::key_type) == Some(KeyType::Rsa);
        self.algorithm.writes(header) || rsa && self.algorithm.writes_payload(header)
    }
}

/// Tells the state of a mail from `start`, its first [`LOOK_SIZE`] bytes, or all of it if it is shorter. For a mail
/// that isn't encrypted `sizes` tell whether it was.
pub fn look(start: &[u8], sizes: Sizes, current: &Current) -> Found {
    if is_trees(start) {
        return match check_header(start) {
            Ok(()) => Found::trees(),
            Err(e) => Found::unreadable(e),
        };
    }
    if !is_encrypted(start) {
        return match refuse_damaged(start, sizes) {
            Ok(()) => Found::plain(),
            Err(e) => Found::unreadable(e.context("not the mail that was stored")),
        };
    }
    match header(start) {
        Ok(header) => encrypted(&header, current),
        Err(e) => Found::unreadable(e),
    }
}

fn header(start: &[u8]) -> Result<Header> {
    let whole = header_len(start)?.and_then(|len| start.get(..len));
    let whole = whole.ok_or_else(|| Error::truncated("the file ends within its header"))?;
    Header::parse(whole)
}

fn encrypted(header: &Header, current: &Current) -> Found {
    let keys: Vec<_> = header.recipients.iter().map(|to| KeyId(to.id)).collect();
    let to_active = current.is_to_active(&keys);
    let state = match (header.version, to_active) {
        (Version::V1, _) => State::Version1,
        (Version::V2, false) => State::OldKey,
        (Version::V2, true) if current.is_form(header) => State::Active,
        (Version::V2, true) => State::OtherForm,
    };
    Found {
        state,
        keys,
        to_active,
        trees: false,
        error: None,
    }
}

impl Found {
    fn plain() -> Self {
        Found {
            state: State::Plain,
            keys: Vec::new(),
            to_active: false,
            trees: false,
            error: None,
        }
    }

    fn trees() -> Self {
        Found {
            state: State::OldKey,
            trees: true,
            ..Self::plain()
        }
    }

    /// Of a mail that can't be read.
    pub fn unreadable(error: Error) -> Self {
        Found {
            state: State::Unreadable,
            error: Some(error),
            ..Self::plain()
        }
    }

    /// Looks at `start`, the first bytes of the opened mail (decompressed, if it is packed): it may be encrypted once
    /// more.
    pub fn inside(&mut self, start: &[u8]) {
        if self.is_encrypted() && is_encrypted_mail(start) {
            self.state = State::Twice;
            self.error = Some(twice());
        }
    }

    /// Takes note of why the mail, which looked as if it could be read, can't be.
    pub fn failed(&mut self, error: Error) {
        self.state = State::Unreadable;
        self.error = Some(error);
    }

    /// Whether it is encrypted, as far as it can be told without opening it.
    pub fn is_encrypted(&self) -> bool {
        match self.state {
            State::Plain | State::Unreadable => false,
            State::Active | State::OtherForm | State::OldKey | State::Version1 | State::Twice => {
                true
            }
        }
    }
}

/// Why nothing is done with a mail that is encrypted twice.
pub fn twice() -> Error {
    Error::new(
        ErrorKind::Refused,
        "encrypted twice: mail-crypt decrypt --twice gets the mail",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;
    use crate::store::testing::{Mailbox, Session, SharedDict, keyring};
    use crate::stream::{Encryptor, Sender};

    const UNKNOWN: Sizes = Sizes {
        recorded: None,
        with_crlf: None,
        actual: None,
    };
    const MAIL: &[u8] = b"From: <a@example.org>\nSubject: hi\n\nbody\n";

    fn key() -> PrivateKey {
        PrivateKey::generate("prime256v1").unwrap()
    }

    fn current(key: Option<&PrivateKey>) -> Current {
        Current {
            version: SaveVersion::V2,
            key: key.map(PrivateKey::public),
            algorithm: Algorithm::default(),
        }
    }

    fn encrypted(key: &PrivateKey, version: Version, algorithm: &str, mail: &[u8]) -> Vec<u8> {
        let mut sender = Sender::new(key.public());
        let algorithm = algorithm.parse().unwrap();
        let mut encryptor = Encryptor::new(&algorithm, version, &mut sender).unwrap();
        let mut file = Vec::new();
        encryptor.update(mail, &mut file).unwrap();
        encryptor.finish(&mut file).unwrap();
        file
    }

    fn today(key: &PrivateKey) -> Vec<u8> {
        encrypted(key, Version::V2, "aes-256-gcm-sha256", MAIL)
    }

    #[test]
    fn the_active_key_is_told_from_an_older_one_and_from_none() {
        let (active, old) = (key(), key());
        let mail = today(&active);
        let found = look(&mail, UNKNOWN, &current(Some(&active)));
        assert_eq!(found.state, State::Active);
        assert_eq!(found.keys, [active.id()]);
        assert!(found.to_active);
        for other in [Some(&old), None] {
            let found = look(&mail, UNKNOWN, &current(other));
            assert_eq!(found.state, State::OldKey);
            assert!(!found.to_active);
        }
    }

    #[test]
    fn what_new_mail_would_not_look_like_is_of_another_form() {
        let active = key();
        let other = encrypted(&active, Version::V2, "aes-256-cbc-sha256", MAIL);
        let found = look(&other, UNKNOWN, &current(Some(&active)));
        assert_eq!(found.state, State::OtherForm);
        // The packaged plugin's rounds.
        let mail = today(&active);
        let mut header = header(&mail).unwrap();
        header.rounds = 2048;
        let found = look(&header.write().unwrap(), UNKNOWN, &current(Some(&active)));
        assert_eq!(found.state, State::OtherForm);
        assert!(found.to_active);
    }

    #[test]
    fn mail_of_trees_is_told_by_its_first_bytes() {
        let look_at = |version| {
            let file = [&[0xee, 0xff, 0xcc, 0, 0, 0, version], &[7; 48][..]].concat();
            look(&file, UNKNOWN, &current(Some(&key())))
        };
        let found = look_at(1);
        assert_eq!((found.state, found.trees), (State::OldKey, true));
        assert!(found.keys.is_empty() && found.is_encrypted());
        assert_eq!(look_at(2).state, State::Unreadable);
    }

    #[test]
    fn version_1_is_named_whatever_its_key() {
        let active = key();
        let mail = encrypted(&active, Version::V1, "aes-256-gcm-sha256", MAIL);
        let found = look(&mail, UNKNOWN, &current(Some(&active)));
        assert_eq!(found.state, State::Version1);
        assert!(found.to_active);
        let found = look(&mail, UNKNOWN, &current(Some(&key())));
        assert_eq!(found.state, State::Version1);
        assert!(!found.to_active);
    }

    #[test]
    fn plaintext_is_told_from_what_is_left_of_an_encrypted_mail() {
        let active = key();
        let current = current(Some(&active));
        for mail in [MAIL, b"", b"CRYPTED: a header of that name\n\nbody\n"] {
            assert_eq!(look(mail, UNKNOWN, &current).state, State::Plain);
        }
        let mail = today(&active);
        let mut damaged = mail.clone();
        damaged[0] ^= 1;
        for left in [&damaged[..], &mail[..5], &mail[..40]] {
            let found = look(left, UNKNOWN, &current);
            assert_eq!(found.state, State::Unreadable);
            assert!(found.error.is_some());
        }
    }

    #[test]
    fn what_is_inside_shows_that_a_mail_is_encrypted_twice() {
        let active = key();
        let current = current(Some(&active));
        let inner = today(&active);
        let mut found = look(&today(&active), UNKNOWN, &current);
        found.inside(MAIL);
        assert_eq!(found.state, State::Active);
        found.inside(&inner);
        assert_eq!(found.state, State::Twice);
        assert!(found.is_encrypted());
    }

    #[test]
    fn asking_what_is_current_makes_no_key() {
        let dict = SharedDict::default();
        let mut folder = Mailbox::new(&dict, "Work");
        let mut session = Session::new(&dict);
        let mut ring = keyring(&[]);
        let none = Current::of(&mut ring, &mut folder, &mut session).unwrap();
        assert!(none.key.is_none());
        assert!(dict.borrow().entries.is_empty());
        let sender = ring.sender(&mut folder, &mut session).unwrap();
        let some = Current::of(&mut ring, &mut folder, &mut session).unwrap();
        assert_eq!(some.key.map(|key| key.id()), Some(sender.borrow().id()));
        let mut off = keyring(&[("mail_crypt_save_version", "0")]);
        let none = Current::of(&mut off, &mut folder, &mut session).unwrap();
        assert!(none.key.is_none());
    }
}
