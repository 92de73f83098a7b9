//! Plaintext must not look encrypted: a reader would take it for a damaged mail, or for one that was encrypted twice.
#![forbid(unsafe_code)]

use super::damage::is_encrypted_mail;
use crate::error::{Error, ErrorKind, Result};
use crate::format::stream::MAGIC;

/// Passes plaintext through, unless it begins with the magic of an encrypted stream.
#[derive(Default)]
pub struct Guard {
    /// The first bytes, held back until they turn out not to be the magic.
    held: Vec<u8>,
    decided: bool,
    refused: bool,
}

impl Guard {
    /// Takes `plain` and appends what may be stored to `out`. Once refused, nothing is.
    pub fn update(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if self.refused {
            return;
        }
        if self.decided {
            out.extend_from_slice(plain);
            return;
        }
        self.held.extend_from_slice(plain);
        if self.held.starts_with(&MAGIC) {
            self.refused = true;
            self.held = Vec::new();
        } else if !MAGIC.starts_with(&self.held) {
            self.decided = true;
            out.append(&mut self.held);
        }
    }

    /// Appends what is still held back.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] where the plaintext began with the magic.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.refused {
            return Err(Error::new(
                ErrorKind::Refused,
                "a mail that looks encrypted was sent by the client, and encryption is off: \
                 it could never be read back",
            ));
        }
        self.decided = true;
        out.append(&mut self.held);
        Ok(())
    }

    /// Whether the mail must not be stored.
    pub fn refused(&self) -> bool {
        self.refused
    }
}

/// How much of a mail is looked at: nearly every header ends within it.
const LOOK: usize = 4096;

/// Looks at the beginning of a mail that is to be encrypted: is it encrypted already? A header of its own takes more
/// than the magic, with which a client's mail may begin.
#[derive(Default)]
pub struct Watch {
    /// The first bytes, as long as they may be a header.
    seen: Vec<u8>,
    decided: bool,
    refused: bool,
}

impl Watch {
    /// Looks at the next bytes of the mail.
    pub fn update(&mut self, plain: &[u8]) {
        if self.decided {
            return;
        }
        let room = LOOK - self.seen.len();
        self.seen.extend_from_slice(&plain[..plain.len().min(room)]);
        let start = &self.seen[..self.seen.len().min(MAGIC.len())];
        self.refused = is_encrypted_mail(&self.seen);
        if self.refused || !MAGIC.starts_with(start) || self.seen.len() == LOOK {
            self.decided = true;
            self.seen = Vec::new();
        }
    }

    /// Makes sure that the mail may be stored, as far as it was seen.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`]
    pub fn check(&self) -> Result<()> {
        if self.refused {
            return Err(Error::new(
                ErrorKind::Refused,
                "a mail that is encrypted already was to be stored: it would be encrypted twice",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;
    use crate::stream::{Algorithm, Encryptor, Sender, Version};

    fn pass(chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut guard = Guard::default();
        let mut out = Vec::new();
        for chunk in chunks {
            guard.update(chunk, &mut out);
        }
        let ok = guard.finish(&mut out).is_ok();
        (out, ok)
    }

    #[test]
    fn plaintext_passes_in_any_chunking() {
        for text in [&b""[..], b"C", b"CRYPTED", b"CRYPTED\x03 mail", b"From: a"] {
            assert_eq!(pass(&[text]), (text.to_vec(), true));
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(pass(&bytes), (text.to_vec(), true));
        }
    }

    #[test]
    fn what_is_encrypted_already_is_noticed_in_any_chunking() {
        let key = PrivateKey::generate("prime256v1").unwrap();
        let mut sender = Sender::new(key.public());
        let mut file = Vec::new();
        let mut encryptor =
            Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
        encryptor.update(&[b'a'; 5000], &mut file).unwrap();
        encryptor.finish(&mut file).unwrap();
        let damaged = [&MAGIC, &file[10..]].concat();
        let only_the_magic = [&MAGIC[..], &[b'a'; 5000]].concat();
        for size in [1, 7, 100, 4095, 4096, 6000] {
            let watch = |mail: &[u8]| {
                let mut watch = Watch::default();
                mail.chunks(size).for_each(|chunk| watch.update(chunk));
                watch.check().is_ok()
            };
            assert!(!watch(&file));
            assert!(watch(&damaged));
            assert!(watch(&only_the_magic));
            assert!(watch(b""));
            assert!(watch(b"From: a\n\nb"));
        }
    }

    #[test]
    fn what_looks_encrypted_is_refused_in_any_chunking() {
        let mut mail = MAGIC.to_vec();
        mail.extend_from_slice(b"\x02 and more");
        assert_eq!(pass(&[&mail]), (Vec::new(), false));
        let bytes: Vec<&[u8]> = mail.chunks(1).collect();
        assert_eq!(pass(&bytes), (Vec::new(), false));
    }
}
