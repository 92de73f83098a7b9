//! What a later session finds in Dovecot's index cache: a mail's content key, so that it skips the
//! elliptic curve, and a large mail's chunk tags, so that it reads only what it is asked for.
//!
//! An entry is useless without the folder's private key, from which its own key is derived, and
//! fits one mail only: the hash of the mail's header is authenticated with it. A damaged or stale
//! entry is ignored; the mail is then opened the long way. The bytes are in docs/format.md.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use super::attributes::Guid;
use super::key_source::FileState;
use crate::crypto::cipher::{Cipher, MARGIN, TAG_LEN};
use crate::crypto::{Secret, random};
use crate::error::Result;
use crate::key::PrivateKey;
use crate::stream::{ContentKey, Opener, SMALL, Verified};

/// The fields' names, by their numbers: [`CONTENT_KEY_FIELD`], [`CHUNK_TAGS_FIELD`], [`CHANGED_FIELD`],
/// [`PLACE_FIELD`]. The packaged plugin neither knows them nor minds.
pub const NAMES: [&CStr; 4] = [
    c"mail_crypt.content-key",
    c"mail_crypt.chunk-tags",
    c"mail_crypt.changed",
    c"mail_crypt.place",
];
/// For the content key, where it takes public-key cryptography to find it.
pub const CONTENT_KEY_FIELD: usize = 0;
/// For a large mail's chunk tags.
pub const CHUNK_TAGS_FIELD: usize = 1;
/// For the state of a file that isn't what its chunk tags say: they don't count then, and all of it is verified.
pub const CHANGED_FIELD: usize = 2;
/// For a mail's [`Place`].
pub const PLACE_FIELD: usize = 3;

/// Names from a release that could write entries into other fields: nothing in a cache with one of these can be
/// trusted.
pub const SPOILT_NAMES: [&CStr; 2] = [c"mail_crypt.content_key", c"mail_crypt.chunk_tags"];

/// First byte of an entry, authenticated too: no entry can be taken for one of the other kind, and a
/// later layout gets another.
const CONTENT_KEY: u8 = 2;
const CHUNK_TAGS: u8 = 3;

const NONCE_LEN: usize = 12;
const LABEL: &[u8] = b"mail_crypt index cache 1";

/// The longest entry: chunk tags of 256 MB of mail. Dovecot drops all that it has cached of a mail
/// where that is more than 64 KiB.
const MAX_ENTRY: usize = 33 * 1024;

/// How many fields, the content key's first, help to read a file of `size` bytes: a small one has no chunks.
pub fn fields(size: u64) -> usize {
    if size > SMALL as u64 { 3 } else { 1 }
}

/// Where a mail is that was encrypted when it was read. A copy of it gets all that is cached of it, and is in another
/// place: then this says nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder's GUID.
    pub folder: Guid,
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The mail's UID.
    pub uid: u32,
}

impl Place {
    /// Bytes of an entry.
    pub const BYTES: usize = 24;

    /// The entry of a mail in this place.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut entry = [0; Self::BYTES];
        let (folder, rest) = entry.split_at_mut(self.folder.len());
        let (uid_validity, uid) = rest.split_at_mut(size_of::<u32>());
        folder.copy_from_slice(&self.folder);
        // The index cache belongs to one machine, whose numbers it has.
        uid_validity.copy_from_slice(&self.uid_validity.to_ne_bytes());
        uid.copy_from_slice(&self.uid.to_ne_bytes());
        entry
    }

    /// Whether `entry` says that the mail in this place was encrypted.
    pub fn is_known(self, entry: &[u8]) -> bool {
        entry == self.to_bytes()
    }
}

/// The key that entries for mails under `key` are sealed with.
///
/// # Errors
/// Where libcrypto fails.
pub fn derive(key: &PrivateKey) -> Result<Secret> {
    key.derive(LABEL)
}

fn seal(secret: &Secret, layout: u8, header: &[u8; 32], data: &[&[u8]]) -> Result<Vec<u8>> {
    let len: usize = data.iter().map(|part| part.len()).sum();
    let mut entry = Vec::with_capacity(1 + NONCE_LEN + len + TAG_LEN + MARGIN);
    entry.resize(1 + NONCE_LEN, layout);
    random(&mut entry[1..])?;
    let aad = associated(layout, header);
    let mut sealing = Cipher::AES_256_GCM.encrypt(secret, &entry[1..], &aad)?;
    for part in data {
        sealing.update(part, &mut entry)?;
    }
    sealing.finish(&mut entry)?;
    entry.extend_from_slice(&sealing.tag()?);
    Ok(entry)
}

