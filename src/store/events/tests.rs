#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;

use super::*;
use crate::key::{KeyId, PrivateKey};
use crate::store::attributes::Attributes;
use crate::store::testing::{Heard, Mailbox, Session, SharedDict, keyring};
use crate::store::{FileState, KeySource, Memory, Reader, Writer};
use crate::stream::{Algorithm, Encryptor, Sender};

const ALGORITHM: &str = "Format=2 Algorithm=aes-256-gcm-sha256";

/// What was heard since the last call, of events with this name.
fn heard(dict: &SharedDict, name: &str) -> Vec<String> {
    let all = std::mem::take(&mut dict.borrow_mut().events);
    all.into_iter().filter(|e| e.starts_with(name)).collect()
}

#[test]
fn what_is_written_is_told_once_and_at_its_end() {
    let dict = SharedDict::default();
    let (mut folder, mut session) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    let mut ring = keyring(&[]);
    let mut writer = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
    writer.update(b"Subject: ").unwrap();
    writer.update(b"hi\n").unwrap();
    writer.finish().unwrap();
    assert!(heard(&dict, "Encrypt").is_empty());
    drop(writer);
    assert_eq!(
        heard(&dict, "Encrypt"),
        [format!("Encrypt Source=mail {ALGORITHM} Bytes=12")]
    );
    // A client that goes away is no failure of ours.
    drop(Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap());
    drop(Writer::plain());
    assert!(heard(&dict, "").is_empty());
}

#[test]
fn what_cannot_be_written_is_told_with_the_reason() {
    let dict = SharedDict::default();
    let (mut folder, mut session) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    let mut ring = keyring(&[]);
    let mut first = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
    let encrypted = first.update(b"Subject: hi\n\n").unwrap().to_vec();
    drop(first);
    heard(&dict, "");
    let mut writer = Writer::for_mail(&mut ring, &mut folder, &mut session).unwrap();
    writer.update(&encrypted).unwrap();
    for _ in 0..2 {
        assert!(writer.check().is_err());
    }
    drop(writer);
    assert_eq!(
        heard(&dict, "Encrypt"),
        [format!("Encrypt Source=mail {ALGORITHM} ErrorCode=refused")]
    );
    dict.borrow_mut().down = true;
    let failed = Writer::for_mail(&mut keyring(&[]), &mut folder, &mut session);
    assert!(failed.is_err());
    assert_eq!(
        heard(&dict, "Encrypt"),
        ["Encrypt Source=mail ErrorCode=store"]
    );
}

struct OneKey(PrivateKey, Memory, SharedDict);

impl KeySource for OneKey {
    fn private_key(&mut self, _: &[KeyId], _: Option<&mut dyn Attributes>) -> Result<PrivateKey> {
        Ok(self.0.clone())
    }

    fn origin(&self) -> Origin {
        Origin {
            source: Source::Fs,
            events: Rc::new(Heard(Rc::clone(&self.2))),
        }
    }

    fn memory(&mut self) -> &mut Memory {
        &mut self.1
    }

    fn cache_secret(&mut self, _: &PrivateKey) -> Result<Option<crate::crypto::Secret>> {
        Ok(None)
    }
}

#[test]
fn a_file_is_told_of_once_whatever_comes_of_it() {
    let dict = SharedDict::default();
    let key = PrivateKey::generate("prime256v1").unwrap();
    let mut sender = Sender::new(key.public());
    let mut encryptor = Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
    let mut file = Vec::new();
    encryptor.update(b"one file", &mut file).unwrap();
    encryptor.finish(&mut file).unwrap();
    let mut tampered = file.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let keys = Rc::new(RefCell::new(OneKey(key, Memory::new(1), Rc::clone(&dict))));
    let state = |size| FileState {
        size,
        changed: 1,
        inode: 1,
    };
    let size = file.len() as u64;

    let mut reader = Reader::new(keys.clone(), state(size));
    assert!(reader.feed(&file, None).unwrap());
    drop(reader);
    assert_eq!(
        heard(&dict, ""),
        [format!("Decrypt Source=fs {ALGORITHM} Bytes=8")]
    );

    let mut reader = Reader::new(keys.clone(), state(size));
    assert!(reader.feed(&tampered, None).is_err());
    assert!(reader.finish().is_err());
    drop(reader);
    assert_eq!(
        heard(&dict, ""),
        [format!("Decrypt Source=fs {ALGORITHM} ErrorCode=tampered")]
    );

    // Open, but not served
    let mut reader = Reader::new(keys.clone(), state(size));
    assert!(reader.feed(&file, None).unwrap());
    reader.refuse();
    drop(reader);
    assert_eq!(
        heard(&dict, ""),
        [format!(
            "Decrypt Source=fs {ALGORITHM} ErrorCode=unsupported"
        )]
    );

    // Nobody came to its end.
    let mut reader = Reader::new(keys, state(size));
    assert!(!reader.feed(&file[..20], None).unwrap());
    drop(reader);
    assert!(heard(&dict, "").is_empty());
}

