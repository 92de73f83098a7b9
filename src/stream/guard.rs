//! Plaintext must not look encrypted: a reader would take it for a damaged mail.
#![forbid(unsafe_code)]

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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_looks_encrypted_is_refused_in_any_chunking() {
        let mut mail = MAGIC.to_vec();
        mail.extend_from_slice(b"\x02 and more");
        assert_eq!(pass(&[&mail]), (Vec::new(), false));
        let bytes: Vec<&[u8]> = mail.chunks(1).collect();
        assert_eq!(pass(&bytes), (Vec::new(), false));
    }
}
