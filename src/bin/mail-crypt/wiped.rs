//! Reads and copies plaintext through buffers that are wiped. Decompressors have buffers of their own.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read, Write};

use mail_crypt_core::crypto::Secret;

/// Bytes read at once.
const SIZE: usize = 64 * 1024;

/// Copies everything.
pub(crate) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buf = Secret::zeroed(SIZE);
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buf[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Buffered reading, as `BufReader`.
pub(crate) struct Buffered<R> {
    from: R,
    buf: Secret,
    at: usize,
    end: usize,
}

impl<R> Buffered<R> {
    /// Nothing has been read yet.
    pub(crate) fn new(from: R) -> Self {
        Buffered {
            from,
            buf: Secret::zeroed(SIZE),
            at: 0,
            end: 0,
        }
    }
}

impl<R: Read> BufRead for Buffered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
            self.end = self.from.read(&mut self.buf)?;
        }
        Ok(&self.buf[self.at..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.end);
    }
}

impl<R: Read> Read for Buffered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let found = self.fill_buf()?;
        let n = found.len().min(out.len());
        out[..n].copy_from_slice(&found[..n]);
        self.consume(n);
        Ok(n)
    }
}
