//! Mail that TREES wrote.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::path::Path;

use mail_crypt_core::Error;
use mail_crypt_core::format::trees::{self, HEADER};
use mail_crypt_core::store::names::trees as name;
use mail_crypt_core::store::settings::Trees;
use mail_crypt_core::stream::{Body, TreesFeed, TreesOpener};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::args::Options;
use crate::container::Mail;
use crate::decrypt::LargeBody;
use crate::{Failure, Result, secret};

/// Bytes read at once.
const READ: usize = 128 * 1024;

/// Whether TREES wrote the mail.
pub(crate) fn is_trees(mail: &mut Mail) -> Result<bool> {
    Ok(trees::is_trees(&start(mail)?))
}

fn start(mail: &mut Mail) -> Result<Vec<u8>> {
    let io = |e| Failure::io("the mail", e);
    let mut start = Vec::new();
    let read = mail.by_ref().take(HEADER as u64).read_to_end(&mut start);
    read.map_err(io)?;
    mail.seek_to(0).map_err(io)?;
    Ok(start)
}

/// What can be said of the mail without a key.
pub(crate) fn facts(mail: &mut Mail) -> Result<Value> {
    trees::check_header(&start(mail)?)?;
    let (whole, _) = trees::chunks(mail.size())?;
    Ok(json!({
        "encrypted": true,
        "format": "TREES",
        "version": trees::VERSION,
        "size": mail.size(),
        "chunks": whole + 1,
        "plain_size": trees::plain_size(mail.size())?,
    }))
}

/// Checks the mail's chunks and answers its plaintext.
pub(crate) fn decrypt(mut mail: Mail, options: &Options) -> Result<Box<dyn Read>> {
    let Some(path) = &options.trees else {
        let text = "TREES wrote this mail: --trees FIELDS has its user's trees_* fields";
        return Err(Failure::Usage(text.into()));
    };
    let fields = user(path, options)?;
    let mut opener = TreesOpener::default();
    let mut buf = vec![0; READ];
    let body = loop {
        let read = mail.read(&mut buf);
        let read = read.map_err(|e| Failure::io("the mail", e))?;
        if read == 0 {
            break opener.finish()?;
        }
        if opener.feed(&buf[..read])? == TreesFeed::NeedKey {
            opener.unlock(fields.unlock()?)?;
        }
    };
    eprintln!(
        "mail-crypt: TREES wrote this mail: that it is complete and in order can't be proven"
    );
    Ok(match body {
        Body::Small(plain) => Box::new(io::Cursor::new(plain)),
        Body::Large(verified) => Box::new(LargeBody::new(*verified, mail)),
    })
}

/// The user's fields, as userdb has them (`trees_public_key=..`) or as trees-create prints them (`"public_key": ".."`).
fn user(path: &Path, options: &Options) -> Result<Trees> {
    let text = secret::key_text(path)?;
    if !name::ALL.iter().any(|name| field(&text, name).is_some()) {
        let text = format!("{}: there are no trees_* fields in it", path.display());
        return Err(Error::corrupt(text).into());
    }
    let password = options.password.read()?;
    Ok(Trees::load(&mut |asked| {
        let value = match (asked, &password) {
            (name::ENABLED, _) => b"1".as_slice(),
            (name::PASSWORD, Some(password)) => password,
            _ => field(&text, asked)?.as_bytes(),
        };
        Some(Zeroizing::new(value.to_vec()))
    }))
}

/// The value of a field, one a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let short = name.strip_prefix("trees_").unwrap_or(name);
    text.lines().find_map(|line| {
        let (field, value) = line.split_once(['=', ':'])?;
        let field = field.trim().trim_matches('"');
        let value = value.trim().trim_end_matches(',').trim_matches('"');
        (field == name || field == short).then_some(value)
    })
}