#[test]
fn keys_are_told_of_when_they_are_made_and_when_they_open() {
    let dict = SharedDict::default();
    let mut folder = Mailbox::new(&dict, "Work");
    let mut session = Session::new(&dict);
    let secret = [("mail_crypt_private_password", "secret")];
    let sender = keyring(&secret).sender(&mut folder, &mut session).unwrap();
    let id = sender.borrow().id();
    assert_eq!(
        heard(&dict, ""),
        [
            "KeyCreated Level=user Protected=yes",
            "KeyCreated Level=folder Protected=yes"
        ]
    );
    let mut ring = keyring(&secret);
    for _ in 0..2 {
        ring.private_key(&[id], &mut folder, &mut session).unwrap();
    }
    assert_eq!(heard(&dict, ""), ["Unlock SlotType=password Kdf=pbkdf2"]);
    let mut wrong = keyring(&[("mail_crypt_private_password", "another")]);
    for _ in 0..2 {
        assert!(wrong.private_key(&[id], &mut folder, &mut session).is_err());
    }
    let failed = "Unlock SlotType=password Kdf=pbkdf2 ErrorCode=wrong_password";
    assert_eq!(heard(&dict, ""), [failed]);
}

#[test]
fn an_unprotected_key_is_told_of_as_such() {
    let dict = SharedDict::default();
    let (mut folder, mut session) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    let sender = keyring(&[]).sender(&mut folder, &mut session).unwrap();
    let id = sender.borrow().id();
    assert_eq!(
        heard(&dict, "KeyCreated Level=user"),
        ["KeyCreated Level=user Protected=no"]
    );
    keyring(&[])
        .private_key(&[id], &mut folder, &mut session)
        .unwrap();
    assert_eq!(heard(&dict, ""), ["Unlock SlotType=none Kdf=none"]);
}

#[test]
fn a_key_that_must_not_be_made_is_told_of() {
    let dict = SharedDict::default();
    let (mut folder, mut session) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    let mut ring = keyring(&[("mail_crypt_require_encrypted_user_key", "yes")]);
    assert!(ring.sender(&mut folder, &mut session).is_err());
    assert_eq!(
        heard(&dict, ""),
        ["KeyCreated Level=user Protected=no ErrorCode=setting"]
    );
}

#[test]
fn the_slot_of_argon2id_is_named() {
    let dict = SharedDict::default();
    let (mut folder, mut session) = (Mailbox::new(&dict, "Work"), Session::new(&dict));
    let settings = [
        ("mail_crypt_private_password", "secret"),
        ("mail_crypt_password_kdf", "argon2id"),
    ];
    let sender = keyring(&settings)
        .sender(&mut folder, &mut session)
        .unwrap();
    let id = sender.borrow().id();
    heard(&dict, "");
    let mut ring = keyring(&settings);
    ring.private_key(&[id], &mut folder, &mut session).unwrap();
    assert_eq!(heard(&dict, ""), ["Unlock SlotType=password Kdf=argon2id"]);
}

#[test]
fn only_numbers_make_no_difference() {
    let file = |bytes, error| Happened::file(Name::Decrypt, Source::Mail, None, bytes, error);
    assert!(file(Some(1), None).is_like(&file(Some(2), None)));
    assert!(!file(Some(1), None).is_like(&file(None, None)));
    let tampered = file(None, Some(ErrorKind::Tampered));
    assert!(!tampered.is_like(&file(None, Some(ErrorKind::Corrupt))));
    assert!(!tampered.is_like(&file(None, None)));
}
