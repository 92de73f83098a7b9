//! The attribute dict, without whose keys no mail can be read.
#![forbid(unsafe_code)]

use mail_crypt_core::store::{Line, Setting};

use super::conf::Conf;
use super::{Report, by_line};

/// How a path in a user's home begins.
const HOMES: [&str; 4] = ["%h/", "~/", "%{home}/", "%{home | default("];

/// A dict, in either line's words.
struct Dict {
    driver: String,
    path: String,
    flock: bool,
}

/// Whether keys are kept, in what an interrupted change doesn't block, and where backups of the mail take them along.
pub(crate) fn check(conf: &Conf, report: &mut Report) {
    if !keeps_keys(conf) {
        return;
    }
    let about = by_line(conf.line, "mail_attribute_dict", "mail_attribute");
    let good = by_line(
        conf.line,
        "mail_attribute_dict = file:%h/dovecot-attributes:lock=flock",
        "mail_attribute { dict file { path = %{home}/dovecot-attributes lock_method = flock } }",
    );
    let Some(dict) = dict(conf) else {
        let what = "isn't set: no keys can be kept, so no mail is stored or read";
        report.find("attribute-dict", about, what, good);
        return;
    };
    if dict.driver != "file" {
        report.leave_out(format!(
            "whether the {} dict of {about} is backed up together with the mail",
            dict.driver
        ));
        return;
    }
    if !dict.flock {
        let what = "isn't locked with flock: a process that is killed in the middle of a change makes all others wait for a minute";
        report.find("attribute-dict-lock", about, what, good);
    }
    if !HOMES.iter().any(|home| dict.path.starts_with(home)) {
        let what = format!(
            "{} isn't below the users' homes: a backup of their mail lacks the keys",
            dict.path
        );
        let fix =
            format!("{good} (move the files first), or back it up at the same time as the mail");
        report.find("attribute-dict-place", about, what, fix);
    }
}

/// With a global key alone there are no others.
fn keeps_keys(conf: &Conf) -> bool {
    let of_users = [
        Setting::Curve,
        Setting::Password,
        Setting::UserKeyKey,
        Setting::EscrowPublic,
    ];
    let of_all = [Setting::GlobalPublic, Setting::GlobalPrivate];
    let has = |settings: &[Setting]| settings.iter().any(|setting| conf.has(*setting));
    has(&of_users) || !has(&of_all)
}

fn dict(conf: &Conf) -> Option<Dict> {
    match conf.line {
        Line::V2_3 => {
            let value = conf.get("mail_attribute_dict")?;
            let (driver, rest) = value.split_once(':').unwrap_or((value, ""));
            let mut parts = rest.split(':');
            Some(Dict {
                driver: driver.to_owned(),
                path: parts.next().unwrap_or_default().to_owned(),
                flock: parts.any(|part| part == "lock=flock"),
            })
        }
        Line::V2_4 => {
            let dict = conf.top.block("mail_attribute")?.block("dict")?;
            // doveconf leaves `dict_file_` out where that is clear.
            let value = |end: &str| {
                let found = dict.entries.iter().find(|(name, _)| name.ends_with(end));
                found.map_or("", |(_, value)| value.as_str())
            };
            Some(Dict {
                driver: dict.name.clone(),
                path: value("path").to_owned(),
                flock: value("lock_method") == "flock",
            })
        }
    }
}
