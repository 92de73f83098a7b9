//! `mail-crypt encrypt`: writes a stream that Dovecot reads.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use mail_crypt_core::crypto::Secret;
use mail_crypt_core::key::PublicKey;
use mail_crypt_core::stream::{Algorithm, Encryptor, Sender, Version};

use crate::args::Options;
use crate::{Failure, Result, secret};

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Some(to) = &options.to else {
        return Err(Failure::Usage("no recipient given: --to PUBLICKEY".into()));
    };
    let key = PublicKey::parse(&secret::key_text(to)?).map_err(|e| e.context(to.display()))?;
    let algorithm: Algorithm = match &options.algorithm {
        Some(name) => name.parse()?,
        None => Algorithm::default(),
    };
    let mut from: Box<dyn Read> = match options.file.as_deref() {
        None => Box::new(secret::standard_input()?),
        Some(path) if path == Path::new("-") => Box::new(secret::standard_input()?),
        Some(path) => {
            let file = File::open(path).map_err(|e| Failure::io(path.display(), e))?;
            Box::new(file)
        }
    };
    let mut encryptor = Encryptor::new(&algorithm, Version::V2, &mut Sender::new(key))?;
    let mut to = secret::output(options.out.as_deref())?;
    let mut plain = Secret::zeroed(128 * 1024);
    let mut sealed = Vec::new();
    loop {
        let read = from
            .read(&mut plain)
            .map_err(|e| Failure::io("the input", e))?;
        match read {
            0 => encryptor.finish(&mut sealed)?,
            n => encryptor.update(&plain[..n], &mut sealed)?,
        }
        to.write_all(&sealed)
            .map_err(|e| Failure::io("the output", e))?;
        sealed.clear();
        if read == 0 {
            return to.finish();
        }
    }
}
