//! Writing one mail: encrypting it, or making sure that plaintext doesn't look encrypted.
#![forbid(unsafe_code)]

use std::rc::Rc;

use super::attributes::{Attributes, Host};
use super::events::{Events, Happened, Name, Origin, Source, kind};
use super::key_source::in_use;
use super::keyring::Keyring;
use super::settings::SaveVersion;
use crate::error::{ErrorKind, Result};
use crate::key::KeyId;
use crate::stream::{Encryptor, Format, Guard, Version, Watch};

/// What becomes of the bytes of a mail.
pub struct Writer {
    content: Content,
    /// The folder's key to which the mail is encrypted; `None` for plaintext, or a global key.
    folder_key: Option<FolderKey>,
    /// What is to be stored, lent until the next call.
    out: Vec<u8>,
    count: Count,
}

/// What came of encrypting a mail, for whoever counts. Told at the end: a mail may be refused at any point.
struct Count {
    origin: Origin,
    format: Option<Format>,
    bytes: u64,
    finished: bool,
    error: Option<ErrorKind>,
}

impl Count {
    fn new(origin: Origin) -> Self {
        Count {
            origin,
            format: None,
            bytes: 0,
            finished: false,
            error: None,
        }
    }

    fn noting<T>(&mut self, result: Result<T>) -> Result<T> {
        self.error = self.error.or(kind(&result));
        result
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let Origin { source, events } = &self.origin;
        let bytes = self.finished.then_some(self.bytes);
        if self.finished || self.error.is_some() {
            events.emit(Happened::file(
                Name::Encrypt,
                *source,
                self.format,
                bytes,
                self.error,
            ));
        }
    }
}

enum Content {
    Encrypted(Box<Encryptor>, Option<Watch>),
    /// Passed on, and refused if it is encrypted already.
    Watched(Watch),
    /// Passed on, unless it begins like an encrypted mail.
    Plain(Guard),
}

/// A folder's key, by both of its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderKey {
    /// Its id.
    pub id: KeyId,
    /// Its old id, if its type has one.
    pub old_id: Option<KeyId>,
}

impl Writer {
    /// A writer for a mail in `folder`, as the user's settings say. Makes the folder's key where it has
    /// none.
    ///
    /// # Errors
    /// The mail must not be stored.
    pub fn for_mail(
        ring: &mut Keyring,
        folder: &mut dyn Attributes,
        host: &mut dyn Host,
    ) -> Result<Self> {
        let mut count = Count::new(Origin {
            source: Source::Mail,
            events: host.events(),
        });
        let made = count.noting(Self::made(ring, folder, host));
        made.map(|writer| writer.counted(count))
    }

    fn made(ring: &mut Keyring, folder: &mut dyn Attributes, host: &mut dyn Host) -> Result<Self> {
        let writing = ring.settings().writing()?;
        let version = match writing.version {
            SaveVersion::ReadOnly => return Ok(Self::plain()),
            SaveVersion::V1 => Version::V1,
            SaveVersion::V2 => Version::V2,
        };
        let is_global = ring.settings().is_global();
        let sender = ring.sender(folder, host)?;
        let mut sender = sender.try_borrow_mut().map_err(|_| in_use())?;
        let encryptor = Encryptor::new(&writing.algorithm, version, &mut sender)?;
        // LMTP copies the mail of later recipients from the first one, whose private key it may not have.
        let key = encryptor.content_key().clone();
        ring.memory
            .content_keys
            .insert(encryptor.header_hash(), key);
        let folder_key = (!is_global).then(|| FolderKey {
            id: sender.id(),
            old_id: sender.old_id(),
        });
        let watch = Some(Watch::default());
        Ok(Writer {
            folder_key,
            ..Self::new(Content::Encrypted(Box::new(encryptor), watch))
        })
    }

    /// A writer that passes on what is compressed, and then encrypted: only here it can be seen whether that is
    /// encrypted already. `None` where nothing is encrypted.
    ///
    /// # Errors
    /// The mail must not be stored.
    pub fn before_packing(ring: &Keyring, events: Rc<dyn Events>) -> Result<Option<Self>> {
        Ok(match ring.settings().writing()?.version {
            SaveVersion::ReadOnly => None,
            SaveVersion::V1 | SaveVersion::V2 => {
                let writer = Self::new(Content::Watched(Watch::default()));
                let source = Source::Mail;
                Some(writer.counted(Count::new(Origin { source, events })))
            }
        })
    }

    /// A writer for plaintext.
    pub fn plain() -> Self {
        Self::new(Content::Plain(Guard::default()))
    }

    /// A writer that encrypts a file.
    pub fn encrypting(encryptor: Encryptor, origin: Origin) -> Self {
        Self::new(Content::Encrypted(Box::new(encryptor), None)).counted(Count::new(origin))
    }

    fn new(content: Content) -> Self {
        Writer {
            content,
            folder_key: None,
            out: Vec::new(),
            count: Count::new(Origin::default()),
        }
    }

    fn counted(mut self, mut count: Count) -> Self {
        if let Content::Encrypted(encryptor, _) = &self.content {
            count.format = Some(encryptor.format());
        }
        self.count = count;
        self
    }

    /// Takes the next bytes of the mail. Returns what to store for them.
    ///
    /// # Errors
    /// The mail must not be stored.
    pub fn update(&mut self, data: &[u8]) -> Result<&[u8]> {
        self.out.clear();
        match &mut self.content {
            Content::Encrypted(encryptor, watch) => {
                if let Some(watch) = watch {
                    watch.update(data);
                }
                self.count.noting(encryptor.update(data, &mut self.out))?;
                self.count.bytes += data.len() as u64;
            }
            Content::Watched(watch) => {
                watch.update(data);
                self.out.extend_from_slice(data);
            }
            Content::Plain(guard) => guard.update(data, &mut self.out),
        }
        Ok(&self.out)
    }

