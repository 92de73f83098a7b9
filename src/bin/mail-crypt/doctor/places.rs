//! Where Dovecot keeps plaintext beside encrypted mail.
#![forbid(unsafe_code)]

use std::path::Path;

use mail_crypt_core::store::Line;

use super::conf::{Block, Conf};
use super::host::{Host, Kept};
use super::{Report, same_for_all};

const TMP: &str = "/tmp";

/// The first 2.3 that takes INDEXCACHE=.
const HAS_INDEXCACHE: [u32; 3] = [2, 3, 13];

/// How a path in a user's home begins.
const HOMES: [&str; 3] = ["%h/", "~/", "%{home}/"];

/// Where mail of a namespace is, in either line's words.
#[derive(Default)]
struct Location<'a> {
    /// The setting.
    about: String,
    mail: &'a str,
    index: Option<&'a str>,
    cache: Option<&'a str>,
}

/// All places.
pub(crate) fn check(conf: &Conf, host: Option<&Host>, report: &mut Report) {
    if let Some(host) = host {
        check_temp(conf, host, report);
        check_swap(host, report);
    }
    for location in locations(conf) {
        check_cache(conf, &location, host, report);
    }
    check_attachments(conf, report);
}

/// Dovecot has two folders for plaintext that is on its way, and only one of them has a setting.
fn check_temp(conf: &Conf, host: &Host, report: &mut Report) {
    let folder = conf.get("mail_temp_dir").unwrap_or(TMP);
    check_memory(
        "mail_temp_dir",
        folder,
        "large mail that lmtp, lda and doveadm get is spooled there in plaintext",
        "mail_temp_dir = /dev/shm, or another tmpfs",
        host,
        report,
    );
    if folder != TMP {
        check_memory(
            TMP,
            TMP,
            "what Sieve redirects and doveadm save reads is there in plaintext, whatever mail_temp_dir is",
            "mount a tmpfs there (systemctl enable tmp.mount)",
            host,
            report,
        );
    }
}

fn check_memory(
    about: &str,
    folder: &str,
    what: &str,
    fix: &str,
    host: &Host,
    report: &mut Report,
) {
    match host.kept(Path::new(folder)) {
        Kept::Safe => {}
        Kept::Unknown => report.leave_out(format!("{about}: nothing says what {folder} is on")),
        Kept::Clear(kind) => {
            let what = format!("{folder} is on {kind}: {what}");
            report.find("temp-dir", about, what, fix);
        }
    }
}

fn check_swap(host: &Host, report: &mut Report) {
    let Some(clear) = host.clear_swap() else {
        report.leave_out("swap: there is no /proc/swaps");
        return;
    };
    for device in clear {
        report.find(
            "swap",
            device,
            "is swap that isn't encrypted: mail, keys and passwords in memory can get to the disk",
            "swapoff it, or put it on dm-crypt with a key made at each start (crypttab: swap)",
        );
    }
}

fn check_cache(conf: &Conf, location: &Location<'_>, host: Option<&Host>, report: &mut Report) {
    if location.index == Some("MEMORY") {
        return;
    }
    let own = location.cache.or(location.index);
    let path = in_home(own.unwrap_or(location.mail), conf);
    let kept = match (same_for_all(&path), host) {
        (Some(folder), Some(host)) => host.kept(&folder),
        // Somebody has thought about it, and nothing can be seen.
        (Some(_), None) if location.cache.is_some() => return,
        _ => Kept::Unknown,
    };
    let on = match kept {
        Kept::Safe => return,
        Kept::Clear(kind) => format!(" (it is on {kind})"),
        Kept::Unknown => String::new(),
    };
    let fix = match conf.line {
        Line::V2_3 if conf.version.reaches(&HAS_INDEXCACHE) => {
            "add :INDEXCACHE=/dev/shm/cache-%u, or a place on an encrypted disk; or :INDEX=MEMORY, which \
             builds all indexes anew in each session"
        }
        Line::V2_3 => {
            "add :INDEX=MEMORY; from 2.3.13 on :INDEXCACHE= can name a tmpfs or an encrypted disk"
        }
        Line::V2_4 => {
            "mail_cache_path = /dev/shm/cache-%{user}, or a place on an encrypted disk; or mail_index_path = \
             MEMORY, which builds all indexes anew in each session"
        }
    };
    let what = format!(
        "the index cache keeps subjects, addresses, headers and the beginning of mails in plaintext{on}, unless userdb \
         puts it elsewhere"
    );
    report.find("index-cache", location.about.clone(), what, fix);
}