fn open(secret: &Secret, layout: u8, header: &[u8; 32], entry: &[u8]) -> Option<Secret> {
    let (first, rest) = entry.split_first()?;
    if *first != layout || rest.len() < NONCE_LEN + TAG_LEN || entry.len() > MAX_ENTRY {
        return None;
    }
    let (nonce, rest) = rest.split_at(NONCE_LEN);
    let (data, tag) = rest.split_at(rest.len() - TAG_LEN);
    Cipher::AES_256_GCM
        .open(secret, nonce, &associated(layout, header), data, tag)
        .ok()
}

fn associated(layout: u8, header: &[u8; 32]) -> [u8; 33] {
    let mut aad = [layout; 33];
    aad[1..].copy_from_slice(header);
    aad
}

/// An entry with the content key of the mail whose header hashes to `header`.
///
/// # Errors
/// Where libcrypto fails.
pub fn seal_content_key(
    secret: &Secret,
    header: &[u8; 32],
    content: &ContentKey,
) -> Result<Vec<u8>> {
    seal(secret, CONTENT_KEY, header, &[content.as_bytes()])
}

/// The content key in `entry`, if it is one for this mail.
pub fn open_content_key(secret: &Secret, header: &[u8; 32], entry: &[u8]) -> Option<ContentKey> {
    let block = open(secret, CONTENT_KEY, header, entry)?;
    ContentKey::from_bytes(&block).ok()
}

/// An entry with the chunk tags of a large mail, and which file they belong to; none where there are no
/// tags or too many, or where a changed file couldn't be told from this one.
///
/// # Errors
/// Where libcrypto fails.
pub fn seal_chunk_tags(
    secret: &Secret,
    header: &[u8; 32],
    state: FileState,
    content: &Verified,
) -> Result<Option<Vec<u8>>> {
    let record = content.to_record().filter(|record| {
        let len = 1 + NONCE_LEN + FileState::BYTES + record.len() + TAG_LEN;
        len <= MAX_ENTRY && state.size != u64::MAX
    });
    let Some(record) = record else {
        return Ok(None);
    };
    seal(secret, CHUNK_TAGS, header, &[&state.to_bytes(), &record]).map(Some)
}

