//! Decompresses what Dovecot compressed before encryption.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use std::io::{self, BufRead, Read};

use mail_crypt_core::crypto::Secret;

use crate::wiped::Buffered;
use crate::{Failure, Result};

const LZ4_MAGIC: &[u8] = b"Dovecot-LZ4\x0d\x2a\x9b\xc5";
/// Dovecot reads no larger blocks either.
const LZ4_MAX_BLOCK: usize = 1024 * 1024;

/// The decompressed content, or `plain` itself if it isn't compressed.
pub(crate) fn undo<'a>(plain: Box<dyn Read + 'a>) -> Result<Box<dyn Read + 'a>> {
    let mut plain = Buffered::new(plain);
    let start = plain
        .fill_buf()
        .map_err(|e| Failure::io("the plaintext", e))?;
    Ok(match Compression::of(start) {
        Compression::Plain => Box::new(plain),
        Compression::Gz => Box::new(flate2::bufread::MultiGzDecoder::new(plain)),
        Compression::Bz2 => Box::new(bzip2::bufread::MultiBzDecoder::new(plain)),
        Compression::Xz => Box::new(xz(plain)?),
        Compression::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(plain);
            Box::new(decoder.map_err(|e| Failure::Io(format!("zstd: {e}")))?)
        }
        Compression::Lz4 => Box::new(Lz4::new(plain)),
    })
}

enum Compression {
    Plain,
    Gz,
    Bz2,
    Xz,
    Zstd,
    Lz4,
}

impl Compression {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gz,
            [b'B', b'Z', b'h', ..] => Compression::Bz2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ if start.starts_with(LZ4_MAGIC) => Compression::Lz4,
            _ => Compression::Plain,
        }
    }
}

/// Decompresses everything at once: the library has no reader.
fn xz(mut plain: impl BufRead) -> Result<io::Cursor<Secret>> {
    let mut out = Secret::default();
    lzma_rs::xz_decompress(&mut plain, &mut out).map_err(|e| Failure::Io(format!("xz: {e:?}")))?;
    Ok(io::Cursor::new(out))
}

/// Dovecot's own frame: the magic, a block size, then blocks, each after its size.
struct Lz4<R> {
    from: R,
    started: bool,
    block: io::Cursor<Secret>,
}

impl<R: Read> Lz4<R> {
    fn new(from: R) -> Self {
        Lz4 {
            from,
            started: false,
            block: io::Cursor::default(),
        }
    }

    /// Returns whether there was another block.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.started {
            let mut header = [0; LZ4_MAGIC.len() + 4];
            self.from.read_exact(&mut header)?;
            self.started = true;
        }
        let mut size = [0; 4];
        if self.from.read(&mut size[..1])? == 0 {
            return Ok(false);
        }
        self.from.read_exact(&mut size[1..])?;
        let size = u32::from_be_bytes(size) as usize;
        if size == 0 || size > LZ4_MAX_BLOCK {
            return Err(io::Error::other("lz4: a block's size is out of bounds"));
        }
        let mut packed = Secret::zeroed(size);
        self.from.read_exact(&mut packed)?;
        let block = lz4_flex::block::decompress(&packed, LZ4_MAX_BLOCK);
        let block = block.map_err(|e| io::Error::other(format!("lz4: {e}")))?;
        self.block = io::Cursor::new(Secret::new(block));
        Ok(true)
    }
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(buf)?;
            if read > 0 || buf.is_empty() || !self.next_block()? {
                return Ok(read);
            }
        }
    }
}
