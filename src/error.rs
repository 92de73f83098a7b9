//! The one error type. Its text goes to the server's log: it may name settings, key ids, offsets
//! and sizes, and never holds a key, a password or a byte of plaintext.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

/// What went wrong, for callers that react differently to different failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The data ends before its format says so.
    Truncated,
    /// The data breaks the rules of its format, or exceeds one of our limits.
    Corrupt,
    /// Well-formed, but a version, algorithm or key type that we don't handle.
    Unsupported,
    /// There is no private key for the recipient.
    NoKey,
    /// There is a key, but nothing to unlock it with.
    Locked,
    /// The folder has no key to encrypt to, and this user can't give it one.
    Keyless,
    /// There is a key, but the password (or key) given doesn't unlock it.
    WrongPassword,
    /// The data was changed after it was written: its tag doesn't match.
    Tampered,
    /// A setting is missing or can't be used.
    Setting,
    /// The parameters of an administrator's command are wrong: nothing was done.
    Usage,
    /// The attribute store (Dovecot's dict) failed.
    Store,
    /// A client asked for something that would do harm.
    Refused,
    /// libcrypto refused an operation that should work.
    Crypto,
    /// A bug in this program. Trying again won't help.
    Internal,
}

impl ErrorKind {
    /// The same in one word, for programs.
    pub fn code(self) -> &'static str {
        match self {
            ErrorKind::Truncated => "truncated",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::NoKey => "no_key",
            ErrorKind::Locked => "locked",
            ErrorKind::Keyless => "keyless",
            ErrorKind::WrongPassword => "wrong_password",
            ErrorKind::Tampered => "tampered",
            ErrorKind::Setting => "setting",
            ErrorKind::Usage => "usage",
            ErrorKind::Store => "store",
            ErrorKind::Refused => "refused",
            ErrorKind::Crypto => "crypto",
            ErrorKind::Internal => "internal",
        }
    }

    /// What is wrong with the data, in one word that an administrator can search for; `None` if
    /// the error isn't about data.
    pub fn word(self) -> Option<&'static str> {
        match self {
            ErrorKind::Truncated
            | ErrorKind::Corrupt
            | ErrorKind::Unsupported
            | ErrorKind::Tampered => Some(self.code()),
            _ => None,
        }
    }
}

/// An error with a text for the administrator.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    text: Cow<'static, str>,
}

/// Shorthand for results with [`enum@ErrorKind`]-carrying errors.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind`; `text` is what the administrator reads.
    pub fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Error {
            kind,
            text: text.into(),
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error with `prefix: ` before its text.
    pub fn context(self, prefix: impl fmt::Display) -> Self {
        Error {
            kind: self.kind,
            text: format!("{prefix}: {}", self.text).into(),
        }
    }

    /// The text for the server's log: where it is about data, after its [`ErrorKind::word`].
    pub fn to_log(&self) -> String {
        match self.kind.word() {
            Some(word) => format!("{word}: {}", self.text),
            None => self.text.to_string(),
        }
    }

    /// Shorthand for [`ErrorKind::Truncated`].
    pub fn truncated(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Truncated, text)
    }

    /// Shorthand for [`ErrorKind::Corrupt`].
    pub fn corrupt(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, text)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    pub fn unsupported(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, text)
    }

    /// Shorthand for [`ErrorKind::Setting`].
    pub fn setting(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Setting, text)
    }

    /// Shorthand for [`ErrorKind::Usage`].
    pub fn usage(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Usage, text)
    }

    /// Shorthand for [`ErrorKind::Internal`]; the text says so itself.
    pub fn internal(text: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, format!("internal error: {text}"))
    }

    /// Shorthand for [`ErrorKind::Store`].
    pub fn store(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Store, text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
