//! Slots: key pairs under a secret of their own, to which a user's keys are encrypted.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::{KeyId, PrivateKey, Protect, Protection, PublicKey, StoredKey, wrap};
use crate::crypto::digest::Digest;
use crate::crypto::{Secret, argon2id, ct_eq, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::code;
use crate::format::slots::{Seal, Slot, SlotKey, SlotType, Stretch};

/// The curve of slots' keys.
const CURVE: &str = "prime256v1";
/// Bytes of new salts.
const SALT: usize = 16;
/// Separates the seal's key from whatever else is made from a user key.
const SEAL: &[u8] = b"mail_crypt slot seal 1";

/// What opens a slot.
pub enum SlotOpener<'a> {
    /// A secret, stretched as the slot says.
    Secret(&'a Stretch, &'a Secret),
    /// The private half of this key, which is elsewhere.
    Key(&'a PublicKey),
}

impl Stretch {
    /// PBKDF2 with a salt of its own.
    ///
    /// # Errors
    /// As [`random`].
    pub fn pbkdf2(rounds: u32) -> Result<Self> {
        let salt = new_salt()?;
        Ok(Stretch::Pbkdf2 { rounds, salt })
    }

    /// Argon2id with a salt of its own.
    ///
    /// # Errors
    /// As [`random`].
    pub fn argon2id((memory, passes, lanes): (u32, u32, u32)) -> Result<Self> {
        Ok(Stretch::Argon2id {
            memory,
            passes,
            lanes,
            salt: new_salt()?,
        })
    }

    /// The stretched secret.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn stretch(&self, secret: &[u8]) -> Result<Secret> {
        match self {
            Stretch::None => Ok(secret.iter().copied().collect()),
            Stretch::Pbkdf2 { rounds, salt } => Digest::Sha256.pbkdf2(secret, salt, *rounds, 32),
            Stretch::Argon2id {
                memory,
                passes,
                lanes,
                salt,
            } => argon2id(secret, salt, (*memory, *passes, *lanes)),
        }
    }

    /// Whether it costs so much that it is done once at most.
    pub fn is_expensive(&self) -> bool {
        *self != Stretch::None
    }
}

impl Slot {
    /// A new slot. It has no seal yet, and can't be stored without one.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn new(
        (name, slot_type, label): (&str, SlotType, &str),
        opener: SlotOpener<'_>,
    ) -> Result<Self> {
        let mut slot = Slot {
            name: name.to_owned(),
            slot_type,
            created: now(),
            label: label.to_owned(),
            stretch: Stretch::None,
            public: String::new(),
            private: None,
            seals: Vec::new(),
        };
        match opener {
            SlotOpener::Key(public) => slot.public = public.to_dovecot(),
            SlotOpener::Secret(stretch, stretched) => {
                let key = PrivateKey::generate(CURVE)?;
                slot.public = key.public().to_dovecot();
                slot.put_under(&key, stretch, stretched)?;
            }
        }
        Ok(slot)
    }

    /// Puts the slot's private key under another secret. The seal has to be made again.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn put_under(
        &mut self,
        key: &PrivateKey,
        stretch: &Stretch,
        stretched: &Secret,
    ) -> Result<()> {
        let protect = Protect::Password {
            password: stretched,
            rounds: wrap::RANDOM_ROUNDS,
        };
        self.private = Some(key.to_dovecot(protect)?);
        self.stretch = stretch.clone();
        Ok(())
    }

    /// The slot's public key.
    ///
    /// # Errors
    /// Corrupt, naming the slot.
    pub fn public_key(&self) -> Result<PublicKey> {
        PublicKey::parse(&self.public).map_err(|e| self.named(e))
    }

    /// The slot's private key.
    ///
    /// # Errors
    /// [`ErrorKind::WrongPassword`], or corrupt where the slot is damaged; both name the slot.
    pub fn open(&self, stretched: &Secret) -> Result<PrivateKey> {
        let Some(text) = &self.private else {
            return Err(self.named(Error::new(ErrorKind::NoKey, "its private key is elsewhere")));
        };
        let open = || {
            let stored = StoredKey::parse(text)?;
            if stored.protection() != Protection::Password {
                return Err(Error::corrupt("its key is not under a secret"));
            }
            // Every login tries slots: whoever writes the dict must not make it take long.
            if stored.password_rounds() != Some(wrap::RANDOM_ROUNDS) {
                return Err(Error::corrupt("its key takes more than one round"));
            }
            stored.unlock_with_password(stretched)
        };
        let key = open().map_err(|e| self.named(e))?;
        if !key.matches(&self.public_key()?.id()) {
            return Err(self.named(Error::corrupt("its keys are not a pair")));
        }
        Ok(key)
    }

    /// Adds the seal of `owner`, a key of the user: only who has it can make another public key pass for this slot's.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn seal(&mut self, owner: &PrivateKey) -> Result<()> {
        let (by, seal) = (owner.id().0, self.seal_by(owner)?);
        self.seals.retain(|other| other.by != by);
        self.seals.push(Seal { by, seal });
        Ok(())
    }

    /// Makes sure that `owner` has sealed the slot as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Tampered`], naming the slot.
    pub fn check_seal(&self, owner: &PrivateKey) -> Result<()> {
        let tampered = |text: String| Err(self.named(Error::new(ErrorKind::Tampered, text)));
        let Some(found) = self
            .seals
            .iter()
            .find(|seal| owner.matches(&KeyId(seal.by)))
        else {
            let id = owner.id();
            return tampered(format!(
                "the user's key {id} has not sealed it. If it is the user's, remove it and add it anew"
            ));
        };
        if ct_eq(&self.seal_by(owner)?, &found.seal) {
            return Ok(());
        }
        tampered("its seal is not the user's. Remove the slot, and add it anew".to_owned())
    }

    fn seal_by(&self, owner: &PrivateKey) -> Result<[u8; 32]> {
        let secret = owner.derive(SEAL)?;
        let seal = Digest::Sha256.hmac(&secret, &[self.sealed().as_bytes()])?;
        seal.try_into()
            .map_err(|_| Error::internal("SHA-256 has 32 bytes"))
    }

    /// A user's key under the slot's key. The caller has checked the seal.
    ///
    /// # Errors
    /// As [`Slot::public_key`].
    pub fn wrap(&self, user_key: &PrivateKey) -> Result<SlotKey> {
        let public = self.public_key()?;
        Ok(SlotKey {
            slot: self.name.clone(),
            text: user_key.to_dovecot(Protect::Key(&public))?,
        })
    }

    /// Names the slot.
    pub fn named(&self, e: Error) -> Error {
        e.context(format_args!("slot {}", self.name))
    }
}

