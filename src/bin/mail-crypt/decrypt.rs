//! `mail-crypt decrypt`: verifies a mail, then writes it.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use mail_crypt_core::crypto::Secret;
use mail_crypt_core::error::{Error, ErrorKind};
use mail_crypt_core::format::code;
use mail_crypt_core::format::stream::MAX_HEADER;
use mail_crypt_core::key::{KeyId, PrivateKey};
use mail_crypt_core::store::names::Line;
use mail_crypt_core::store::{Keyring, Password, Settings};
use mail_crypt_core::stream::{Body, Feed, Limits, Opener, SecretCache, Verified, refuse_twice};
use zeroize::Zeroizing;

use crate::args::Options;
use crate::container::Mail;
use crate::dict::FileDict;
use crate::{Failure, Result, compress, secret, trees, wiped};

/// How often a mail is decrypted at most, with `--twice`.
const MAX_TIMES: usize = 16;

/// Runs the command. Nothing is written before the whole mail is verified.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut mail = Mail::open(options.file()?, options.message)?;
    if mail.mend()? {
        eprintln!("mail-crypt: the file's first bytes are damaged; reading on with the right ones");
    }
    let mut plain = if trees::is_trees(&mut mail)? {
        let plain = trees::decrypt(mail, options)?;
        if options.raw {
            plain
        } else {
            compress::undo(plain)?
        }
    } else {
        let mut keys = key_source(options)?;
        let plain = decrypt(mail, &mut keys)?;
        if options.raw {
            plain
        } else {
            content(plain, options.twice, &mut keys)?
        }
    };
    let mut out = secret::output(options.out.as_deref())?;
    wiped::copy(&mut plain, &mut out).map_err(failed_copy)?;
    out.finish()
}

/// Verifies a mail and answers its plaintext.
fn decrypt(mut mail: Mail, keys: &mut Keys) -> Result<Box<dyn Read>> {
    Ok(match open(&mut mail, Opener::default(), keys)? {
        Body::Small(plain) => Box::new(io::Cursor::new(plain)),
        Body::Large(verified) => Box::new(LargeBody::new(*verified, mail)),
    })
}

/// The content of a mail's plaintext, decompressed, and decrypted if it is encrypted again.
fn content(mut plain: Box<dyn Read>, twice: bool, keys: &mut Keys) -> Result<Box<dyn Read>> {
    for _ in 0..MAX_TIMES {
        let (start, all) = first_bytes(compress::undo(plain)?)?;
        plain = all;
        let Err(error) = refuse_twice(&start) else {
            return Ok(plain);
        };
        if !twice {
            return Err(error.into());
        }
        plain = decrypt_inner(plain, keys)?;
    }
    Err(Error::unsupported("encrypted too many times").into())
}

/// Verifies and decrypts a mail inside another one's plaintext, in memory.
fn decrypt_inner(mut sealed: Box<dyn Read>, keys: &mut Keys) -> Result<Box<dyn Read>> {
    let whole = Limits {
        small: usize::MAX / 2,
        ..Limits::default()
    };
    match open(&mut sealed, Opener::new(whole), keys)? {
        Body::Small(plain) => Ok(Box::new(io::Cursor::new(plain))),
        Body::Large(_) => Err(Error::unsupported("too large to be decrypted twice").into()),
    }
}

/// The start of the content of the mail in `options.file`.
pub(crate) fn inside(options: &Options) -> Result<Secret> {
    let mut mail = Mail::open(options.file()?, options.message)?;
    mail.mend()?;
    let plain = decrypt(mail, &mut key_source(options)?)?;
    Ok(first_bytes(compress::undo(plain)?)?.0)
}

/// A mail's first bytes, and all of it.
type Content = (Secret, Box<dyn Read>);

/// As much of a mail's beginning as a header can have, and all of the mail.
fn first_bytes(mut plain: Box<dyn Read>) -> Result<Content> {
    let mut start = Secret::default();
    let mut head = plain.by_ref().take(MAX_HEADER as u64);
    wiped::copy(&mut head, &mut start).map_err(failed_copy)?;
    let all = io::Cursor::new(start.clone()).chain(plain);
    Ok((start, Box::new(all)))
}

