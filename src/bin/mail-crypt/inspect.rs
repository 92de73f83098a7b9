//! `mail-crypt inspect`: what a file's header says. Needs no key, and proves nothing without one.
#![forbid(unsafe_code)]

use std::io::Read;

use mail_crypt_core::error::Error;
use mail_crypt_core::format::stream::{Header, Integrity, Version, Wrap, header_len};
use mail_crypt_core::key::KeyId;
use mail_crypt_core::stream::{is_encrypted, is_encrypted_mail};
use serde_json::{Value, json};

use crate::args::Options;
use crate::container::Mail;
use crate::{Failure, Result, decrypt, secret, trees};

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut mail = Mail::open(options.file()?, options.message)?;
    let size = mail.size();
    if trees::is_trees(&mut mail)? {
        return show(options, &trees::facts(&mut mail)?);
    }
    let damaged = mail.mend()?;
    let start = read_header(&mut mail)?;
    let mut facts = match start {
        None => json!({ "encrypted": false, "size": size }),
        Some(start) => describe(&Header::parse(&start)?, start.len() as u64, size),
    };
    if damaged {
        facts["damaged"] = "the first bytes".into();
    }
    let with_key = options.key.is_some() || !options.attributes.is_empty();
    if with_key && facts["encrypted"] == true {
        let inner = decrypt::inside(options)?;
        facts["encrypted_twice"] = is_encrypted_mail(&inner).into();
    }
    show(options, &facts)
}

fn show(options: &Options, facts: &Value) -> Result<()> {
    if options.json {
        return secret::say(&format!("{facts:#}\n"));
    }
    secret::say(&lines(facts, ""))
}

/// The header's bytes; none if the mail isn't encrypted.
fn read_header(mail: &mut Mail) -> Result<Option<Vec<u8>>> {
    let mut start = Vec::new();
    let mut want = 18;
    loop {
        let missing = (want - start.len()) as u64;
        let read = mail.by_ref().take(missing).read_to_end(&mut start);
        read.map_err(|e| Failure::io("the mail", e))?;
        if !is_encrypted(&start) {
            return Ok(None);
        }
        match header_len(&start)? {
            Some(len) if len <= start.len() => {
                start.truncate(len);
                return Ok(Some(start));
            }
            Some(len) if start.len() == want => want = len,
            _ => return Err(Error::truncated("the file ends within its header").into()),
        }
    }
}

fn describe(header: &Header, header_size: u64, size: u64) -> Value {
    let payload = size.saturating_sub(header_size + header.tag_len() as u64);
    let recipients: Vec<Value> = header
        .recipients
        .iter()
        .map(|to| {
            json!({
                "key_id": KeyId(to.id).to_string(),
                "kind": match to.wrap { Wrap::Rsa => "RSA", _ => "elliptic curve" },
                "ephemeral_bytes": to.ephemeral.len(),
            })
        })
        .collect();
    json!({
        "encrypted": true,
        "version": match header.version { Version::V1 => 1, Version::V2 => 2 },
        "cipher": header.cipher.name(),
        "digest": header.digest.name(),
        "integrity": match header.integrity {
            Integrity::Aead => "AEAD tag",
            Integrity::Hmac => "HMAC",
            Integrity::None => "none",
        },
        "rounds": header.rounds,
        "recipients": recipients,
        "size": size,
        "header_size": header_size,
        "payload_size": payload,
        "tag_size": header.tag_len(),
    })
}

fn lines(facts: &Value, indent: &str) -> String {
    let Value::Object(map) = facts else {
        return String::new();
    };
    let line = |(name, value): (&String, &Value)| match value {
        Value::Array(items) => {
            let part = |item| format!("{indent}{name}:\n{}", lines(item, "  "));
            items.iter().map(part).collect()
        }
        Value::String(text) => format!("{indent}{name}: {text}\n"),
        other => format!("{indent}{name}: {other}\n"),
    };
    map.iter().map(line).collect()
}
