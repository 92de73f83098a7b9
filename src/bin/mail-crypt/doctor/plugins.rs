//! Which plugins are loaded where.
#![forbid(unsafe_code)]

use mail_crypt_core::store::Line;

use super::conf::{Block, Conf};
use super::{Report, by_line};

const PLUGIN: &str = "mail_crypt";
const LIST: &str = "mail_plugins";

/// Blocks in which plugins can be others.
const FILTERS: [&str; 4] = ["protocol", "local", "remote", "local_name"];

/// What one kind of process loads.
struct Loaded {
    title: String,
    plugins: Vec<String>,
}

/// Whether mail_crypt is everywhere, and notify_status is nowhere that it kills a process.
pub(crate) fn check(conf: &Conf, report: &mut Report) {
    let general = plugins(&conf.top, &[]).unwrap_or_default();
    let mut all = vec![Loaded {
        title: String::new(),
        plugins: general.clone(),
    }];
    special(&conf.top, "", &general, &mut all);
    check_missing(conf.line, &all, report);
    if conf.line == Line::V2_3 && !conf.version.reaches(&[2, 3, 21]) {
        check_notify_status(&all, report);
    }
}

fn check_missing(line: Line, all: &[Loaded], report: &mut Report) {
    let lacks = |l: &&Loaded| !l.plugins.iter().any(|p| p == PLUGIN);
    let lacking: Vec<&str> = all.iter().filter(lacks).map(|l| l.title.as_str()).collect();
    let add = by_line(
        line,
        "mail_plugins = $mail_plugins mail_crypt",
        "mail_plugins { mail_crypt = yes }",
    );
    let what = "mail_crypt isn't in it: mail is stored in plaintext, and encrypted mail served as it is on disk";
    if lacking.first() == Some(&"") {
        let others = match &lacking[1..] {
            [] => String::new(),
            names => format!(" (nor in {})", names.join(", ")),
        };
        let fix = format!("{add}, outside of all protocol blocks");
        report.find("plugin-missing", LIST, format!("{what}{others}"), fix);
        return;
    }
    for title in lacking {
        let about = format!("{title}: {LIST}");
        report.find(
            "plugin-missing",
            about,
            what,
            format!("{add}, in {title} {{}}"),
        );
    }
}

fn check_notify_status(all: &[Loaded], report: &mut Report) {
    let has = |l: &&Loaded| l.plugins.iter().any(|p| p == "notify_status");
    let Some(found) = all.iter().find(has) else {
        return;
    };
    let about = match found.title.as_str() {
        "" => LIST.to_owned(),
        title => format!("{title}: {LIST}"),
    };
    let what = "before Dovecot 2.3.21 notify_status kills the process in which a user fails, as where a key can't be used";
    report.find(
        "notify-status",
        about,
        what,
        "leave notify_status out, or upgrade Dovecot",
    );
}

/// What is loaded in the blocks below, as far as they say.
fn special(block: &Block, within: &str, general: &[String], found: &mut Vec<Loaded>) {
    for inner in &block.blocks {
        if !FILTERS.contains(&inner.kind.as_str()) {
            continue;
        }
        let title = format!("{within}{}", inner.title());
        let own = plugins(inner, general);
        if let Some(plugins) = &own {
            found.push(Loaded {
                title: title.clone(),
                plugins: plugins.clone(),
            });
        }
        let general = own.as_deref().unwrap_or(general);
        special(inner, &format!("{title} / "), general, found);
    }
}

/// The plugins that a block sets. As a line they replace the general ones; as 2.4's block they are added and taken away.
fn plugins(block: &Block, general: &[String]) -> Option<Vec<String>> {
    if let Some(line) = block.get(LIST) {
        return Some(line.split_whitespace().map(str::to_owned).collect());
    }
    let changes = block.block(LIST)?;
    let mut plugins = general.to_owned();
    for (name, value) in &changes.entries {
        plugins.retain(|known| known != name);
        if value.as_str() == "yes" {
            plugins.push(name.clone());
        }
    }
    Some(plugins)
}
