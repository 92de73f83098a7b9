//! Passwords that Dovecot changes, and key files that others can read.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::path::Path;

use mail_crypt_core::store::{Line, Setting};

use super::Report;
use super::conf::{Conf, Place, in_key_block, is_hidden};
use super::host::Host;

/// An fs driver's parameter.
const FS_KEY: &str = "private_key_path=";

/// All passwords and key files that a configuration has.
pub(crate) fn check(conf: &Conf, host: Option<&Host>, report: &mut Report) {
    for place in conf.places() {
        if conf.line == Line::V2_3 && is_password(conf.line, &place) {
            check_percent(&place, report);
        }
        let Some(host) = host else {
            continue;
        };
        if let Some(file) = key_file(conf.line, &place) {
            check_file(&place, file, host, report);
        }
    }
}

fn is_password(line: Line, place: &Place<'_>) -> bool {
    let known = place.name == line.name(Setting::Password)
        || place.name.ends_with("_private_key_password")
        || line.takes(place.name) && place.name.ends_with("_password");
    known && place.kind == "plugin"
}

/// A whole `%{..}` was meant as a variable, and `%%` is a percent sign.
fn has_lone_percent(value: &str) -> bool {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.chars().next() {
            Some('%') => &after[1..],
            Some('{') if after.contains('}') => after,
            _ => return true,
        };
    }
    false
}

fn check_percent(place: &Place<'_>, report: &mut Report) {
    if is_hidden(place.value) {
        report.leave_out("passwords, which are hidden: write the file with doveconf -n -P");
        return;
    }
    // What is in a file isn't expanded here.
    if !place.value.starts_with('<') && has_lone_percent(place.value) {
        let what =
            "has a % in it: Dovecot 2.3 puts a variable in its place, and the password is another";
        report.find(
            "percent-in-password",
            place.title(),
            what,
            "write %% for each %",
        );
    }
}

/// The file of a private key or of a password.
fn key_file<'a>(line: Line, place: &Place<'a>) -> Option<&'a str> {
    if let Some((_, rest)) = place.value.split_once(FS_KEY) {
        return rest.split([':', ' ']).next();
    }
    let secret = place.name.contains("private_key") || is_password(line, place);
    let file = match line {
        Line::V2_3 if place.kind == "plugin" && secret => place.value.strip_prefix('<')?,
        Line::V2_4 if in_key_block(place.name) && place.name.ends_with("_file") => place.value,
        _ => return None,
    };
    file.trim().starts_with('/').then(|| file.trim())
}

fn check_file(place: &Place<'_>, file: &str, host: &Host, report: &mut Report) {
    if file.contains('%') {
        report.leave_out(format!(
            "{}: {file} is another file for each user",
            place.title()
        ));
        return;
    }
    match host.read_by_others(Path::new(file)) {
        Ok(false) => {}
        Ok(true) => {
            let what = format!("{} can be read by everybody on this machine", file);
            report.find("key-file", place.title(), what, format!("chmod o= {file}"));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let what = format!("{file} isn't there");
            report.find(
                "key-file",
                place.title(),
                what,
                "put the key there, or name the file that it is in",
            );
        }
        Err(e) => report.leave_out(format!("{file}: {e}")),
    }
}
