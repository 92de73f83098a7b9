//! Reads passwords and keys, and writes results. A secret is never an argument.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mail_crypt_core::crypto::Secret;
use zeroize::Zeroizing;

use crate::wiped;
use crate::{Failure, Result};

/// A dict file has a few hundred bytes for each folder.
const MAX_KEY_FILE: u64 = 64 * 1024 * 1024;
const MAX_PASSWORD: usize = 64 * 1024;

/// Where a password comes from.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordSource {
    /// There is none.
    #[default]
    None,
    /// The first line of standard input.
    Stdin,
    /// The first line of an inherited file descriptor.
    Fd(u32),
    /// The terminal.
    Prompt,
}

impl PasswordSource {
    /// Reads it.
    pub(crate) fn read(self) -> Result<Option<Secret>> {
        let line = match self {
            PasswordSource::None => return Ok(None),
            PasswordSource::Stdin => first_line(standard_input()?, "standard input")?,
            PasswordSource::Fd(fd) => {
                let name = format!("/dev/fd/{fd}");
                let file = File::open(&name).map_err(|e| Failure::io(&name, e))?;
                first_line(file, &name)?
            }
            PasswordSource::Prompt => rpassword::prompt_password("Password: ")
                .map(|line| Secret::new(line.into_bytes()))
                .map_err(|e| Failure::io("the terminal", e))?,
        };
        if line.is_empty() {
            return Err(Failure::Usage("the password is empty".into()));
        }
        Ok(Some(line))
    }
}

/// Standard input, without std's buffer, which is never wiped.
#[expect(clippy::disallowed_methods, reason = "around its buffer")]
pub(crate) fn standard_input() -> Result<File> {
    let own = io::stdin().as_fd().try_clone_to_owned();
    own.map(File::from)
        .map_err(|e| Failure::io("standard input", e))
}

#[expect(clippy::disallowed_methods, reason = "around its buffer")]
fn standard_output() -> Result<File> {
    let own = io::stdout().as_fd().try_clone_to_owned();
    own.map(File::from)
        .map_err(|e| Failure::io("standard output", e))
}

/// As bytes: a password can have any encoding. Reads nothing beyond the line.
fn first_line(mut from: impl Read, name: &str) -> Result<Secret> {
    let mut line = Secret::default();
    let mut byte = Zeroizing::new([0]);
    loop {
        match from.read(&mut *byte) {
            Ok(0) => return Ok(line),
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if line.len() == MAX_PASSWORD => {
                return Err(Failure::Usage(format!("{name}: the password is too long")));
            }
            Ok(_) => line.push(byte[0]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Failure::io(name, e)),
        }
    }
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    Ok(line)
}

/// The text of a key file; `-` is standard input.
pub(crate) fn key_text(path: &Path) -> Result<Zeroizing<String>> {
    let failed = |e| Failure::io(path.display(), e);
    let file = if path == Path::new("-") {
        standard_input()?
    } else {
        File::open(path).map_err(failed)?
    };
    let mut bytes = Secret::default();
    wiped::copy(&mut file.take(MAX_KEY_FILE), &mut bytes).map_err(failed)?;
    let text = bytes.into_text();
    text.ok_or_else(|| failed(io::Error::other("not a text")))
}

/// Where results go: standard output, or a new file that only its owner can read. An existing
/// file is never overwritten, and an unfinished new one is removed.
pub(crate) struct Output<'a> {
    to: File,
    unfinished: Option<&'a Path>,
}

/// Opens it.
pub(crate) fn output(path: Option<&Path>) -> Result<Output<'_>> {
    let to = match path {
        None => standard_output()?,
        Some(path) => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path);
            file.map_err(|e| Failure::io(path.display(), e))?
        }
    };
    let unfinished = path;
    Ok(Output { to, unfinished })
}

/// Writes a text to standard output, which may be closed or full.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut to = output(None)?;
    let written = to.write_all(text.as_bytes());
    written.map_err(|e| Failure::io("the output", e))?;
    to.finish()
}

impl Output<'_> {
    /// Ends the output: everything has been written.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.to.flush().map_err(|e| Failure::io("the output", e))?;
        self.unfinished = None;
        Ok(())
    }
}

impl Write for Output<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.to.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.unfinished {
            // If it can't be removed, the failure that led here is still reported.
            let _ = std::fs::remove_file(path);
        }
    }
}
