//! Content keys in Dovecot's index cache: a later session skips the elliptic curve.
//!
//! An entry is useless without the folder's private key, from which its own key is derived, and
//! fits one mail only: the hash of the mail's header is authenticated with it. A damaged or stale
//! entry is ignored; the mail is then opened the long way.
#![forbid(unsafe_code)]

use crate::crypto::cipher::{Cipher, TAG_LEN};
use crate::crypto::digest::Digest;
use crate::crypto::{Secret, random};
use crate::error::Result;
use crate::key::{PrivateKey, Protect};
use crate::stream::ContentKey;

/// First byte of an entry: a later layout gets another.
const LAYOUT: u8 = 1;
const NONCE_LEN: usize = 12;
const LABEL: &[u8] = b"mail_crypt index cache 1";

/// The key that entries for mails under `key` are sealed with.
///
/// # Errors
/// Where libcrypto fails.
pub fn derive(key: &PrivateKey) -> Result<Secret> {
    let text = key.to_dovecot(Protect::None)?;
    Ok(Secret::new(Digest::Sha256.hmac(text.as_bytes(), &[LABEL])?))
}

/// An entry for the mail whose header hashes to `header`.
///
/// # Errors
/// Where libcrypto fails.
pub fn seal(secret: &Secret, header: &[u8; 32], content: &ContentKey) -> Result<Vec<u8>> {
    let mut entry = vec![LAYOUT; 1 + NONCE_LEN];
    random(&mut entry[1..])?;
    let mut sealing = Cipher::AES_256_GCM.encrypt(secret, &entry[1..], header)?;
    sealing.update(content.as_bytes(), &mut entry)?;
    sealing.finish(&mut entry)?;
    entry.extend_from_slice(&sealing.tag()?);
    Ok(entry)
}

/// The content key in `entry`, if it is one for this mail.
pub fn open(secret: &Secret, header: &[u8; 32], entry: &[u8]) -> Option<ContentKey> {
    let (layout, rest) = entry.split_first()?;
    if *layout != LAYOUT || rest.len() < NONCE_LEN + TAG_LEN {
        return None;
    }
    let (nonce, rest) = rest.split_at(NONCE_LEN);
    let (data, tag) = rest.split_at(rest.len() - TAG_LEN);
    let block = Cipher::AES_256_GCM
        .open(secret, nonce, header, data, tag)
        .ok()?;
    ContentKey::from_bytes(&block).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const HEADER: [u8; 32] = [7; 32];

    fn sealed() -> (Secret, Vec<u8>) {
        let secret = derive(&PrivateKey::generate("prime256v1").unwrap()).unwrap();
        let content = ContentKey::from_bytes(&[9; 60]).unwrap();
        let entry = seal(&secret, &HEADER, &content).unwrap();
        (secret, entry)
    }

    #[test]
    fn an_entry_gives_back_its_content_key() {
        let (secret, entry) = sealed();
        let content = open(&secret, &HEADER, &entry).unwrap();
        assert_eq!(content.as_bytes(), [9; 60]);
    }

    #[test]
    fn an_entry_fits_one_mail_and_one_key() {
        let (secret, entry) = sealed();
        assert!(open(&secret, &[8; 32], &entry).is_none());
        let (other, _) = sealed();
        assert!(open(&other, &HEADER, &entry).is_none());
    }

    #[test]
    fn a_damaged_entry_is_ignored() {
        let (secret, entry) = sealed();
        for len in 0..entry.len() {
            assert!(open(&secret, &HEADER, &entry[..len]).is_none());
        }
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&secret, &HEADER, &damaged).is_none());
        }
    }
}
