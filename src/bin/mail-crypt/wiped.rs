//! Buffers for plaintext, passwords and keys: wiped when they are dropped, and what they leave behind when they
//! grow. What decompressors keep inside is their own.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read, Write};

use zeroize::{Zeroize, Zeroizing};

/// Read at once.
const SIZE: usize = 64 * 1024;

/// Bytes that become more.
#[derive(Default)]
pub struct Growing(Zeroizing<Vec<u8>>);

impl Growing {
    /// All that `from` has.
    pub fn read(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut all = Growing::default();
        copy(&mut from, &mut all)?;
        Ok(all.0)
    }

    /// All bytes.
    pub fn into_inner(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl Write for Growing {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let len = self.0.len() + data.len();
        if len > self.0.capacity() {
            let mut moved = Zeroizing::new(Vec::with_capacity(len.next_power_of_two()));
            moved.extend_from_slice(&self.0);
            self.0 = moved;
        }
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes everything on.
pub fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buf = Zeroizing::new(vec![0; SIZE]);
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buf[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Lets its reader look ahead.
pub struct Buffered<R> {
    from: R,
    buf: Vec<u8>,
    at: usize,
    end: usize,
}

impl<R> Buffered<R> {
    /// Nothing is read yet.
    pub fn new(from: R) -> Self {
        Buffered {
            from,
            buf: vec![0; SIZE],
            at: 0,
            end: 0,
        }
    }
}

impl<R> Drop for Buffered<R> {
    fn drop(&mut self) {
        self.buf.zeroize();
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