/// Reading fails with the core's error inside an I/O error, writing with a plain one.
fn failed_copy(e: io::Error) -> Failure {
    match e.downcast::<Error>() {
        Ok(error) => Failure::Data(error),
        Err(e) => Failure::io("the plaintext", e),
    }
}

/// The keyring, and the dict that it reads.
pub(crate) struct Keys {
    pub ring: Keyring,
    pub dict: FileDict,
}

impl Keys {
    /// The private key that one of `ids` names, opened by whichever user's keys open it.
    fn private_key(&mut self, ids: &[KeyId]) -> Result<PrivateKey> {
        let mut error: Option<Error> = None;
        for mut host in self.dict.each() {
            if self.dict.is_many() {
                // Another user's slots.
                self.ring.forget();
            }
            match self.ring.private_key(ids, &mut self.dict, &mut host) {
                Ok(key) => return Ok(key),
                Err(e) if error.is_none() || !is_none(&e) => error = Some(e),
                Err(_) => {}
            }
        }
        self.check_code()?;
        let error = error.unwrap_or_else(|| Error::internal("there is no dict"));
        Err(error.into())
    }

    /// # Errors
    /// What was given in place of a password is a mistyped code: that is why it opens nothing.
    fn check_code(&self) -> Result<()> {
        if let Some(secret) = &self.ring.settings().password {
            code::read(&secret.value)?;
        }
        Ok(())
    }
}

/// Whether the key isn't there, or nothing that was given is for it.
fn is_none(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::NoKey | ErrorKind::Locked)
}

/// The keys that were given, and where others are looked for.
pub(crate) fn key_source(options: &Options) -> Result<Keys> {
    let password = options.password.read()?;
    let mut given = None;
    let mut settings = Settings::reading(Line::default());
    if let Some(path) = &options.key {
        let text = secret::key_text(path)?;
        let name = path.display();
        let key =
            PrivateKey::parse_setting(&text, password.as_deref()).map_err(|e| e.context(name))?;
        // The mail's own key, the one above the user's key in the dict, or that of a slot, such as escrow's.
        settings.global_private.push(key.clone());
        settings.user_key_keys.push(key.clone());
        given = Some(key);
    }
    settings.password = password.map(|value| Password {
        value: Zeroizing::new(value.to_vec()),
        origin: "given",
    });
    if options.attributes.is_empty() && options.key.is_none() {
        let text = "no key given: --key KEYFILE or --attributes DICTFILE";
        return Err(Failure::Usage(text.into()));
    }
    let user = options.user.as_deref().unwrap_or_default();
    let dict = FileDict::read(&options.attributes, user)?;
    let mut ring = Keyring::new(settings);
    ring.give(None, given);
    Ok(Keys { ring, dict })
}

fn open(mail: &mut impl Read, mut opener: Opener, keys: &mut Keys) -> Result<Body> {
    let mut buf = vec![0; 128 * 1024];
    loop {
        let read = mail.read(&mut buf).map_err(failed_copy)?;
        if read == 0 {
            return Ok(opener.finish()?);
        }
        let Feed::NeedKey(ids) = opener.feed(&buf[..read])? else {
            continue;
        };
        let key = keys.private_key(&ids)?;
        opener.unlock(&key, &mut SecretCache::default())?;
        opener.feed(&[])?;
    }
}

/// A large mail, read from its file a second time, chunk by verified chunk.
pub(crate) struct LargeBody {
    verified: Verified,
    mail: Mail,
    next: usize,
    sealed: Vec<u8>,
    plain: io::Cursor<Secret>,
}

impl LargeBody {
    pub(crate) fn new(verified: Verified, mail: Mail) -> Self {
        LargeBody {
            verified,
            mail,
            next: 0,
            sealed: Vec::new(),
            plain: io::Cursor::default(),
        }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let (offset, size) = self.verified.ciphertext_range(self.next);
        self.sealed.resize(size, 0);
        self.mail.seek_to(offset)?;
        self.mail.read_exact(&mut self.sealed)?;
        let plain = self.verified.decrypt_chunk(self.next, &self.sealed);
        self.plain = io::Cursor::new(plain.map_err(io::Error::other)?);
        self.next += 1;
        Ok(())
    }
}

impl Read for LargeBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.plain.read(buf)?;
            if read > 0 || buf.is_empty() || self.next == self.verified.chunk_count() {
                return Ok(read);
            }
            self.next_chunk()?;
        }
    }
}