    /// Ends the mail. Returns the rest of what is to be stored.
    ///
    /// # Errors
    /// As [`Writer::update`].
    pub fn finish(&mut self) -> Result<&[u8]> {
        self.out.clear();
        match &mut self.content {
            Content::Encrypted(encryptor, _) => {
                self.count.noting(encryptor.finish(&mut self.out))?;
                self.count.finished = true;
            }
            Content::Watched(_) => {}
            Content::Plain(guard) => guard.finish(&mut self.out)?,
        }
        Ok(&self.out)
    }

    /// Makes sure that what was written so far may be stored.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Refused`] for what is encrypted already, and for plaintext that only looks so.
    pub fn check(&mut self) -> Result<()> {
        match &mut self.content {
            Content::Plain(guard) if guard.refused() => guard.finish(&mut self.out),
            Content::Encrypted(_, Some(watch)) | Content::Watched(watch) => {
                self.count.noting(watch.check())
            }
            _ => Ok(()),
        }
    }

    /// What identifies the encrypted stream, as [`Opener::header_hash`](crate::stream::Opener::header_hash).
    pub fn stream(&self) -> Option<[u8; 32]> {
        match &self.content {
            Content::Encrypted(encryptor, _) => Some(encryptor.header_hash()),
            Content::Watched(_) | Content::Plain(_) => None,
        }
    }

    /// The folder's key to which the mail is encrypted; `None` for plaintext, or a global key.
    pub fn folder_key(&self) -> Option<FolderKey> {
        self.folder_key
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::key::PrivateKey;
    use crate::store::testing::{Mailbox, Session, SharedDict, keyring};
    use crate::stream::{MAGIC, is_encrypted};

    fn folder() -> (Mailbox, Session) {
        let dict = SharedDict::default();
        (Mailbox::new(&dict, "Work"), Session::new(&dict))
    }

    fn unprotected() -> Keyring {
        keyring(&[])
    }

    #[test]
    fn a_mail_is_encrypted_to_its_folders_key_and_the_session_can_read_it_back() {
        let (mut folder, mut session) = folder();
        let mut ring = unprotected();
        let mut writer = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
        let mut stored = writer.update(b"Subject: hi\n\n").unwrap().to_vec();
        stored.extend_from_slice(writer.finish().unwrap());
        assert!(is_encrypted(&stored));
        let key = writer.folder_key().unwrap();
        let active = ring.sender(&mut folder, &mut session).unwrap();
        assert_eq!(key.id, active.borrow().id());
        assert_eq!(key.old_id, active.borrow().old_id());
        assert_eq!(ring.memory.content_keys.values().count(), 1);
        writer.check().unwrap();
    }

    #[test]
    fn a_mail_that_is_encrypted_already_is_refused_before_and_after_it_is_packed() {
        let (mut folder, mut session) = folder();
        let mut ring = unprotected();
        let mut first = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
        let mut encrypted = first.update(b"Subject: hi\n\n").unwrap().to_vec();
        encrypted.extend_from_slice(first.finish().unwrap());
        let mut before = Writer::before_packing(&ring, session.events())
            .unwrap()
            .unwrap();
        let mut whole = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
        assert_eq!(before.update(b"Subject: hi\n").unwrap(), b"Subject: hi\n");
        assert_eq!(before.finish().unwrap(), b"");
        before.check().unwrap();
        let mut before = Writer::before_packing(&ring, session.events())
            .unwrap()
            .unwrap();
        for writer in [&mut before, &mut whole] {
            writer.update(&encrypted).unwrap();
            assert_eq!(writer.check().unwrap_err().kind(), ErrorKind::Refused);
        }
        let off = keyring(&[("mail_crypt_save_version", "0")]);
        assert!(
            Writer::before_packing(&off, session.events())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_global_key_is_no_folders_key() {
        let (mut folder, mut session) = folder();
        let global = PrivateKey::generate("prime256v1").unwrap().public();
        let mut ring = keyring(&[("mail_crypt_global_public_key", &global.to_dovecot())]);
        let writer = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
        assert_eq!(writer.folder_key(), None);
        assert!(session.dict.borrow().entries.is_empty());
    }

    #[test]
    fn where_nothing_is_encrypted_plaintext_passes_and_what_looks_encrypted_is_refused() {
        let (mut folder, mut session) = folder();
        let mut ring = keyring(&[("mail_crypt_save_version", "0")]);
        let mut writer = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
        assert_eq!(writer.update(b"Subject: hi\n").unwrap(), b"Subject: hi\n");
        assert_eq!(writer.folder_key(), None);
        writer.check().unwrap();
        let mut writer = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
        assert_eq!(writer.update(&MAGIC).unwrap(), b"");
        assert_eq!(writer.check().unwrap_err().kind(), ErrorKind::Refused);
        assert!(writer.finish().is_err());
    }

    #[test]
    fn without_a_usable_key_no_mail_is_written() {
        let (mut folder, mut session) = folder();
        folder.dict.borrow_mut().down = true;
        let mut ring = unprotected();
        let writer = Writer::for_mail(&mut ring, &mut folder, &mut session);
        assert_eq!(writer.err().map(|e| e.kind()), Some(ErrorKind::Store));
    }
}
