//! Keys: do they open, and if not, why.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use crate::format::slots::Slots;
use crate::key::{KeyId, Protection, PublicKey, StoredKey};
use crate::store::attributes::{Attributes, Host, Level, Scope};
use crate::store::filing::{self, Filed};
use crate::store::keyring::Keyring;
use crate::store::slots;

/// Whether a key opens.
#[derive(Clone, Debug)]
pub(super) enum Opens {
    /// It does.
    Yes,
    /// That takes a password, or a private key, and none is at hand.
    Untried,
    /// It was given up with `reset --abandon`.
    Locked,
    /// Nothing opens it.
    No(Error),
    /// It isn't there.
    Missing(Error),
}

impl Opens {
    /// For programs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Opens::Yes => "yes",
            Opens::Untried => "not tried",
            Opens::Locked => "locked",
            Opens::No(_) => "no",
            Opens::Missing(_) => "missing",
        }
    }

    /// For people, after a key's id.
    pub(super) fn words(&self) -> String {
        match self {
            Opens::Yes => "opens".to_owned(),
            Opens::Untried => "was not tried, since what opens it is not at hand".to_owned(),
            Opens::Locked => "is locked: it was given up with reset --abandon".to_owned(),
            Opens::No(e) => format!("is opened by nothing: {}", e.to_log()),
            Opens::Missing(e) => e.to_log(),
        }
    }
}

/// What to do about a key that doesn't open.
pub(super) const OPEN_ADVICE: &str = "If an old password or a code turns up, use doveadm mailbox cryptokey reopen; if there is a backup of the key, \
     use import";

/// The user's slots, and what is known of user keys without opening them.
pub(super) struct Protections {
    pub slots: Slots,
    /// Why the slots can't be read.
    pub error: Option<Error>,
}

impl Protections {
    /// Reads the slots.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] where INBOX can't be asked.
    pub(super) fn read(host: &mut dyn Host) -> Result<Self> {
        let mut inbox = host.inbox()?;
        let (slots, error) = match slots::read(inbox.as_mut()) {
            Ok(slots) => (slots, None),
            // A dict may have no place for slots.
            Err(e) if e.kind() == ErrorKind::Store => (Slots::default(), None),
            Err(e) => (Slots::default(), Some(e)),
        };
        Ok(Protections { slots, error })
    }

    /// Whether the user key `id` opens.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] where that can't be told.
    pub(super) fn user_key(
        &self,
        ring: &mut Keyring,
        inbox: &mut dyn Attributes,
        host: &mut dyn Host,
        id: &KeyId,
    ) -> Result<Opens> {
        let filed = Filed::read(inbox, Scope::Private, &Level::User.private(id))?;
        match ring.unlock_filed(Level::User, id, inbox, &filed, host, 0) {
            Ok(_) => Ok(Opens::Yes),
            Err(e) if e.kind() == ErrorKind::Store => Err(e),
            Err(_) if self.slots.is_locked(&id.0) => Ok(Opens::Locked),
            Err(_) if !ring.has_secret() && self.wants_secret(&filed, id) => Ok(Opens::Untried),
            Err(e) if filed.is_none() => Ok(Opens::Missing(e)),
            Err(e) => Ok(Opens::No(e)),
        }
    }

    /// Whether a password, or the secret of a slot, is what the user key asks for.
    fn wants_secret(&self, filed: &Filed, id: &KeyId) -> bool {
        let of_slot = |by: &KeyId| {
            let mut slots = self.slots.slots();
            slots.any(|slot| slot.public_key().is_ok_and(|key| key.matches(by)))
        };
        filed.texts().any(|text| match protection(&text) {
            Some(Protection::Password) => true,
            Some(Protection::Key(by)) => of_slot(&by),
            Some(Protection::None) | None => false,
        }) || self
            .slots
            .slots()
            .any(|slot| slots::opens(&self.slots, &slot.name, id))
    }

    /// Why the folder key `id`, by whichever of its ids, doesn't open in `folder`; `error`: what trying said.
    ///
    /// # Errors
    /// As [`Protections::user_key`].
    pub(super) fn folder_key(
        &self,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
        id: &KeyId,
        error: Error,
    ) -> Result<Opens> {
        if error.kind() == ErrorKind::Store {
            return Err(error);
        }
        let settings = ring.settings();
        if settings.check_global(&[*id]).is_err() {
            return Ok(if settings.global_private.is_empty() {
                Opens::Untried
            } else {
                Opens::No(error)
            });
        }
        let by = under(folder, id)?;
        if by.is_empty() && error.kind() == ErrorKind::NoKey {
            return Ok(Opens::Missing(error));
        }
        let mut inbox = host.inbox()?;
        for user_key in by {
            match self.user_key(ring, inbox.as_mut(), host, &user_key)? {
                opens @ (Opens::Untried | Opens::Locked) => return Ok(opens),
                Opens::Yes | Opens::No(_) | Opens::Missing(_) => {}
            }
        }
        Ok(Opens::No(error))
    }
}

/// The keys that the folder key `id` is under.
///
/// # Errors
/// [`ErrorKind::Store`].
pub(super) fn under(folder: &mut dyn Attributes, id: &KeyId) -> Result<Vec<KeyId>> {
    let filed = Filed::read(folder, Scope::Private, &Level::Folder.private(id))?;
    let by = filed.texts().filter_map(|text| match protection(&text) {
        Some(Protection::Key(by)) => Some(by),
        _ => None,
    });
    Ok(by.collect())
}

fn protection(text: &str) -> Option<Protection> {
    StoredKey::parse(text).ok().map(|key| key.protection())
}

/// A folder key that is stored for the user.
pub(super) struct StoredFolderKey {
    pub id: KeyId,
    /// Empty: no folder has it.
    pub mailbox: String,
    pub active: bool,
    pub opens: Opens,
    /// Tells its other id.
    public: Option<PublicKey>,
}

impl StoredFolderKey {
    /// Looks at the folder key `id` of `folder`, which is INBOX where `mailbox` is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Store`].
    pub(super) fn read(
        (id, mailbox, active): (KeyId, String, bool),
        protections: &Protections,
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Self> {
        let filed = Filed::read(folder, Scope::Private, &Level::Folder.private(&id))?;
        let unlocked = ring.unlock_filed(Level::Folder, &id, folder, &filed, host, 0);
        let opens = match unlocked {
            Ok(_) => Opens::Yes,
            Err(e) => protections.folder_key(ring, folder, host, &id, e)?,
        };
        let public = match filing::public(Level::Folder, folder, &id) {
            Ok(found) => found.map(|(key, _)| key),
            Err(e) if e.kind() == ErrorKind::Store => return Err(e),
            Err(_) => None,
        };
        Ok(StoredFolderKey {
            id,
            mailbox,
            active,
            opens,
            public,
        })
    }

    /// Whether `id` is one of its ids.
    pub(super) fn is(&self, id: &KeyId) -> bool {
        self.id == *id || self.public.as_ref().is_some_and(|key| key.matches(id))
    }
}
