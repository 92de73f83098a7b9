//! Whether a session can unlock the user's keys at all.

use super::super::attributes::{Host, Level, Scope};
use super::super::filing::{self, Active, Filed};
use super::Keyring;
use crate::error::Result;
use crate::key::PrivateKey;

impl Keyring {
    /// Whether this session can unlock the user's own key, or has the private one in global mode. If not, no
    /// mail that comes in now can be read.
    pub fn opens_own(&mut self, host: &mut dyn Host) -> bool {
        let private = &self.settings.global_private;
        match self.settings.global_public() {
            Ok(Some(global)) => private.iter().any(|key| key.public().id() == global.id()),
            Ok(None) => matches!(self.own_private(host), Ok(Some(_))),
            Err(_) => !private.is_empty(),
        }
    }

    fn own_private(&mut self, host: &mut dyn Host) -> Result<Option<PrivateKey>> {
        let mut inbox = host.inbox()?;
        let level = Level::User;
        let Some(Active { id, .. }) = filing::active(level, inbox.as_mut())? else {
            return Ok(None);
        };
        let filed = Filed::read(inbox.as_mut(), Scope::Private, &level.private(&id))?;
        if filed.is_none() {
            return Ok(None);
        }
        self.unlock_filed(level, &id, inbox.as_ref(), &filed, host, 0)
            .map(Some)
    }
}
