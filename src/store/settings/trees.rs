//! The fields of a user who comes from TREES, by the names that TREES gave them.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::super::names::trees as name;
use super::ask::{shown, text};
use super::{Lookup, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::format::trees::VERSION;
use crate::hex;
use crate::key::trees::{LockedTreesKey, SECRETBOX, Stretch, TreesKey};

/// What opens a user's mail of TREES, if the user has any.
#[derive(Clone)]
pub struct Trees {
    enabled: bool,
    locked: Result<Locked>,
}

#[derive(Clone)]
struct Locked {
    public: Option<[u8; 32]>,
    private: LockedTreesKey,
    by: By,
}

/// What opens the box with the private key.
#[derive(Clone)]
enum By {
    Key(Zeroizing<[u8; 32]>),
    Password(Value, Stretch),
    /// Nobody has logged in, as when a mail is delivered.
    Nothing,
}

impl Trees {
    /// Reads what `lookup` answers. What is wrong with it is an error of mail of TREES alone.
    pub fn load(lookup: &mut Lookup<'_>) -> Self {
        let mut fields = Fields(lookup);
        Trees {
            enabled: fields.enabled(),
            locked: fields.locked(),
        }
    }

    /// For a user without any.
    pub fn none() -> Self {
        Self::load(&mut |_| None)
    }

    /// The fields can't be had, because of `error`.
    pub(super) fn unusable(error: Error) -> Self {
        Trees {
            enabled: true,
            locked: Err(error),
        }
    }

    /// The user's key. This takes as long as TREES' login.
    ///
    /// # Errors
    /// [`ErrorKind::NoKey`] where it isn't enabled, [`ErrorKind::Locked`] without a password,
    /// [`ErrorKind::WrongPassword`], [`ErrorKind::Setting`], each with the field that is to blame.
    pub fn unlock(&self) -> Result<TreesKey> {
        if !self.enabled {
            return Err(no_key(format!(
                "it was written by TREES, and {} is not 1 for this user",
                name::ENABLED
            )));
        }
        let locked = self.locked.as_ref().map_err(Error::clone)?;
        let key = match &locked.by {
            By::Key(key) => locked
                .private
                .open(key)
                .map_err(|e| e.context(name::SECRETBOX_KEY)),
            By::Password(password, stretch) => locked
                .private
                .open_with_password(password, stretch)
                .map_err(|e| e.context(name::PASSWORD)),
            By::Nothing => Err(Error::new(
                ErrorKind::Locked,
                format!(
                    "it was written by TREES, and neither {} nor {} is there to unlock the user's key",
                    name::PASSWORD,
                    name::SECRETBOX_KEY
                ),
            )),
        }?;
        if locked.public.is_some_and(|public| public != key.public()) {
            return Err(Error::setting(format!(
                "{} doesn't belong to the key in {}",
                name::PUBLIC_KEY,
                name::LOCKED_SECRETBOX
            )));
        }
        Ok(key)
    }
}

fn no_key(text: String) -> Error {
    Error::new(ErrorKind::NoKey, text)
}

struct Fields<'a, 'b>(&'a mut Lookup<'b>);

impl Fields<'_, '_> {
    /// A field without a value is none, as an outer join gives it.
    fn value(&mut self, name: &str) -> Option<Value> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&mut self, name: &str) -> Option<Zeroizing<String>> {
        let text = self.value(name).as_ref().map(text)?;
        Some(Zeroizing::new(text.trim().to_owned()))
    }

    fn needed(&mut self, name: &str) -> Result<Zeroizing<String>> {
        self.text(name).ok_or_else(|| {
            Error::setting(format!("it was written by TREES, and {name} is not set"))
        })
    }

    /// As Dovecot reads a boolean.
    fn enabled(&mut self) -> bool {
        let text = self.text(name::ENABLED);
        text.is_some_and(|text| !text.starts_with(['0', 'n', 'N', 'f', 'F']))
    }

    fn locked(&mut self) -> Result<Locked> {
        if let Some(version) = self.text(name::VERSION) {
            if version.as_str() != VERSION.to_string() {
                let version = shown(&version);
                return Err(Error::setting(format!(
                    "{} is {version}: only {VERSION} is known",
                    name::VERSION
                )));
            }
        }
        let public = match self.text(name::PUBLIC_KEY) {
            Some(_) => Some(*self.bytes(name::PUBLIC_KEY)?),
            None => None,
        };
        Ok(Locked {
            public,
            private: LockedTreesKey {
                secretbox: *self.bytes::<SECRETBOX>(name::LOCKED_SECRETBOX)?,
                nonce: *self.bytes(name::SK_NONCE)?,
            },
            by: self.by()?,
        })
    }

    fn by(&mut self) -> Result<By> {
        if self.text(name::SECRETBOX_KEY).is_some() {
            return Ok(By::Key(self.bytes(name::SECRETBOX_KEY)?));
        }
        let Some(password) = self.value(name::PASSWORD) else {
            return Ok(By::Nothing);
        };
        let algorithm = self.number(name::PWHASH_ALGO)?;
        let passes = self.number(name::PWHASH_OPSLIMIT)?;
        let memory = self.number(name::PWHASH_MEMLIMIT)?;
        let salt = *self.bytes(name::PWHASH_SALT)?;
        let stretch = Stretch::new(algorithm, passes, memory, salt);
        let stretch = stretch.map_err(|e| Error::setting(format!("trees_pwhash_*: {e}")))?;
        Ok(By::Password(password, stretch))
    }

    fn bytes<const N: usize>(&mut self, name: &str) -> Result<Zeroizing<[u8; N]>> {
        let text = self.needed(name)?;
        let wrong = |why: &str| Error::setting(format!("{name}: {why}"));
        let bytes = hex::decode(&text).map_err(|e| wrong(&e.to_string()))?;
        let bytes = <[u8; N]>::try_from(&bytes[..]).map(Zeroizing::new);
        bytes.map_err(|_| wrong(&format!("{N} bytes are needed, in hexadecimal digits")))
    }

    fn number(&mut self, name: &str) -> Result<u64> {
        let text = self.needed(name)?;
        let number = text
            .parse()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        number.ok_or_else(|| Error::setting(format!("{name} is '{}', and no number", shown(&text))))
    }
}

