//! Finds a mail in its file: in a Maildir it is the whole file, in dbox one of several.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use mail_crypt_core::Error;
use mail_crypt_core::format::stream::MAX_HEADER;
use mail_crypt_core::stream::{MAGIC, is_encrypted, mended};

use crate::{Failure, Result};

/// How a mail's header in a dbox file begins: magic, type, ten blanks, the size in hexadecimal.
const DBOX_MAIL: &[u8] = b"\x01\x02N";
const DBOX_SIZE_AT: usize = 13;
const DBOX_HEADER_LEN: usize = 30;
/// A dbox file begins with a line of parameters.
const MAX_FILE_HEADER: u64 = 512;

/// The most metadata after a mail in a dbox file: lines up to an empty one.
const MAX_METADATA: u64 = 64 * 1024;

/// The part of a file that is one mail.
pub(crate) struct Mail {
    file: File,
    start: u64,
    size: u64,
    at: u64,
    /// What is read in place of damaged first bytes.
    mended: Vec<u8>,
}

impl Mail {
    /// Opens mail `number` (from 1) of `path`.
    pub(crate) fn open(path: &Path, number: Option<usize>) -> Result<Self> {
        let io = |e| Failure::io(path.display(), e);
        let mut file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let head = read_up_to(&mut file, MAX_FILE_HEADER).map_err(io)?;
        let first = if is_encrypted(&head) {
            None
        } else {
            first_dbox_mail(&head)
        };
        let (start, size) = match (first, number) {
            (Some(at), number) => dbox_mail(&mut file, at, number.unwrap_or(1), len)?,
            (None, None | Some(1)) => (0, len),
            (None, Some(_)) => return Err(Failure::Usage("the file holds one mail".into())),
        };
        let at = 0;
        file.seek(SeekFrom::Start(start)).map_err(io)?;
        Ok(Mail {
            file,
            start,
            size,
            at,
            mended: Vec::new(),
        })
    }

    /// Bytes of the mail as stored.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Corrects the first bytes if nothing else of an encrypted mail's header is damaged. Returns whether
    /// it did.
    pub(crate) fn mend(&mut self) -> Result<bool> {
        let io = |e| Failure::io("the mail", e);
        let mut head = Vec::new();
        let read = self.by_ref().take(MAX_HEADER as u64).read_to_end(&mut head);
        read.map_err(io)?;
        self.seek_to(0).map_err(io)?;
        if is_encrypted(&head) || mended(&head).is_none() {
            return Ok(false);
        }
        self.mended = MAGIC.to_vec();
        Ok(true)
    }

    /// Continues to read at `offset` of the mail.
    pub(crate) fn seek_to(&mut self, offset: u64) -> std::io::Result<()> {
        self.at = offset;
        self.file.seek(SeekFrom::Start(self.start + offset))?;
        Ok(())
    }
}

impl Read for Mail {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = self.size.saturating_sub(self.at);
        let read = self.file.by_ref().take(left).read(buf)?;
        let from = usize::try_from(self.at).unwrap_or(usize::MAX);
        let right = self.mended.get(from..).unwrap_or_default();
        for (byte, right) in buf.iter_mut().take(read).zip(right) {
            *byte = *right;
        }
        self.at += read as u64;
        Ok(read)
    }
}

fn read_up_to(file: &mut File, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the first mail's header begins, if this is a dbox file: after the first line.
fn first_dbox_mail(head: &[u8]) -> Option<u64> {
    let line = head.iter().position(|b| *b == b'\n')?;
    let starts = head.starts_with(b"2 ") || head.starts_with(b"1 ");
    let mail = head.get(line + 1..)?;
    (starts && mail.starts_with(DBOX_MAIL)).then_some(line as u64 + 1)
}

/// Start and size of mail `number`, walking from the header at `at`.
fn dbox_mail(file: &mut File, mut at: u64, number: usize, len: u64) -> Result<(u64, u64)> {
    for n in 1.. {
        let size = dbox_size(file, at)?;
        let start = at + DBOX_HEADER_LEN as u64;
        if start.checked_add(size).is_none_or(|end| end > len) {
            return Err(
                Error::truncated(format!("mail {n} extends beyond the end of the file")).into(),
            );
        }
        if n == number {
            return Ok((start, size));
        }
        at = next_dbox_mail(file, start + size, len)?
            .ok_or_else(|| Failure::Usage(format!("the file holds {n} mails")))?;
    }
    Err(Failure::Usage("mails are numbered from 1".into()))
}

fn dbox_size(file: &mut File, at: u64) -> Result<u64> {
    let io = |e| Failure::io("the dbox file", e);
    let mut header = [0; DBOX_HEADER_LEN];
    file.seek(SeekFrom::Start(at)).map_err(io)?;
    file.read_exact(&mut header).map_err(io)?;
    let digits = header.get(DBOX_SIZE_AT..DBOX_HEADER_LEN - 1);
    let size = digits
        .and_then(|d| std::str::from_utf8(d).ok())
        .and_then(|d| u64::from_str_radix(d, 16).ok());
    match size {
        Some(size) if header.starts_with(DBOX_MAIL) => Ok(size),
        _ => Err(Error::corrupt("no mail where one should begin").into()),
    }
}

/// A mail is followed by its metadata, lines up to an empty one, and by the next mail or the end.
fn next_dbox_mail(file: &mut File, at: u64, len: u64) -> Result<Option<u64>> {
    let io = |e| Failure::io("the dbox file", e);
    file.seek(SeekFrom::Start(at)).map_err(io)?;
    let metadata = read_up_to(file, MAX_METADATA).map_err(io)?;
    let end = metadata.windows(2).position(|pair| pair == b"\n\n");
    let Some(end) = end else {
        return Err(Error::corrupt("a mail's metadata doesn't end").into());
    };
    let next = at + end as u64 + 2;
    Ok((next < len).then_some(next))
}
