//! `mail-crypt`: inspects, decrypts and creates encrypted files and keys without a running Dovecot, for
//! example to restore a single mail from a backup. See mail-crypt(1).
#![forbid(unsafe_code)]

mod args;
mod compress;
mod container;
mod decrypt;
mod dict;
mod doctor;
mod encrypt;
mod failure;
mod inspect;
mod keys;
mod secret;
mod slots;
mod trees;
mod wiped;

use std::process::ExitCode;

use failure::{Failure, Result};

fn run() -> Result<ExitCode> {
    let Some((command, options)) = args::parse()? else {
        return Ok(ExitCode::SUCCESS);
    };
    let done = match command.as_str() {
        "doctor" => return doctor::run(&options),
        "inspect" => inspect::run(&options),
        "decrypt" => decrypt::run(&options),
        "slots" => slots::run(&options),
        "encrypt" => encrypt::run(&options),
        "keygen" => keys::generate(&options),
        "key show" => keys::show(&options),
        "key convert" => keys::convert(&options),
        other => Err(Failure::Usage(format!("no such command: {other}"))),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("mail-crypt: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