#[cfg(all(test, feature = "trees"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const ARGON2I: &str = include_str!("../../../tests/vectors/trees/argon2i.fields");
    const ARGON2ID: &str = include_str!("../../../tests/vectors/trees/argon2id.fields");
    const UNLOCK: &str = include_str!("../../../tests/vectors/trees/argon2id.secretbox-key");
    const PASSWORD: (&str, &str) = (name::PASSWORD, "c0rrect-h0rse");

    /// The key by the fields in `text`, with these in their place.
    fn unlock(text: &str, others: &[(&str, &str)]) -> Result<TreesKey> {
        let trees = Trees::load(&mut |name| {
            let other = others.iter().find(|(other, _)| *other == name);
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let given = other
                .copied()
                .or_else(|| lines.find(|(field, _)| *field == name));
            given.map(|(_, value)| Zeroizing::new(value.as_bytes().to_vec()))
        });
        trees.unlock()
    }

    fn error(others: &[(&str, &str)]) -> Error {
        let unlocked = unlock(ARGON2ID, others);
        unlocked.map(|_| ()).expect_err("it was unlocked")
    }

    #[test]
    fn the_password_or_what_it_becomes_unlocks() {
        unlock(ARGON2I, &[PASSWORD]).unwrap();
        unlock(ARGON2ID, &[PASSWORD]).unwrap();
        unlock(ARGON2ID, &[(name::SECRETBOX_KEY, UNLOCK)]).unwrap();
        // It goes first, as with TREES.
        let both = [(name::PASSWORD, "wrong"), (name::SECRETBOX_KEY, UNLOCK)];
        unlock(ARGON2ID, &both).unwrap();
        // TREES wants these; the mail needs neither.
        let less = [PASSWORD, (name::VERSION, ""), (name::PUBLIC_KEY, "")];
        unlock(ARGON2ID, &less).unwrap();
    }

    #[test]
    fn without_the_fields_there_is_no_key() {
        let none = Trees::none().unlock().map(|_| ()).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NoKey);
        for off in ["0", "", "no", "false"] {
            let e = error(&[PASSWORD, (name::ENABLED, off)]);
            assert_eq!(e.kind(), ErrorKind::NoKey);
            assert!(e.to_string().contains("trees_enabled is not 1"), "{e}");
        }
        assert_eq!(error(&[]).kind(), ErrorKind::Locked);
    }

    #[test]
    fn a_wrong_password_is_told_by_its_field() {
        let e = error(&[(name::PASSWORD, "wrong")]);
        assert_eq!(e.kind(), ErrorKind::WrongPassword);
        assert!(e.to_string().starts_with("trees_password: "), "{e}");
        let other = "00".repeat(32);
        let e = error(&[(name::SECRETBOX_KEY, &other)]);
        assert_eq!(e.kind(), ErrorKind::WrongPassword);
        assert!(e.to_string().starts_with("trees_secretbox_key: "), "{e}");
    }

    #[test]
    fn a_field_that_is_wrong_is_named_and_not_shown() {
        let needed = [
            name::LOCKED_SECRETBOX,
            name::SK_NONCE,
            name::PWHASH_ALGO,
            name::PWHASH_OPSLIMIT,
            name::PWHASH_MEMLIMIT,
            name::PWHASH_SALT,
        ];
        for name in needed {
            for value in ["", "zz", "1234567890123", "-1", "99999999999999999999999"] {
                let e = error(&[PASSWORD, (name, value)]);
                assert_eq!(e.kind(), ErrorKind::Setting, "{name}={value}");
                let pwhash = name.starts_with("trees_pwhash");
                let text = e.to_string();
                assert!(
                    text.contains(name) || pwhash && text.contains("trees_pwhash_*"),
                    "{e}"
                );
            }
        }
        for (name, value) in [
            (name::VERSION, "2"),
            (name::PUBLIC_KEY, "00"),
            (name::PUBLIC_KEY, &"00".repeat(32)),
            (name::SECRETBOX_KEY, "c0ffee"),
        ] {
            let e = error(&[PASSWORD, (name, value)]);
            assert_eq!(e.kind(), ErrorKind::Setting);
            assert!(e.to_string().contains(name), "{e}");
            assert!(value.len() < 3 || !e.to_string().contains(value), "{e}");
        }
    }
}
