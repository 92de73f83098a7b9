//! Tells an encrypted mail whose start is damaged from a mail that was never encrypted.
//!
//! A mail begins with text. An encrypted one begins with a magic, followed by numbers with zero bytes
//! at fixed places.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::format::stream::{Header, MAGIC, header_len};
use crate::format::trees;

/// How many bytes tell text from anything else.
const START: usize = 18;
/// So many matching bytes of the magic are no coincidence.
const ENOUGH_OF_MAGIC: usize = 5;

/// What compressed mail begins with: gz, bz2, xz, zstd, and Dovecot's own frame for lz4.
const COMPRESSED: [&[u8]; 5] = [
    &[0x1f, 0x8b],
    b"BZh",
    b"\xfd7zXZ\0",
    &[0x28, 0xb5, 0x2f, 0xfd],
    b"Dovecot-LZ4",
];

/// A mail's sizes, as far as the storage knows them.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The mail's size when it was stored, before anything was encrypted or compressed.
    pub recorded: Option<u64>,
    /// The same with CRLF for each LF, as IMAP counts.
    pub with_crlf: Option<u64>,
    /// The file's size now.
    pub actual: Option<u64>,
}

/// Whether a file without the magic begins like a mail, so that no further checks are needed. `prefix`
/// is the start of the file, or all of it if it is shorter than the magic.
pub fn begins_as_text(prefix: &[u8]) -> bool {
    prefix.len() >= MAGIC.len() && !prefix.iter().take(START).any(|b| is_control(*b))
}

/// Whether a mail that begins with `prefix` is compressed.
pub fn is_packed(prefix: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| prefix.starts_with(magic))
}

/// Refuses a file that doesn't begin with the magic if it was once encrypted. The longer `prefix`, the
/// start of the file, the more can be told, up to the length of a header.
///
/// # Errors
/// Truncated or corrupt, saying what shows that the mail was encrypted or is incomplete.
pub fn refuse_damaged(prefix: &[u8], sizes: Sizes) -> Result<()> {
    if prefix.len() < MAGIC.len() {
        return refuse_short(prefix, sizes);
    }
    if begins_as_text(prefix) {
        return Ok(());
    }
    if has_header(prefix) {
        return Err(Error::corrupt(
            "the first bytes are not those of an encrypted mail, but its header follows",
        ));
    }
    if is_nearly_magic(prefix) {
        return Err(Error::corrupt(
            "the first bytes are nearly those of an encrypted mail",
        ));
    }
    let compressed = is_packed(prefix);
    if is_nearly_trees(prefix) {
        return Err(Error::corrupt(
            "the first bytes are nearly those of a mail that TREES wrote",
        ));
    }
    match sizes {
        Sizes {
            recorded: Some(recorded),
            actual: Some(actual),
            ..
        } if recorded != actual && !compressed && is_binary(prefix) => {
            Err(Error::corrupt(format!(
                "it was stored as {recorded} bytes, is {actual}, and is neither encrypted, compressed nor text"
            )))
        }
        _ => Ok(()),
    }
}

fn refuse_short(prefix: &[u8], sizes: Sizes) -> Result<()> {
    let len = prefix.len();
    // A CR for each byte, and no more: so it has lost some.
    let with_crlf = sizes.with_crlf.filter(|n| *n > 2 * len as u64);
    let recorded = sizes.recorded.or(with_crlf);
    if let Some(recorded) = recorded.filter(|n| *n > len as u64) {
        return Err(Error::truncated(format!(
            "only {len} of the mail's {recorded} bytes are left"
        )));
    }
    if len > 0 && (MAGIC.starts_with(prefix) || trees::MAGIC.starts_with(prefix)) {
        return Err(Error::truncated(format!(
            "only {len} bytes of an encrypted mail are left"
        )));
    }
    Ok(())
}

/// Whether there is a header with nothing wrong but the magic.
fn has_header(prefix: &[u8]) -> bool {
    mended(prefix).is_some()
}

/// The original start of the file, if only the magic is damaged and `prefix` holds the whole header.
pub fn mended(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut mended = prefix.to_vec();
    mended.get_mut(..MAGIC.len())?.copy_from_slice(&MAGIC);
    is_encrypted_mail(&mended).then_some(mended)
}