/// The large mail at whose start `opener`, unlocked, is, as it was verified when `entry` was made. None
/// if the file in `state` may have changed since: then all of it has to be verified, so that damage is
/// found before the first byte is served, and not only in its chunk.
pub fn open_chunk_tags(
    secret: &Secret,
    header: &[u8; 32],
    state: FileState,
    opener: &Opener,
    entry: &[u8],
) -> Option<Verified> {
    let data = open(secret, CHUNK_TAGS, header, entry)?;
    let (then, record) = data.split_at_checked(FileState::BYTES)?;
    if then != state.to_bytes() {
        return None;
    }
    opener.recall(record).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::stream::{Algorithm, Body, Encryptor, Limits, SecretCache, Sender, Version};

    const HEADER: [u8; 32] = [7; 32];
    const STATE: FileState = FileState {
        size: 1200,
        changed: 3,
        inode: 4,
    };

    fn secret() -> Secret {
        derive(&PrivateKey::generate("prime256v1").unwrap()).unwrap()
    }

    fn sealed() -> (Secret, Vec<u8>) {
        let secret = secret();
        let content = ContentKey::from_bytes(&[9; 60]).unwrap();
        let entry = seal_content_key(&secret, &HEADER, &content).unwrap();
        (secret, entry)
    }

    const LIMITS: Limits = Limits {
        small: 0,
        chunk: 64,
    };

    /// A mail of `size` bytes, `opener` at its start, and what was verified of it.
    fn large(size: usize) -> (Opener, Verified) {
        let key = PrivateKey::generate("prime256v1").unwrap();
        let mut sender = Sender::new(key.public());
        let mut encryptor =
            Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
        let mut file = Vec::new();
        encryptor.update(&vec![5; size], &mut file).unwrap();
        encryptor.finish(&mut file).unwrap();
        let opened = || {
            let mut opener = Opener::new(LIMITS);
            opener.feed(&file).unwrap();
            opener.unlock(&key, &mut SecretCache::default()).unwrap();
            opener
        };
        let Body::Large(content) = opened().finish().unwrap() else {
            panic!("this mail is large");
        };
        (opened(), *content)
    }

    #[test]
    fn an_entry_gives_back_its_content_key() {
        let (secret, entry) = sealed();
        let content = open_content_key(&secret, &HEADER, &entry).unwrap();
        assert_eq!(content.as_bytes(), [9; 60]);
    }

    #[test]
    fn an_entry_fits_one_mail_and_one_key() {
        let (secret, entry) = sealed();
        assert!(open_content_key(&secret, &[8; 32], &entry).is_none());
        let (other, _) = sealed();
        assert!(open_content_key(&other, &HEADER, &entry).is_none());
    }

    #[test]
    fn a_damaged_entry_is_ignored() {
        let (secret, entry) = sealed();
        for len in 0..entry.len() {
            assert!(open_content_key(&secret, &HEADER, &entry[..len]).is_none());
        }
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open_content_key(&secret, &HEADER, &damaged).is_none());
        }
        let (opener, content) = large(300);
        let entry = seal_chunk_tags(&secret, &HEADER, STATE, &content)
            .unwrap()
            .unwrap();
        let open = |entry: &[u8]| open_chunk_tags(&secret, &HEADER, STATE, &opener, entry);
        assert!(open(&entry).is_some());
        for len in 0..entry.len() {
            assert!(open(&entry[..len]).is_none());
        }
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&damaged).is_none());
        }
    }

    #[test]
    fn chunk_tags_fit_one_mail_in_one_state_of_its_file() {
        let secret = secret();
        let (opener, content) = large(300);
        let entry = seal_chunk_tags(&secret, &HEADER, STATE, &content)
            .unwrap()
            .unwrap();
        let open = |secret: &Secret, header: &[u8; 32], state| {
            open_chunk_tags(secret, header, state, &opener, &entry)
        };
        let known = open(&secret, &HEADER, STATE).unwrap();
        assert_eq!(known.plain_size(), 300);
        assert!(open(&secret, &[8; 32], STATE).is_none());
        assert!(open(&self::secret(), &HEADER, STATE).is_none());
        let changed = [
            FileState {
                size: 1201,
                ..STATE
            },
            FileState {
                changed: 4,
                ..STATE
            },
            FileState { inode: 5, ..STATE },
        ];
        for state in changed {
            assert!(open(&secret, &HEADER, state).is_none());
        }
    }

    #[test]
    fn an_entry_of_one_kind_is_none_of_the_other() {
        let (secret, entry) = sealed();
        let (opener, content) = large(300);
        let tags = seal_chunk_tags(&secret, &HEADER, STATE, &content)
            .unwrap()
            .unwrap();
        let relabelled = |label, entry: &[u8]| [&[label], &entry[1..]].concat();
        for (entry, tags) in [
            (entry.clone(), tags.clone()),
            (
                relabelled(CHUNK_TAGS, &entry),
                relabelled(CONTENT_KEY, &tags),
            ),
        ] {
            assert!(open_chunk_tags(&secret, &HEADER, STATE, &opener, &entry).is_none());
            assert!(open_content_key(&secret, &HEADER, &tags).is_none());
        }
    }

    #[test]
    fn no_entry_is_longer_than_dovecot_accepts() {
        let secret = secret();
        let longest = (MAX_ENTRY - 200) / 16 * 64;
        let (_, content) = large(longest);
        let entry = seal_chunk_tags(&secret, &HEADER, STATE, &content)
            .unwrap()
            .unwrap();
        assert!(entry.len() <= MAX_ENTRY && entry.len() > MAX_ENTRY - 300);
        let (_, content) = large(longest + 300 * 64);
        assert!(
            seal_chunk_tags(&secret, &HEADER, STATE, &content)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn what_can_not_be_told_from_a_changed_file_has_no_entry() {
        let (_, content) = large(300);
        let state = FileState {
            size: u64::MAX,
            ..STATE
        };
        let entry = seal_chunk_tags(&secret(), &HEADER, state, &content).unwrap();
        assert!(entry.is_none());
    }

    #[test]
    fn a_small_mail_has_no_chunk_tags() {
        assert_eq!(fields(SMALL as u64), 1);
        assert_eq!(fields(SMALL as u64 + 1), 3);
        assert_eq!(fields(u64::MAX), 3);
    }

    #[test]
    fn a_copy_of_a_mail_is_not_known_to_have_been_encrypted() {
        let place = Place {
            folder: [1; 16],
            uid_validity: 2,
            uid: 3,
        };
        let entry = place.to_bytes();
        assert!(place.is_known(&entry));
        assert!(!Place { uid: 4, ..place }.is_known(&entry));
        let renewed = Place {
            uid_validity: 3,
            ..place
        };
        assert!(!renewed.is_known(&entry));
        let elsewhere = Place {
            folder: [2; 16],
            ..place
        };
        assert!(!elsewhere.is_known(&entry));
        assert!(!place.is_known(&entry[..23]));
        assert!(!place.is_known(&[]));
    }
}
