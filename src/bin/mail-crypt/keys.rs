//! `mail-crypt keygen`, `key show` and `key convert`.
#![forbid(unsafe_code)]

use std::io::Write;

use mail_crypt_core::ErrorKind;
use mail_crypt_core::crypto::Secret;
use mail_crypt_core::key::{KeyId, KeyType, PrivateKey, Protect, Protection, PublicKey, StoredKey};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::Options;
use crate::{Failure, Result, secret};

/// Generates a private key.
pub(crate) fn generate(options: &Options) -> Result<()> {
    let Some(curve) = &options.curve else {
        return Err(Failure::Usage("no curve given: --curve NAME".into()));
    };
    let key = PrivateKey::generate(curve)?;
    let password = options.password.read()?;
    let text = private_text(&key, options.format.as_deref().unwrap_or("pem"), password)?;
    write(options, &text)?;
    eprintln!("key id {}", key.id());
    Ok(())
}

/// Describes a key; of a private key only the public half.
pub(crate) fn show(options: &Options) -> Result<()> {
    let text = secret::key_text(options.file()?)?;
    let (kind, public) = match PublicKey::parse(&text) {
        Ok(public) => ("public", Some(public)),
        Err(_) => ("private", private(options, &text)?.map(|key| key.public())),
    };
    let facts = match &public {
        Some(public) => json!({
            "kind": kind,
            "type": match public.key_type() {
                KeyType::Rsa => "RSA",
                KeyType::Ec | KeyType::X25519 | KeyType::X448 => "elliptic curve",
            },
            "curve": public.curve_name(),
            "bits": public.bits(),
            "id": public.id().to_string(),
            "old_id": public.old_id().map(|id| id.to_string()),
        }),
        None => locked(&text)?,
    };
    if options.json {
        return secret::say(&format!("{facts:#}\n"));
    }
    let serde_json::Value::Object(map) = &facts else {
        return Ok(());
    };
    let lines = map.iter().filter_map(|(name, value)| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(format!("{name}: {text}\n")),
        other => Some(format!("{name}: {other}\n")),
    });
    secret::say(&lines.collect::<String>())
}

/// What can be said of a private key without unlocking it.
fn locked(text: &str) -> Result<serde_json::Value> {
    let stored = StoredKey::parse(text)?;
    let protection = match stored.protection() {
        Protection::None => "none".to_owned(),
        Protection::Password => "password".to_owned(),
        Protection::Key(id) => format!("key {id}"),
    };
    let id: Option<KeyId> = stored.id();
    Ok(json!({
        "kind": "private",
        "protected_by": protection,
        "id": id.map(|id| id.to_string()),
    }))
}

/// Writes a key in another format.
pub(crate) fn convert(options: &Options) -> Result<()> {
    let text = secret::key_text(options.file()?)?;
    let Some(format) = options.format.as_deref() else {
        return Err(Failure::Usage(
            "no format given: --format pem or dovecot".into(),
        ));
    };
    let out = if options.public {
        let public = match PublicKey::parse(&text) {
            Ok(public) => public,
            Err(_) => needed(private(options, &text)?)?.public(),
        };
        Zeroizing::new(match format {
            "pem" => public.to_pem()?,
            "dovecot" => public.to_dovecot(),
            other => return Err(unknown_format(other)),
        })
    } else {
        let key = needed(private(options, &text)?)?;
        private_text(&key, format, options.new_password.read()?)?
    };
    write(options, &out)
}

/// The private key in `text`; none if it is locked and no password was given.
fn private(options: &Options, text: &str) -> Result<Option<PrivateKey>> {
    let password = options.password.read()?;
    let key = PrivateKey::parse_setting(text, password.as_deref());
    match key {
        Ok(key) => Ok(Some(key)),
        Err(_) if password.is_none() && StoredKey::parse(text).is_ok() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn needed(key: Option<PrivateKey>) -> Result<PrivateKey> {
    let text = "the key is locked: a password is needed";
    key.ok_or_else(|| mail_crypt_core::Error::new(ErrorKind::NoKey, text).into())
}

fn private_text(
    key: &PrivateKey,
    format: &str,
    password: Option<Secret>,
) -> Result<Zeroizing<String>> {
    let password = password.as_deref();
    match format {
        "pem" => Ok(key.to_pem(password)?),
        "dovecot" => Ok(key.to_dovecot(match password {
            Some(password) => Protect::password(password),
            None => Protect::None,
        })?),
        other => Err(unknown_format(other)),
    }
}

fn unknown_format(name: &str) -> Failure {
    Failure::Usage(format!("no such format: {name}; pem or dovecot"))
}

fn write(options: &Options, text: &str) -> Result<()> {
    let mut out = secret::output(options.out.as_deref())?;
    let io = |e| Failure::io("the output", e);
    out.write_all(text.as_bytes()).map_err(io)?;
    if !text.ends_with('\n') {
        out.write_all(b"\n").map_err(io)?;
    }
    out.finish()
}
