//! What the offline tool reads: dbox files, dict files, compressed mail.

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;

use mail_crypt_core::store::{Attributes, Scope};

use super::{Input, Pieces};

#[path = "../../../src/bin/mail-crypt/compress.rs"]
mod compress;
#[path = "../../../src/bin/mail-crypt/container.rs"]
mod container;
#[path = "../../../src/bin/mail-crypt/dict.rs"]
mod dict_file;
#[path = "../../../src/bin/mail-crypt/failure.rs"]
mod failure;
// Some of it is for what isn't fuzzed.
#[allow(dead_code)]
#[path = "../../../src/bin/mail-crypt/wiped.rs"]
pub(crate) mod wiped;

/// What the tool's sources expect of the crate that they are in.
pub(crate) mod root {
    pub(crate) use super::failure::{Failure, Result};
    pub(crate) use super::wiped;

    pub(crate) mod secret {
        pub(crate) fn key_text(
            path: &std::path::Path,
        ) -> super::Result<zeroize::Zeroizing<String>> {
            let text = std::fs::read_to_string(path);
            text.map(Into::into)
                .map_err(|e| super::Failure::io(path.display(), e))
        }
    }
}

/// A file of this process, with these bytes in it.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    let folder = if shm.is_dir() {
        shm
    } else {
        std::env::temp_dir()
    };
    let path = folder.join(format!("mail-crypt-{name}-{}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

/// Any bytes as a dbox file, and a dbox file with mails of any bytes.
pub(crate) fn dbox(data: &[u8]) {
    let path = file("dbox", data);
    for number in [None, Some(0), Some(1), Some(2), Some(7)] {
        if let Ok(mut mail) = container::Mail::open(&path, number) {
            let size = mail.size();
            assert!(size <= data.len() as u64);
            let mut read = Vec::new();
            mail.read_to_end(&mut read).unwrap();
            assert_eq!(read.len() as u64, size);
            mail.seek_to(size / 2).unwrap();
            assert_eq!(mail.read_to_end(&mut read).unwrap() as u64, size - size / 2);
        }
    }
    let mails: Vec<&[u8]> = Pieces::of(data).take(5).collect();
    fs::write(&path, mdbox(&mails)).unwrap();
    for (i, expected) in mails.iter().enumerate() {
        let mut read = Vec::new();
        let mut mail = container::Mail::open(&path, Some(i + 1)).expect("a mail");
        mail.read_to_end(&mut read).unwrap();
        assert_eq!(read, *expected);
    }
    assert!(mails.is_empty() || container::Mail::open(&path, Some(mails.len() + 1)).is_err());
    fs::remove_file(path).unwrap();
}

fn mdbox(mails: &[&[u8]]) -> Vec<u8> {
    let mut file = b"2 M1e C69259b81\n".to_vec();
    for mail in mails {
        writeln!(file, "\x01\x02N          {:016x}", mail.len()).unwrap();
        file.extend_from_slice(mail);
        file.extend_from_slice(b"\n\x01\x03\nR69259b81\nZ10\n\n");
    }
    file
}

/// Any text as a dict file.
pub(crate) fn dict(data: &[u8]) {
    let path = file("dict", data);
    for user in ["", "alice"] {
        let Ok(mut dict) = dict_file::FileDict::read(std::slice::from_ref(&path), user) else {
            continue;
        };
        for scope in [Scope::Private, Scope::Shared] {
            for name in dict.list(scope, "").unwrap() {
                assert!(dict.get(scope, &name).unwrap().is_some());
            }
        }
        assert!(dict.commit(Vec::new()).is_err());
    }
    fs::remove_file(path).unwrap();
}

/// No more of what comes out is looked at.
const ENOUGH: u64 = 1 << 20;

/// Any bytes as compressed mail, and any mail, compressed.
pub(crate) fn decompress(data: &[u8]) {
    let _ = undone(data);
    let mut input = Input(data);
    let packed = match input.byte() % 3 {
        0 => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(input.0).unwrap();
            gz.finish().unwrap()
        }
        1 => {
            let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            bz2.write_all(input.0).unwrap();
            bz2.finish().unwrap()
        }
        _ => lz4(input.0),
    };
    assert_eq!(undone(&packed).unwrap(), input.0);
}

fn undone(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let plain = compress::undo(Box::new(Cursor::new(packed)));
    let plain = plain.map_err(|_| std::io::Error::other("refused"))?;
    let mut out = Vec::new();
    plain.take(ENOUGH).read_to_end(&mut out)?;
    Ok(out)
}

fn lz4(mail: &[u8]) -> Vec<u8> {
    let mut out = b"Dovecot-LZ4\x0d\x2a\x9b\xc5".to_vec();
    out.extend_from_slice(&(256 * 1024u32).to_be_bytes());
    for block in Pieces::of(mail).filter(|block| !block.is_empty()) {
        let block = lz4_flex::block::compress(block);
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}