/// Whether this is the start of an encrypted mail: a whole header, not only the magic, with which a
/// client's mail may begin too.
pub fn is_encrypted_mail(prefix: &[u8]) -> bool {
    let Ok(Some(len)) = header_len(prefix) else {
        return false;
    };
    prefix
        .get(..len)
        .is_some_and(|whole| Header::parse(whole).is_ok())
}

/// Refuses a decrypted mail that begins with `prefix` if it is still encrypted.
///
/// # Errors
/// Unsupported.
pub fn refuse_twice(prefix: &[u8]) -> Result<()> {
    if is_encrypted_mail(prefix) {
        return Err(Error::unsupported(
            "encrypted twice: it was encrypted already when it was stored (mail-crypt decrypt --twice gets the mail)",
        ));
    }
    Ok(())
}

/// Whether most of the magic is there, and bytes that text doesn't have.
fn is_nearly_magic(prefix: &[u8]) -> bool {
    let start = &prefix[..MAGIC.len()];
    let same = start.iter().zip(MAGIC).filter(|(a, b)| **a == *b).count();
    same >= ENOUGH_OF_MAGIC && start.iter().any(|b| is_control(*b))
}

/// Whether at most two bits of what TREES begins with are others.
fn is_nearly_trees(prefix: &[u8]) -> bool {
    let right = trees::MAGIC.into_iter().chain(trees::VERSION.to_be_bytes());
    let others: u32 = right.zip(prefix).map(|(a, b)| (a ^ b).count_ones()).sum();
    others <= 2 && prefix.len() >= trees::HEADER
}

/// Whether this isn't text in any encoding, not even ISO-2022 with its escapes.
fn is_binary(prefix: &[u8]) -> bool {
    let start = &prefix[..prefix.len().min(START)];
    let odd = |b: &&u8| is_control(**b) && **b != 0x1b;
    start.contains(&0) || start.iter().filter(odd).count() >= 2
}

