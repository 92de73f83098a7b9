//! Where the configuration comes from: doveconf, or what it has written.
#![forbid(unsafe_code)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mail_crypt_core::crypto::Secret;
use mail_crypt_core::store::Line;

use super::conf::Conf;
use super::names;
use crate::args::Options;
use crate::{Failure, Result, secret, wiped};

/// A configuration has a few kilobytes.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// What was read.
pub(crate) enum Source {
    /// The configuration.
    Conf(Conf),
    /// Dovecot of this line doesn't know one of our settings, and so doesn't start; what it says, and the names in
    /// the file.
    Refused(Line, String, Vec<String>),
}

/// Reads it.
pub(crate) fn read(options: &Options) -> Result<Source> {
    let Some(file) = &options.doveconf else {
        return run(options);
    };
    let text = secret::key_text(file).map_err(|e| Failure::Doctor(e.to_string()))?;
    let conf = Conf::parse(&text);
    let conf = conf.map_err(|e| Failure::Doctor(format!("{}: {e}", file.display())))?;
    Ok(Source::Conf(conf))
}

/// Where modules are, as far as doveconf knows.
pub(crate) fn module_folder(options: &Options) -> Option<PathBuf> {
    let mut command = doveconf(options);
    let output = command.args(["-h", "mail_plugin_dir"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let folder = Path::new(text.trim());
    (output.status.success() && folder.is_absolute()).then(|| folder.to_owned())
}

fn doveconf(options: &Options) -> Command {
    let mut command = Command::new("doveconf");
    command.stdin(Stdio::null());
    if let Some(file) = &options.config {
        command.arg("-c").arg(file);
    }
    command
}

/// Passwords are shown to us, or nobody could tell what is in them; the output is wiped.
fn run(options: &Options) -> Result<Source> {
    let cant = |e: std::io::Error| Failure::Doctor(format!("doveconf: {e}"));
    let mut command = doveconf(options);
    command.args(["-n", "-P"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cant)?;
    let mut output = Secret::default();
    if let Some(pipe) = child.stdout.take() {
        wiped::copy(&mut pipe.take(MAX_SIZE), &mut output).map_err(cant)?;
    }
    let ok = child.wait().map_err(cant)?.success();
    // What is wrong is asked for once more: two pipes, read one after the other, can block.
    let (output, errors) = if ok {
        (output, String::new())
    } else {
        let told = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let told = told.output().map_err(cant)?;
        (
            output,
            String::from_utf8_lossy(&told.stderr).trim().to_owned(),
        )
    };
    let wrong = |e: &str| Failure::Doctor(format!("doveconf -n: {e}"));
    let text = output.into_text().ok_or_else(|| wrong("not a text"))?;
    let conf = Conf::parse(&text);
    match conf {
        Ok(conf) if ok => Ok(Source::Conf(conf)),
        // The version comes before the configuration is read.
        Ok(conf) if names::is_about_ours(&errors) => {
            let written = names_in(options, &text);
            Ok(Source::Refused(conf.line, errors, written))
        }
        _ if !ok => Err(wrong(&errors)),
        Ok(conf) => Ok(Source::Conf(conf)),
        Err(e) => Err(wrong(&e)),
    }
}

/// The names of settings in the file itself, for want of anything better. Its path is on the first line of the output.
fn names_in(options: &Options, output: &str) -> Vec<String> {
    let first = output.lines().next().unwrap_or_default();
    let named = first.rsplit_once(": ").map(|(_, path)| PathBuf::from(path));
    let Some(file) = options.config.clone().or(named) else {
        return Vec::new();
    };
    let Ok(text) = secret::key_text(&file) else {
        return Vec::new();
    };
    let names = text.lines().filter_map(|line| line.split_once('='));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}
