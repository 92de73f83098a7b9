//! Names: those of the other line, and those that are nobody's. Dovecot ignores most of them, and with them what was
//! to be protected.
#![forbid(unsafe_code)]

use mail_crypt_core::store::Line;
use mail_crypt_core::store::names::{IN_BLOCK, KEYS, nearest};

use super::Report;
use super::conf::{Conf, Place, field_name};

/// How all names of 2.3 and 2.4 begin.
const PREFIXES: [&str; 2] = ["mail_crypt_", "crypt_"];

/// What 2.4 doesn't have, and most of what is in it on 2.3 is ours.
const PLUGIN_BLOCK: &str = "plugin";

/// What is wrong with a name.
struct Mistake {
    check: &'static str,
    what: String,
    fix: String,
}

/// All names in a configuration.
pub(crate) fn check(conf: &Conf, report: &mut Report) {
    let places = conf.places();
    let prefixes = fs_prefixes(&places);
    for place in &places {
        let name = field_name(place.name);
        let of_fs = prefixes.iter().any(|p| name.starts_with(p.as_str()));
        // Elsewhere doveconf itself knows all names.
        let anything_goes = conf.line == Line::V2_4 || !place.kind.is_empty();
        if of_fs || !anything_goes || has_new_name_too(conf.line, place, &places) {
            continue;
        }
        if let Some(mistake) = mistake(conf.line, name) {
            report.find(mistake.check, place.title(), mistake.what, mistake.fix);
        }
    }
}

/// Whether an error of doveconf may be about one of our settings.
pub(crate) fn is_about_ours(why: &str) -> bool {
    ours(why).is_some() || words(reason(why)).any(|word| word == PLUGIN_BLOCK)
}

/// Dovecot doesn't take the configuration, and `why` is what it says; `written` are the names in the file.
pub(crate) fn refused(line: Line, why: &str, written: &[String], report: &mut Report) {
    let mut names: Vec<&str> = ours(why).into_iter().collect();
    for name in written {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    for name in names {
        match mistake(line, name) {
            Some(mistake) => report.find(mistake.check, name, mistake.what, mistake.fix),
            None if ours(why) == Some(name) => report.find(
                "refused",
                name,
                format!("Dovecot doesn't take it, and doesn't start: {why}"),
                match line.setting_of(name) {
                    Some(setting) if !setting.is_packaged() => {
                        "take it out, or see that this plugin is installed as a whole: Dovecot's own plugin doesn't \
                         have it"
                    }
                    _ => "mend its value",
                },
            ),
            None => {}
        }
    }
    if report.findings.is_empty() {
        report.find(
            "refused",
            PLUGIN_BLOCK,
            format!("Dovecot doesn't take it, and doesn't start: {why}"),
            "2.4 has no plugin {}: mail-crypt-settings(7) has the names that its settings have there",
        );
    }
}

fn mistake(line: Line, name: &str) -> Option<Mistake> {
    // 2.4's fields for a key: the list, the block's name, the setting in it.
    let (list, inner) = match name.split_once('/') {
        Some((list, rest)) => (list, rest.rsplit('/').next()),
        None => (name, None),
    };
    let list = list.trim_end_matches('+');
    let known = line.takes(list) && inner.is_none_or(|inner| IN_BLOCK.contains(&inner));
    if known || !PREFIXES.iter().any(|p| list.starts_with(p)) {
        return None;
    }
    match line {
        Line::V2_3 => {
            if let Some(old) = old_name(list) {
                let what = "is a name of Dovecot 2.4, and 2.3 ignores it";
                return Some(other_line(what, old));
            }
            // Others may have settings that begin with crypt_.
            let fix = format!("use {}", nearest(list, line.names()));
            list.starts_with("mail_crypt_").then(|| nobodys(fix))
        }
        Line::V2_4 => {
            if let Some(new) = Line::renamed(list) {
                let what = "is a name of Dovecot 2.3, and 2.4 doesn't know it";
                return Some(other_line(what, new));
            }
            Some(nobodys(match inner.filter(|_| line.takes(list)) {
                Some(inner) => format!("use {list}/NAME/{}", nearest(inner, IN_BLOCK)),
                None => format!("use {}", nearest(list, line.names())),
            }))
        }
    }
}

fn other_line(what: &str, use_this: &str) -> Mistake {
    Mistake {
        check: "other-line",
        what: what.to_owned(),
        fix: format!("use {use_this}"),
    }
}

fn nobodys(fix: String) -> Mistake {
    Mistake {
        check: "unknown-setting",
        what: "is none of mail_crypt's settings: Dovecot ignores it".to_owned(),
        fix,
    }
}

/// What 2.3 calls a setting of 2.4.
fn old_name(new: &str) -> Option<&'static str> {
    if IN_BLOCK.contains(&new) {
        return Some(Line::V2_3.name(KEYS[0]));
    }
    let setting = Line::V2_4.setting_of(new)?;
    let mut names = Line::V2_4.names_of(setting);
    names.find(|(_, known)| *known == new).map(|(old, _)| old)
}

/// A userdb that serves both lines has both names.
fn has_new_name_too(line: Line, place: &Place<'_>, places: &[Place<'_>]) -> bool {
    let name = field_name(place.name);
    let Some(new) = Line::renamed(name).filter(|_| line == Line::V2_4) else {
        return false;
    };
    let in_userdb = place.within.starts_with("userdb") || place.within.starts_with("passdb");
    let is_new = |p: &Place<'_>| {
        let list = field_name(p.name).split('/').next();
        p.within == place.within && list == Some(new)
    };
    in_userdb && places.iter().any(is_new)
}

/// An fs driver takes its keys from settings of any name that `set_prefix=` says.
fn fs_prefixes(places: &[Place<'_>]) -> Vec<String> {
    let of_value = |p: &Place<'_>| {
        let (_, rest) = p.value.split_once("set_prefix=")?;
        let prefix = rest.split([':', ' ']).next()?;
        Some(format!("{prefix}_"))
    };
    places.iter().filter_map(of_value).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// What doveconf says, without the file and the line, which can have any name.
fn reason(why: &str) -> &str {
    why.split_once(" line ").map_or(why, |(_, reason)| reason)
}

/// The first name in an error that could be one of ours.
fn ours(why: &str) -> Option<&str> {
    words(reason(why)).find(|word| PREFIXES.iter().any(|p| word.starts_with(p)))
}
