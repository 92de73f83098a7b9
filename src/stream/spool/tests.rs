#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// A file that tests can look into, change, and fill up.
#[derive(Clone)]
struct Disk {
    bytes: Rc<RefCell<Vec<u8>>>,
    room: usize,
}

impl Disk {
    fn of(room: usize) -> Self {
        let bytes = Rc::default();
        Disk { bytes, room }
    }
}

impl File for Disk {
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.bytes.borrow_mut();
        let offset = usize::try_from(offset).unwrap();
        assert_eq!(offset, bytes.len(), "only ever appended to");
        if offset + data.len() > self.room {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        bytes.extend_from_slice(data);
        Ok(())
    }

    fn read_at(&mut self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.bytes.borrow();
        let start = usize::try_from(offset).unwrap();
        let data = bytes.get(start..start + out.len());
        out.copy_from_slice(data.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A reader and its source: what the stream class does, in memory.
struct Rig {
    spool: Spool<Disk>,
    source: Vec<u8>,
    /// Bytes that the source gives at once.
    step: usize,
    disk: Option<Disk>,
    /// How often the source had to go back.
    restarts: usize,
    source_at: u64,
}

impl Rig {
    fn new(size: usize, step: usize, disk: Option<Disk>) -> Self {
        let source = (0..size).map(|i| (i / 7 + i % 251) as u8).collect();
        Rig {
            spool: Spool::new().unwrap(),
            source,
            step,
            disk,
            restarts: 0,
            source_at: 0,
        }
    }

    fn read(&mut self, keep: u64, next: u64) -> Result<Vec<u8>> {
        loop {
            if let Some(data) = self.spool.read(keep, next)? {
                return Ok(data.to_vec());
            }
            let want = self.spool.wants(next);
            self.restarts += usize::from(want < self.source_at);
            let at = usize::try_from(want).unwrap();
            let Some(rest) = self.source.get(at..).filter(|r| !r.is_empty()) else {
                return Ok(Vec::new());
            };
            let given = &rest[..rest.len().min(self.step)];
            match self.spool.take(want, given)? {
                Taken::Bytes(n) => self.source_at = want + n as u64,
                Taken::NeedsFile => self.spool.set_file(self.disk.clone())?,
            }
        }
    }

    fn read_all(&mut self) {
        let mut offset = 0;
        loop {
            let data = self.read(offset, offset).unwrap();
            if data.is_empty() {
                break;
            }
            let start = usize::try_from(offset).unwrap();
            assert!(self.source[start..].starts_with(&data), "at {offset}");
            offset += data.len() as u64;
        }
        assert_eq!(offset, self.source.len() as u64);
    }

    fn memory(&self) -> usize {
        self.spool.tail.capacity() + self.spool.lent.plain.capacity()
    }
}

const LARGE: usize = MEMORY + 5 * CHUNK + 1234;

fn large() -> (Rig, Disk) {
    let disk = Disk::of(usize::MAX);
    let mut rig = Rig::new(LARGE, 40_000, Some(disk.clone()));
    rig.read_all();
    (rig, disk)
}

#[test]
fn what_fits_into_memory_never_needs_a_file() {
    let mut rig = Rig::new(MEMORY, 10_000, None);
    rig.read_all();
    rig.read_all();
    assert!(rig.spool.keeps());
    assert_eq!(rig.restarts, 0);
}

#[test]
fn a_file_holds_whole_sealed_chunks_and_no_plaintext() {
    let (rig, disk) = large();
    let bytes = disk.bytes.borrow();
    assert_eq!(bytes.len(), LARGE / CHUNK * SEALED);
    for start in [0, CHUNK, LARGE / 2, LARGE / CHUNK * CHUNK - 16] {
        let plain = &rig.source[start..start + 16];
        assert!(
            !bytes.windows(16).any(|w| w == plain),
            "plaintext of {start}"
        );
    }
}

#[test]
fn the_same_data_is_sealed_differently_each_time() {
    let ((_, one), (_, two)) = (large(), large());
    assert_ne!(one.bytes.borrow()[..SEALED], two.bytes.borrow()[..SEALED]);
}

#[test]
fn a_large_source_is_read_once() {
    let (mut rig, _) = large();
    rig.read_all();
    assert!(rig.spool.keeps());
    assert_eq!(rig.restarts, 0);
}

#[test]
fn a_changed_file_is_noticed_and_never_served() {
    let (mut rig, disk) = large();
    let size = disk.bytes.borrow().len();
    for at in [0, CHUNK - 1, CHUNK, SEALED - 1, SEALED * 3 + 77, size - 1] {
        disk.bytes.borrow_mut()[at] ^= 1;
        let offset = (at / SEALED * CHUNK) as u64;
        let kind = rig.read(offset, offset).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Tampered, "byte {at}");
        disk.bytes.borrow_mut()[at] ^= 1;
    }
    rig.read_all();
}

#[test]
fn exchanged_chunks_are_noticed() {
    let (mut rig, disk) = large();
    let mut bytes = disk.bytes.borrow_mut();
    let (first, second) = bytes.split_at_mut(SEALED);
    first.swap_with_slice(&mut second[..SEALED]);
    drop(bytes);
    for offset in [0, CHUNK as u64] {
        let kind = rig.read(offset, offset).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Tampered);
    }
}

#[test]
fn a_chunk_of_another_spool_is_noticed() {
    let ((mut rig, mine), (_, other)) = (large(), large());
    mine.bytes.borrow_mut()[..SEALED].copy_from_slice(&other.bytes.borrow()[..SEALED]);
    assert_eq!(rig.read(0, 0).unwrap_err().kind(), ErrorKind::Tampered);
}

#[test]
fn a_file_that_was_cut_is_noticed() {
    let (mut rig, disk) = large();
    let size = disk.bytes.borrow().len();
    disk.bytes.borrow_mut().truncate(size - 1);
    let last = (size / SEALED * CHUNK - CHUNK) as u64;
    assert_eq!(
        rig.read(last, last).unwrap_err().kind(),
        ErrorKind::Truncated
    );
    assert!(!rig.read(0, 0).unwrap().is_empty());
}

#[test]
fn without_a_file_the_source_starts_again_and_the_data_is_the_same() {
    for room in [None, Some(0), Some(SEALED * 3 + 5), Some(SEALED * 18)] {
        let disk = room.map(Disk::of);
        let mut rig = Rig::new(LARGE, 40_000, disk);
        rig.read_all();
        assert!(!rig.spool.keeps());
        assert_eq!(rig.spool.failure().is_some(), room.is_some());
        assert!(rig.spool.failure().is_none(), "told once");
        rig.read_all();
        assert!(rig.restarts > 0);
    }
}

#[test]
fn memory_is_bounded_whatever_the_size() {
    for disk in [None, Some(Disk::of(usize::MAX))] {
        let mut rig = Rig::new(8 * MEMORY, 100_000, disk);
        let mut offset = 0;
        while let Ok(data) = rig.read(offset, offset) {
            assert!(rig.memory() <= 2 * MEMORY, "{} at {offset}", rig.memory());
            if data.is_empty() {
                break;
            }
            offset += data.len() as u64;
        }
        // Once past memory, chunks are all there is.
        assert!(rig.memory() <= 4 * CHUNK, "{}", rig.memory());
    }
}

#[test]
fn what_was_lent_stays_until_there_is_more() {
    let mut spool: Spool<Disk> = Spool::new().unwrap();
    spool.take(0, b"some").unwrap();
    let lent = spool.read(0, 0).unwrap().unwrap().as_ptr();
    assert!(spool.read(0, 4).unwrap().is_none());
    assert_eq!(spool.lent.plain.as_ptr(), lent);
    assert_eq!(*spool.lent.plain, *b"some");
    spool.take(4, b" more").unwrap();
    assert_eq!(spool.read(2, 4).unwrap().unwrap(), b"me more");
}

#[test]
fn what_comes_out_of_order_is_refused() {
    let mut spool: Spool<Disk> = Spool::new().unwrap();
    spool.take(0, b"some").unwrap();
    assert!(spool.take(5, b"more").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_offset_reads_the_same_in_any_chunking(
        size in 1usize..LARGE,
        step in 1000usize..200_000,
        room in prop_oneof![Just(None), Just(Some(SEALED * 17)), Just(Some(usize::MAX))],
        reads in prop::collection::vec((0usize..LARGE, 0usize..100_000), 1..12),
    ) {
        let mut rig = Rig::new(size, step, room.map(Disk::of));
        for (keep, ahead) in reads {
            // A seek, then more and more from there in one piece.
            let mut have = Vec::new();
            while have.len() <= ahead {
                let next = (keep + have.len()) as u64;
                let data = rig.read(keep as u64, next).unwrap();
                if data.is_empty() {
                    prop_assert!(next >= size as u64);
                    break;
                }
                prop_assert!(data.len() > have.len());
                have = data;
            }
            if !have.is_empty() {
                prop_assert!(rig.source[keep..].starts_with(&have));
            }
        }
    }
}
