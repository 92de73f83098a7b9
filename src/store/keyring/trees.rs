//! The key of a user's mail of TREES.
#![forbid(unsafe_code)]

use super::Keyring;
use crate::error::Result;
use crate::key::trees::TreesKey;
use crate::store::attributes::Host;

impl Keyring {
    /// The user's key for mail of TREES. Unlocked once a session, and what comes of it is remembered. The log then says what
    /// such mail can't prove.
    ///
    /// # Errors
    /// As [`crate::store::settings::Trees::unlock`].
    pub fn trees_key(&mut self, host: &mut dyn Host) -> Result<TreesKey> {
        self.settings.check()?;
        if let Some(known) = &self.trees {
            return known.clone();
        }
        let key = self.settings.trees.unlock();
        if key.is_ok() {
            host.warn(
                "reading mail that TREES wrote: that it is complete and in order can't be proven",
            );
        }
        self.trees = Some(key.clone());
        key
    }
}

#[cfg(all(test, feature = "trees"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::ErrorKind;
    use crate::store::testing::{Session, SharedDict, keyring};

    const FIELDS: &str = include_str!("../../../tests/vectors/trees/argon2id.fields");

    fn fields(password: &'static str) -> Vec<(&'static str, &'static str)> {
        let lines = FIELDS.lines().filter_map(|line| line.split_once('='));
        let more = [
            ("trees_password", password),
            ("mail_crypt_save_version", "2"),
        ];
        lines.chain(more).collect()
    }

    #[test]
    fn what_mail_of_trees_cannot_prove_is_said_once_a_session() {
        let dict = SharedDict::default();
        let mut host = Session::new(&dict);
        let mut ring = keyring(&fields("c0rrect-h0rse"));
        for _ in 0..3 {
            ring.trees_key(&mut host).unwrap();
        }
        let warnings = &dict.borrow().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("complete and in order can't be proven"));
    }

    #[test]
    fn a_wrong_password_of_trees_is_an_error_of_such_mail_alone() {
        let dict = SharedDict::default();
        let mut host = Session::new(&dict);
        let mut ring = keyring(&fields("wrong"));
        for _ in 0..2 {
            let e = ring.trees_key(&mut host).map(|_| ()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::WrongPassword);
        }
        assert!(dict.borrow().warnings.is_empty());
        assert!(ring.settings().check().is_ok() && ring.settings().writing().is_ok());
    }
}