fn is_control(b: u8) -> bool {
    b < 0x20 && !matches!(b, b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::key::PrivateKey;
    use crate::stream::{Algorithm, Encryptor, Sender, Version};

    const UNKNOWN: Sizes = Sizes {
        recorded: None,
        with_crlf: None,
        actual: None,
    };

    fn sizes(recorded: u64, actual: u64) -> Sizes {
        Sizes {
            recorded: Some(recorded),
            actual: Some(actual),
            ..UNKNOWN
        }
    }

    fn encrypted(version: Version) -> Vec<u8> {
        let key = PrivateKey::generate("prime256v1").unwrap();
        let mut sender = Sender::new(key.public());
        let mut encryptor = Encryptor::new(&Algorithm::default(), version, &mut sender).unwrap();
        let mut file = Vec::new();
        encryptor.update(&[b'a'; 300], &mut file).unwrap();
        encryptor.finish(&mut file).unwrap();
        file
    }

    fn refused(prefix: &[u8], sizes: Sizes) -> Option<ErrorKind> {
        refuse_damaged(prefix, sizes).err().map(|e| e.kind())
    }

    const MAILS: [&[u8]; 8] = [
        b"From: <a@example.org>\r\nTo: <b@example.org>\r\n\r\nbody\r\n",
        b"CRYPTED: a header of that name\n\nbody\n",
        b"CRYPTED\n\nno header at all\n",
        b"Subject: \x1b$B%\x1b(B\r\n\r\nISO-2022-JP as it is\r\n",
        b"X: \xe2\x82\xac and more in UTF-8\n\n",
        b"\r\n\r\na body alone\r\n",
        b"\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t",
        b"Subject: a\x07bell\r\n\r\n",
    ];

    #[test]
    fn real_mail_is_never_refused() {
        for mail in MAILS {
            assert_eq!(refused(mail, UNKNOWN), None);
            // Files are changed by other programs than Dovecot, and keep the size in their names.
            assert_eq!(refused(mail, sizes(10, 4000)), None);
            assert_eq!(refused(mail, sizes(4000, 10)), None);
        }
        for mail in [b"".as_slice(), b"\n", b"a: b\n\n", b"X"] {
            assert_eq!(refused(mail, UNKNOWN), None);
            assert_eq!(
                refused(mail, sizes(mail.len() as u64, mail.len() as u64)),
                None
            );
        }
    }

    #[test]
    fn most_mail_is_known_at_a_glance() {
        let text = MAILS.iter().filter(|mail| begins_as_text(mail)).count();
        assert_eq!(text, 6);
        assert!(!begins_as_text(&encrypted(Version::V2)));
    }

    #[test]
    fn whatever_happens_to_the_magic_the_header_tells() {
        for version in [Version::V1, Version::V2] {
            let file = encrypted(version);
            for bit in 0..MAGIC.len() * 8 {
                let mut damaged = file.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    refused(&damaged, UNKNOWN),
                    Some(ErrorKind::Corrupt),
                    "{bit}"
                );
            }
            for other in [[b'A'; 9], [0; 9], *b"From: <a@"] {
                let mut damaged = file.clone();
                damaged[..9].copy_from_slice(&other);
                assert_eq!(refused(&damaged, UNKNOWN), Some(ErrorKind::Corrupt));
            }
        }
    }

    #[test]
    fn encrypted_mail_is_more_than_its_magic() {
        let file = encrypted(Version::V2);
        assert!(refuse_twice(&file).is_err_and(|e| e.kind() == ErrorKind::Unsupported));
        assert!(refuse_twice(&file[..100]).is_ok());
        assert!(refuse_twice(b"CRYPTED\x03\x07\x02 of a client\r\n\r\n").is_ok());
        let mut damaged = file.clone();
        damaged[0] ^= 1;
        assert!(refuse_twice(&damaged).is_ok());
        assert_eq!(mended(&damaged), Some(file));
        assert_eq!(mended(MAILS[0]), None);
        assert_eq!(mended(b"short"), None);
    }

    #[test]
    fn a_few_bytes_of_the_magic_tell_where_the_header_is_damaged_as_well() {
        let mut damaged = encrypted(Version::V2);
        damaged[2] ^= 1;
        damaged[13] ^= 0x40;
        damaged[25] ^= 0x40;
        assert_eq!(refused(&damaged, UNKNOWN), Some(ErrorKind::Corrupt));
        assert_eq!(refused(&damaged[..9], UNKNOWN), Some(ErrorKind::Corrupt));
    }

    #[test]
    fn damage_to_what_trees_begins_with_is_seen_without_a_size() {
        let mut start = *b"\xee\xff\xcc\0\0\0\x01\x9b\x8c\x98\x67\x35\xcd\x71\xc1\x23\x10\x05";
        for bit in 0..trees::HEADER * 8 {
            start[bit / 8] ^= 1 << (bit % 8);
            // Another version is named by whoever opens the file.
            let kind = (!trees::is_trees(&start)).then_some(ErrorKind::Corrupt);
            assert_eq!(refused(&start, UNKNOWN).filter(|_| kind.is_some()), kind);
            start[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_recorded_size_tells_where_the_beginning_is_gone() {
        let mut damaged = encrypted(Version::V2);
        damaged[..64].fill(0);
        let len = damaged.len() as u64;
        assert_eq!(refused(&damaged, sizes(300, len)), Some(ErrorKind::Corrupt));
        // A mail in plaintext with zeros in it is all that there is of it.
        assert_eq!(refused(&damaged, sizes(len, len)), None);
        assert_eq!(refused(&damaged, UNKNOWN), None);
        for magic in COMPRESSED {
            damaged[..magic.len()].copy_from_slice(magic);
            assert_eq!(refused(&damaged, sizes(300, len)), None);
            damaged[..64].fill(0);
        }
    }

    #[test]
    fn a_file_cut_short_is_refused_by_its_size_or_its_first_bytes() {
        for len in 0..MAGIC.len() {
            let left = &MAGIC[..len];
            assert_eq!(
                refused(left, sizes(300, len as u64)),
                Some(ErrorKind::Truncated)
            );
            let known = (len > 0).then_some(ErrorKind::Truncated);
            assert_eq!(refused(left, UNKNOWN), known);
        }
    }

    #[test]
    fn a_mail_is_at_most_twice_as_large_with_crlf() {
        let crlf = |n| Sizes {
            with_crlf: Some(n),
            ..UNKNOWN
        };
        assert_eq!(refused(b"\n\n\n", crlf(6)), None);
        assert_eq!(refused(b"\n\n\n", crlf(7)), Some(ErrorKind::Truncated));
        let known = Sizes {
            recorded: Some(3),
            ..crlf(7)
        };
        assert_eq!(refused(b"\n\n\n", known), None);
    }
}