fn in_home(path: &str, conf: &Conf) -> String {
    let rest = HOMES.iter().find_map(|home| path.strip_prefix(home));
    match (rest, conf.get("mail_home")) {
        (Some(rest), Some(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

/// Where the mail is: in general, and in namespaces that have places of their own.
fn locations(conf: &Conf) -> Vec<Location<'_>> {
    let namespaces = || conf.top.blocks.iter().filter(|b| b.kind == "namespace");
    match conf.line {
        Line::V2_3 => {
            let of = |about: String, value| location(about, value);
            let own = |b: &&Block| b.get("location").is_some_and(|l| !l.is_empty());
            let mut found: Vec<Location<'_>> = namespaces()
                .filter(own)
                .map(|b| {
                    of(
                        format!("{}: location", b.title()),
                        b.get("location").unwrap_or_default(),
                    )
                })
                .collect();
            if found.is_empty() || namespaces().any(|b| !own(&b)) {
                let general = conf.get("mail_location").unwrap_or_default();
                found.insert(0, of("mail_location".to_owned(), general));
            }
            found
        }
        Line::V2_4 => {
            let general = paths(&conf.top, &Location::default());
            let own = |b: &&Block| {
                b.entries
                    .iter()
                    .any(|(name, _)| PATHS.contains(&name.as_str()))
            };
            let special = namespaces().filter(own).map(|b| {
                let mut found = paths(b, &general);
                found.about = format!("{}: {}", b.title(), found.about);
                found
            });
            let special: Vec<Location<'_>> = special.collect();
            let mut found = vec![];
            if special.is_empty() || namespaces().any(|b| !own(&b)) {
                found.push(paths(&conf.top, &Location::default()));
            }
            found.extend(special);
            found
        }
    }
}

/// 2.4's settings.
const PATHS: [&str; 3] = ["mail_path", "mail_index_path", "mail_cache_path"];

fn paths<'a>(block: &'a Block, general: &Location<'a>) -> Location<'a> {
    Location {
        about: PATHS[2].to_owned(),
        mail: block.get(PATHS[0]).unwrap_or(general.mail),
        index: block.get(PATHS[1]).or(general.index),
        cache: block.get(PATHS[2]).or(general.cache),
    }
}

/// 2.3's `maildir:~/Maildir:INDEX=MEMORY`.
fn location(about: String, value: &str) -> Location<'_> {
    let mut parts = value.split(':').skip(1);
    let mut found = Location {
        about,
        mail: parts.next().unwrap_or_default(),
        ..Location::default()
    };
    for part in parts {
        match part.split_once('=') {
            Some(("INDEX", path)) => found.index = Some(path),
            Some(("INDEXCACHE", path)) => found.cache = Some(path),
            _ => {}
        }
    }
    found
}

fn check_attachments(conf: &Conf, report: &mut Report) {
    let (about, encrypts, fix) = match conf.line {
        Line::V2_3 => {
            if conf.get("mail_attachment_dir").is_none() {
                return;
            }
            let fs = conf.get("mail_attachment_fs").unwrap_or_default();
            let mut parts = fs.split([':', ' ']);
            (
                "mail_attachment_dir",
                parts.any(|part| matches!(part, "crypt" | "mail-crypt")),
                "mail_attachment_fs = crypt:set_prefix=attachment:sis:posix:, with attachment_public_key and \
                 attachment_private_key in plugin {}; or leave mail_attachment_dir out",
            )
        }
        Line::V2_4 => {
            let about = "mail_ext_attachment_path";
            let block = conf.top.block("mail_ext_attachment");
            // doveconf takes it into the block, without its beginning.
            let path = block.and_then(|b| b.get("path")).or(conf.get(about));
            if path.is_none_or(str::is_empty) {
                return;
            }
            let mut drivers = block.into_iter().flat_map(|b| &b.blocks);
            (
                about,
                drivers.any(|b| b.kind == "fs" && b.name == "crypt"),
                "mail_ext_attachment { fs crypt { } fs posix { } }; or leave mail_ext_attachment_path out",
            )
        }
    };
    if !encrypts {
        let what = "attachments are stored outside of their mails, in plaintext";
        report.find("attachments", about, what, fix);
    }
}
