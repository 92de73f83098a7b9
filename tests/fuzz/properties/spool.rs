//! The spool: whatever is read from whatever offset, with or without a file, is what the source gave.

use std::io;
use std::sync::OnceLock;

use mail_crypt_core::stream::spool::{CHUNK, File, Spool, Taken};

use super::Input;

/// A file that stops taking or giving what it should.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
    damaged: bool,
}

impl File for Disk {
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset as usize + data.len();
        if end > self.room {
            return Err(io::Error::other("full"));
        }
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[end - data.len()..end].copy_from_slice(data);
        Ok(())
    }

    fn read_at(&mut self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let at = offset as usize;
        let there = self.bytes.get(at..at + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        if self.damaged {
            out[at % 97] ^= 1;
        }
        Ok(())
    }
}

/// The most that the source has.
const MOST: usize = 65536 << 5;

/// The source's bytes from an offset on.
fn source(offset: u64) -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let byte = |o: usize| (o * 7 + (o >> 8) * 13 + (o >> 16) * 31) as u8;
    let bytes = BYTES.get_or_init(|| (0..MOST).map(byte).collect());
    &bytes[offset as usize..]
}

/// A stream over a spool, as the stream classes drive it.
struct Stream {
    spool: Spool<Disk>,
    disk: Option<Disk>,
    /// The source's length, and where it is.
    len: u64,
    at: u64,
    /// What the reader hasn't consumed, and what was lent last.
    keep: u64,
    next: u64,
    lent: Vec<u8>,
    piece: usize,
    damaged: bool,
}

impl Stream {
    /// Reads on. False: nothing comes any more.
    fn read(&mut self) -> bool {
        for _ in 0..100_000 {
            if self.next >= self.len {
                return false;
            }
            let wanted = self.spool.wants(self.next);
            match self.spool.read(self.keep, self.next) {
                Ok(Some(lent)) => {
                    assert!(lent.len() as u64 > self.next - self.keep);
                    self.lent = lent.to_vec();
                    self.next = self.keep + lent.len() as u64;
                    return true;
                }
                Ok(None) => self.fill(wanted),
                Err(_) => {
                    assert!(self.damaged);
                    return false;
                }
            }
        }
        panic!("reading doesn't come to an end");
    }

    fn fill(&mut self, wanted: u64) {
        // The source goes back, or forward without being asked for what it passes.
        self.at = wanted;
        assert!(self.at <= self.len);
        let end = (self.at + self.piece as u64).min(self.len);
        let data = &source(self.at)[..(end - self.at) as usize];
        match self.spool.take(self.at, data).unwrap() {
            Taken::Bytes(n) => {
                assert!(n > 0 || data.is_empty());
                self.at += n as u64;
            }
            Taken::NeedsFile => self.spool.set_file(self.disk.take()).unwrap(),
        }
    }

    fn check(&self) {
        assert!(source(self.keep).starts_with(&self.lent));
    }
}

/// Reads, skips and seeks as the bytes say.
pub(crate) fn any(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    let len = (input.number() as u64) << (kind % 6);
    let room = input.number() << (kind / 6 % 7);
    let damaged = kind & 0x80 != 0;
    let disk = Disk {
        bytes: Vec::new(),
        room,
        damaged,
    };
    let mut stream = Stream {
        spool: Spool::new().unwrap(),
        disk: Some(disk).filter(|_| kind & 0x40 == 0),
        len,
        at: 0,
        keep: 0,
        next: 0,
        lent: Vec::new(),
        piece: 1024 + input.number(),
        damaged,
    };
    for _ in 0..200 {
        if input.is_empty() {
            return;
        }
        let step = input.byte();
        let amount = (input.number() as u64) << ((step >> 4) % 8);
        match step % 4 {
            0 => {
                stream.keep = amount % (len + 1);
                stream.next = stream.keep;
                stream.lent.clear();
            }
            1 => {
                let skip = amount.min(stream.lent.len() as u64);
                stream.keep += skip;
                stream.lent.drain(..skip as usize);
            }
            // A stream doesn't read on while its buffer is full.
            _ if stream.lent.len() > 4 * CHUNK => {}
            _ => drop(stream.read()),
        }
        stream.check();
    }
}
