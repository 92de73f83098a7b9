//! Which mails may be copied as they are on disk. All others are read, and saved anew.
//!
//! A folder's mails are encrypted to its own key, and another user has other settings. So only a mail that is
//! encrypted to the key of all of the user's folders means the same elsewhere.
#![forbid(unsafe_code)]

use super::settings::{SaveVersion, Settings};
use crate::stream::{Feed, Opener};

/// A mail that is to be copied: where from, where to, and why.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copying {
    /// It stays in its folder.
    pub same_folder: bool,
    /// It stays this user's.
    pub same_user: bool,
    /// Its new folder's namespace has the same owner as its old one's.
    pub same_owner: bool,
    /// `lazy_expunge` moves it because it was expunged.
    pub expunged: bool,
}

/// When a mail may be copied as it is on disk. Each reason is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// Always.
    pub always: bool,
    /// If it is encrypted to the global key: see [`is_global`].
    pub if_global: bool,
    /// If it can't be read, and never will be. `lazy_expunge` would expunge nothing otherwise.
    pub if_unreadable: bool,
}

/// When a mail may be copied as it is on disk, by the settings of the user whose folder it gets into (`None`:
/// that user's mail isn't encrypted).
pub fn raw(settings: Option<&Settings>, copying: Copying) -> Raw {
    if copying.same_folder {
        return Raw {
            always: true,
            ..Raw::default()
        };
    }
    let Some(settings) = settings.filter(|_| copying.same_user) else {
        return Raw::default();
    };
    Raw {
        always: false,
        if_global: encrypts_globally(settings),
        if_unreadable: copying.expunged && copying.same_owner,
    }
}

fn encrypts_globally(settings: &Settings) -> bool {
    let writing = settings.writing();
    settings.global_public().is_ok_and(|key| key.is_some())
        && writing.is_ok_and(|writing| writing.version != SaveVersion::ReadOnly)
}

/// Whether the mail that begins with `data` on disk is encrypted to the user's global key, and to no other: it may
/// be older than that, and under the key of the folder that it would leave. `None`: more of its header is
/// needed to tell.
pub fn is_global(settings: &Settings, data: &[u8]) -> Option<bool> {
    let Ok(Some(global)) = settings.global_public() else {
        return Some(false);
    };
    match Opener::default().feed(data) {
        Ok(Feed::NeedKey(ids)) => Some(ids.iter().all(|id| global.matches(id))),
        Ok(Feed::More) => None,
        Err(_) => Some(false),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::key::{PrivateKey, PublicKey};
    use crate::store::Keyring;
    use crate::store::testing::keyring;
    use crate::stream::{Algorithm, Encryptor, Sender, Version};

    const ELSEWHERE: Copying = Copying {
        same_folder: false,
        same_user: true,
        same_owner: true,
        expunged: false,
    };

    fn key() -> PublicKey {
        PrivateKey::generate("prime256v1").unwrap().public()
    }

    fn global(key: &PublicKey, version: &str) -> Keyring {
        let public = key.to_dovecot();
        keyring(&[
            ("mail_crypt_global_public_key", &public),
            ("mail_crypt_save_version", version),
        ])
    }

    fn mail(key: &PublicKey) -> Vec<u8> {
        let mut sender = Sender::new(key.clone());
        let mut encryptor =
            Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
        let mut file = Vec::new();
        encryptor.update(&[b'a'; 300], &mut file).unwrap();
        encryptor.finish(&mut file).unwrap();
        file
    }

    #[test]
    fn within_its_folder_every_mail_is_copied_as_it_is() {
        let copying = Copying {
            same_folder: true,
            ..Copying::default()
        };
        assert!(raw(None, copying).always);
        assert!(raw(Some(keyring(&[]).settings()), copying).always);
    }

    #[test]
    fn other_folders_have_other_keys() {
        let ring = keyring(&[]);
        assert_eq!(raw(Some(ring.settings()), ELSEWHERE), Raw::default());
    }

    #[test]
    fn one_key_for_all_folders_is_that_of_this_user_only() {
        let ring = global(&key(), "2");
        assert!(raw(Some(ring.settings()), ELSEWHERE).if_global);
        let other_user = Copying {
            same_user: false,
            expunged: true,
            ..ELSEWHERE
        };
        assert_eq!(raw(Some(ring.settings()), other_user), Raw::default());
        assert_eq!(raw(None, ELSEWHERE), Raw::default());
    }

    #[test]
    fn what_is_saved_as_plaintext_is_saved_anew() {
        let ring = global(&key(), "0");
        assert_eq!(raw(Some(ring.settings()), ELSEWHERE), Raw::default());
    }

    #[test]
    fn lazy_expunge_keeps_what_nobody_can_read_with_its_owner() {
        let ring = keyring(&[]);
        let expunged = Copying {
            expunged: true,
            ..ELSEWHERE
        };
        assert!(raw(Some(ring.settings()), expunged).if_unreadable);
        let other_owner = Copying {
            same_owner: false,
            ..expunged
        };
        assert_eq!(raw(Some(ring.settings()), other_owner), Raw::default());
    }

    #[test]
    fn a_mail_under_the_global_key_is_known_by_its_header() {
        let key = key();
        let ring = global(&key, "2");
        let mail = mail(&key);
        assert_eq!(is_global(ring.settings(), &mail), Some(true));
        assert_eq!(is_global(ring.settings(), &mail[..20]), None);
        assert_eq!(
            is_global(ring.settings(), b"From: <a@example.org>\n"),
            Some(false)
        );
    }

    #[test]
    fn a_mail_under_another_key_is_not_global() {
        let ring = global(&key(), "2");
        assert_eq!(is_global(ring.settings(), &mail(&key())), Some(false));
        let no_global = keyring(&[]);
        assert_eq!(is_global(no_global.settings(), &mail(&key())), Some(false));
    }
}
