//! Passwords in, secrets and results out. Nothing secret is ever an argument.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::{Failure, Result};

/// A dict file has a few hundred bytes for each folder.
const MAX_KEY_FILE: u64 = 64 * 1024 * 1024;
const MAX_PASSWORD: u64 = 64 * 1024;

/// Where a password comes from.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum PasswordSource {
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
    pub fn read(self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let line = match self {
            PasswordSource::None => return Ok(None),
            PasswordSource::Stdin => first_line(io::stdin(), "standard input")?,
            PasswordSource::Fd(fd) => {
                let name = format!("/dev/fd/{fd}");
                let file = File::open(&name).map_err(|e| Failure::io(&name, e))?;
                first_line(file, &name)?
            }
            PasswordSource::Prompt => rpassword::prompt_password("Password: ")
                .map(|line| Zeroizing::new(line.into_bytes()))
                .map_err(|e| Failure::io("the terminal", e))?,
        };
        if line.is_empty() {
            return Err(Failure::Usage("the password is empty".into()));
        }
        Ok(Some(line))
    }
}

/// As bytes: a client may have sent a password in any encoding.
fn first_line(from: impl Read, name: &str) -> Result<Zeroizing<Vec<u8>>> {
    // Room from the start: a growing buffer leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(1024));
    let mut reader = BufReader::with_capacity(1024, from.take(MAX_PASSWORD + 1));
    let read = reader.read_until(b'\n', &mut line);
    let read = read.map_err(|e| Failure::io(name, e))?;
    if read as u64 > MAX_PASSWORD {
        return Err(Failure::Usage(format!("{name}: the password is too long")));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

/// The text of a key file; `-` is standard input.
pub fn key_text(path: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
    let name = path.display();
    let read = if path == Path::new("-") {
        io::stdin().take(MAX_KEY_FILE).read_to_string(&mut text)
    } else {
        let file = File::open(path).map_err(|e| Failure::io(path.display(), e))?;
        file.take(MAX_KEY_FILE).read_to_string(&mut text)
    };
    read.map_err(|e| Failure::io(name, e))?;
    Ok(text)
}

/// Where results go: standard output, or a new file that only its owner can read. An existing
/// file is never overwritten, and a new one that isn't finished is taken away.
pub struct Output<'a> {
    to: Box<dyn Write>,
    unfinished: Option<&'a Path>,
}

/// Opens it.
pub fn output(path: Option<&Path>) -> Result<Output<'_>> {
    let to: Box<dyn Write> = match path {
        None => Box::new(io::stdout().lock()),
        Some(path) => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path);
            let file = file.map_err(|e| Failure::io(path.display(), e))?;
            Box::new(io::BufWriter::new(file))
        }
    };
    let unfinished = path;
    Ok(Output { to, unfinished })
}

/// Writes a text to standard output, which may be closed or full.
pub fn say(text: &str) -> Result<()> {
    let mut to = output(None)?;
    let written = to.write_all(text.as_bytes());
    written.map_err(|e| Failure::io("the output", e))?;
    to.finish()
}

impl Output<'_> {
    /// All has been written.
    pub fn finish(mut self) -> Result<()> {
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
            // Made here a moment ago; if it can't be removed, what went wrong before is still said.
            let _ = std::fs::remove_file(path);
        }
    }
}
