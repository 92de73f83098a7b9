//! Failures that end the program.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use mail_crypt_core::ErrorKind;

/// A failure that ends the program, with its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong: 2.
    Usage(String),
    /// A file can't be read or written: 1.
    Io(String),
    /// The configuration can't be read: 3. 1 says that something was found.
    Doctor(String),
    /// The data or the keys: 3 to 7, by kind.
    Data(mail_crypt_core::Error),
}

impl Failure {
    /// An I/O failure on `name`.
    pub(crate) fn io(name: impl fmt::Display, error: io::Error) -> Self {
        Failure::Io(format!("{name}: {error}"))
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Io(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Doctor(_) => 3,
            Failure::Data(e) => match e.kind() {
                ErrorKind::Tampered => 4,
                ErrorKind::NoKey | ErrorKind::Locked => 5,
                ErrorKind::WrongPassword => 6,
                ErrorKind::Unsupported => 7,
                ErrorKind::Store => 1,
                _ => 3,
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) => write!(f, "{text} (see mail-crypt --help)"),
            Failure::Io(text) | Failure::Doctor(text) => f.write_str(text),
            Failure::Data(e) => match e.kind().word() {
                Some(word) => write!(f, "{word}: {e}"),
                None => write!(f, "{e}"),
            },
        }
    }
}

impl From<mail_crypt_core::Error> for Failure {
    fn from(e: mail_crypt_core::Error) -> Self {
        Failure::Data(e)
    }
}

/// A result whose error ends the program.
pub(crate) type Result<T> = std::result::Result<T, Failure>;
