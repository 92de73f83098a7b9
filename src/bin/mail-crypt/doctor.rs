//! `mail-crypt doctor`: mistakes in a configuration of Dovecot, and on its machine, with which mail or keys are less
//! protected than they seem, or get lost.
#![forbid(unsafe_code)]

mod attributes;
mod conf;
mod host;
mod keys;
mod modules;
mod names;
mod places;
mod plugins;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mail_crypt_core::store::Line;
use serde_json::{Value, json};

use crate::args::Options;
use crate::{Failure, Result, secret};
use conf::Conf;
use host::Host;
use source::Source;

/// Something to change.
struct Finding {
    /// Which check it is from; fixed, for scripts.
    check: &'static str,
    /// The setting, file or device.
    about: String,
    /// What is wrong with it.
    what: String,
    /// What to do.
    fix: String,
}

/// What was found, and what couldn't be looked at.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    unchecked: Vec<String>,
}

impl Report {
    fn find(
        &mut self,
        check: &'static str,
        about: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding {
            check,
            about: about.into(),
            what: what.into(),
            fix: fix.into(),
        });
    }

    /// Tells once why something is left out.
    fn leave_out(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.unchecked.contains(&why) {
            self.unchecked.push(why);
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for f in &self.findings {
            out += &format!("{}: {}\n  fix: {}\n", f.about, f.what, f.fix);
        }
        if self.findings.is_empty() {
            out += "nothing found\n";
        }
        for why in &self.unchecked {
            out += &format!("not checked: {why}\n");
        }
        out
    }

    fn json(&self, conf: Option<&Conf>) -> Value {
        let finding = |f: &Finding| json!({ "check": f.check, "about": f.about, "what": f.what, "fix": f.fix });
        json!({
            "dovecot": conf.map(|conf| conf.version.to_string()),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "not_checked": self.unchecked,
        })
    }
}

/// Runs the command. The exit code says whether anything was found.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.file.is_some() {
        return Err(Failure::Usage(
            "doctor takes no FILE: --doveconf FILE reads what doveconf -n has written".into(),
        ));
    }
    if options.config.is_some() && options.doveconf.is_some() {
        return Err(Failure::Usage(
            "--config and --doveconf exclude each other".into(),
        ));
    }
    if options.root.is_some() && options.doveconf.is_none() {
        return Err(Failure::Usage("--root DIR needs --doveconf FILE".into()));
    }
    let mut report = Report::default();
    let conf = match source::read(options)? {
        Source::Conf(conf) => {
            examine(&conf, options, &mut report);
            Some(conf)
        }
        Source::Refused(line, why, written) => {
            names::refused(line, &why, &written, &mut report);
            report.leave_out("everything else: doveconf doesn't take the configuration");
            None
        }
    };
    let text = if options.json {
        format!("{:#}\n", report.json(conf.as_ref()))
    } else {
        report.text()
    };
    // 1 would say that something was found.
    secret::say(&text).map_err(|e| Failure::Doctor(e.to_string()))?;
    Ok(ExitCode::from(u8::from(!report.findings.is_empty())))
}

/// What doveconf has written may be from another machine, at which there is nothing to look.
fn host(options: &Options) -> Option<Host> {
    match (&options.root, &options.doveconf) {
        (Some(root), _) => Some(Host::new(root)),
        (None, None) => Some(Host::new(Path::new("/"))),
        (None, Some(_)) => None,
    }
}

fn examine(conf: &Conf, options: &Options, report: &mut Report) {
    let host = host(options);
    if host.is_none() {
        report.leave_out(
            "swap, key files, modules and what is on a tmpfs: --root / looks at this machine",
        );
    }
    let host = host.as_ref();
    names::check(conf, report);
    plugins::check(conf, report);
    attributes::check(conf, report);
    places::check(conf, host, report);
    keys::check(conf, host, report);
    if let Some(host) = host {
        let folder = match &options.doveconf {
            Some(_) => None,
            None => source::module_folder(options),
        };
        modules::check(conf, host, folder.as_deref(), report);
    }
}

/// One of two words or sentences, by line.
fn by_line<T>(line: Line, old: T, new: T) -> T {
    match line {
        Line::V2_3 => old,
        Line::V2_4 => new,
    }
}

/// The part of a path that is the same for all users; none where it is below their homes.
fn same_for_all(path: &str) -> Option<PathBuf> {
    let fixed = path.split('%').next().unwrap_or_default();
    if !fixed.starts_with('/') {
        return None;
    }
    let whole = fixed.len() == path.len();
    let folder = Path::new(fixed);
    if whole || fixed.ends_with('/') {
        return Some(folder.to_owned());
    }
    folder.parent().map(Path::to_owned)
}