impl SlotKey {
    /// Which user key it is; `None` where it can't be told.
    pub fn id(&self) -> Option<KeyId> {
        StoredKey::parse(&self.text).ok()?.id()
    }

    /// The user key.
    ///
    /// # Errors
    /// Corrupt or [`ErrorKind::WrongPassword`], naming the slot.
    pub fn open(&self, slot_key: &PrivateKey) -> Result<PrivateKey> {
        let open = || StoredKey::parse(&self.text)?.unlock_with_key(slot_key);
        open().map_err(|e| e.context(format_args!("slot {}", self.slot)))
    }
}

/// A new secret and the code that it is written as.
///
/// # Errors
/// As [`random`].
pub fn new_code() -> Result<(Secret, Zeroizing<String>)> {
    let mut secret = Secret::zeroed(code::BYTES);
    random(&mut secret)?;
    let text = code::write(&secret)?;
    Ok((secret, text))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn new_salt() -> Result<Vec<u8>> {
    let mut salt = vec![0; SALT];
    random(&mut salt)?;
    Ok(salt)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn owner() -> PrivateKey {
        PrivateKey::generate(CURVE).unwrap()
    }

    fn paper(secret: &Secret, owner: &PrivateKey) -> Slot {
        let about = ("paper", SlotType::Recovery, "");
        let mut slot = Slot::new(about, SlotOpener::Secret(&Stretch::None, secret)).unwrap();
        slot.seal(owner).unwrap();
        slot
    }

    #[test]
    fn a_slot_opens_with_its_secret_alone() {
        let owner = owner();
        let (secret, text) = new_code().unwrap();
        let slot = paper(&secret, &owner);
        let key = slot.wrap(&owner).unwrap();
        assert_eq!(key.id(), Some(owner.id()));
        let typed = code::read(text.as_bytes()).unwrap().unwrap();
        let opened = key.open(&slot.open(&typed).unwrap()).unwrap();
        assert!(opened.matches(&owner.id()));
        let (other, _) = new_code().unwrap();
        let error = slot.open(&other).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WrongPassword);
        assert!(error.to_string().starts_with("slot paper: "), "{error}");
    }

    #[test]
    fn stretched_secrets_differ_by_salt() {
        for make in [|| Stretch::pbkdf2(3), || Stretch::argon2id((16, 1, 1))] {
            let (a, b) = (make().unwrap(), make().unwrap());
            assert!(a.is_expensive());
            assert!(a.stretch(b"secret").unwrap() != b.stretch(b"secret").unwrap());
            assert!(a.stretch(b"secret").unwrap() == a.stretch(b"secret").unwrap());
        }
    }

    #[test]
    fn a_slot_whose_public_key_was_swapped_is_not_used() {
        let owner = owner();
        let (secret, _) = new_code().unwrap();
        let mut slot = paper(&secret, &owner);
        slot.check_seal(&owner).unwrap();
        let swapped = Slot {
            public: PrivateKey::generate(CURVE).unwrap().public().to_dovecot(),
            ..slot.clone()
        };
        let renamed = Slot {
            name: "other".to_owned(),
            ..slot.clone()
        };
        for slot in [swapped, renamed] {
            let error = slot.check_seal(&owner).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Tampered);
        }
        let later = PrivateKey::generate(CURVE).unwrap();
        assert!(slot.check_seal(&later).is_err());
        slot.seal(&later).unwrap();
        slot.check_seal(&later).unwrap();
        slot.check_seal(&owner).unwrap();
        assert_eq!(slot.seals.len(), 2);
    }

    #[test]
    fn a_slot_whose_keys_are_no_pair_does_not_open() {
        let owner = owner();
        let (secret, _) = new_code().unwrap();
        let mut slot = paper(&secret, &owner);
        slot.public = PrivateKey::generate(CURVE).unwrap().public().to_dovecot();
        assert_eq!(slot.open(&secret).err().unwrap().kind(), ErrorKind::Corrupt);
        let plain = owner.to_dovecot(Protect::None).unwrap();
        slot.private = Some(plain);
        assert_eq!(slot.open(&secret).err().unwrap().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_slot_is_not_stretched_twice() {
        let owner = owner();
        let (secret, _) = new_code().unwrap();
        let mut slot = paper(&secret, &owner);
        let key = slot.open(&secret).unwrap();
        for (rounds, opens) in [(1, true), (2, false), (100, false)] {
            let under = Protect::Password {
                password: &secret,
                rounds,
            };
            slot.private = Some(key.to_dovecot(under).unwrap());
            assert_eq!(slot.open(&secret).is_ok(), opens, "{rounds}");
        }
    }
}
