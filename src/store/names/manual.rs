//! What is written about the settings: the manual page has the meanings, the table of names has the names. docs/settings.md
//! and the manual page's list of 2.4's names are made of them: `make settings` writes both anew.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::{IN_BLOCK, KEYS, Line, NAMES, Setting};

/// Set to write what has changed instead of failing.
const WRITE: &str = "MAIL_CRYPT_WRITE_DOCS";

const MANUAL: &str = "man/mail-crypt-settings.7.scd";
const TABLE: &str = "docs/settings.md";
const MARKS: (&str, &str) = ("; names: begin\n", "; names: end\n");

/// Dovecot's own setting, without which there are no keys.
const DICT: (&str, &str) = ("mail_attribute_dict", "mail_attribute");

const HEAD: &str = "# Settings

Made by `make settings`, from `man/mail-crypt-settings.7.scd` and the plugin's table of names: change those.

Under Dovecot 2.3 the settings are in `plugin {}`. Under 2.4 they are in no block but those in braces here. For one user
they are userdb fields of the same names. mail-crypt-settings(7) has the rest: what a value can be, the parameters of the
fs drivers, and what becomes of old names. `mail-crypt doctor` finds names that are wrong.
";

/// A setting in the manual page.
struct Entry {
    /// The heading that it is below.
    heading: String,
    /// The line of its names, and the names; it is called by the first.
    line: String,
    names: Vec<String>,
    meaning: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The entries of the manual page: a line of bold names, and lines with a tab below.
fn entries(manual: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut heading = "";
    let mut open = false;
    for line in manual.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            heading = title;
        }
        let names = names_in(line);
        if line.starts_with("*mail_") && !names.is_empty() {
            open = true;
            found.push(Entry {
                heading: heading.to_owned(),
                line: line.to_owned(),
                names,
                meaning: String::new(),
            });
        } else if let (true, Some(text), Some(entry)) =
            (open, line.strip_prefix('\t'), found.last_mut())
        {
            entry.meaning += &format!("{} ", text.trim());
        } else {
            open = false;
        }
    }
    found.retain(|entry| !entry.meaning.is_empty());
    found
}

/// The names of a line that has nothing but bold names, commas and dots.
fn names_in(line: &str) -> Vec<String> {
    let parts = line
        .split([',', ' '])
        .filter(|part| !matches!(*part, "" | ".."));
    let bold = parts.map(|part| part.strip_prefix('*')?.strip_suffix('*').map(str::to_owned));
    bold.collect::<Option<_>>().unwrap_or_default()
}

/// scdoc's bold and underlined as code.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    let mut open = None;
    let chars: Vec<char> = text.trim().chars().collect();
    let word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let (before, after) = (
            at.checked_sub(1).and_then(|i| chars.get(i)),
            chars.get(at + 1),
        );
        match c {
            '\\' => {
                at += 1;
                out.extend(chars.get(at));
            }
            '*' | '_' if open == Some(c) && (c == '*' || !word(after)) => {
                open = None;
                out.push('`');
            }
            '*' | '_' if open.is_none() && (c == '*' || !word(before)) => {
                open = Some(c);
                out.push('`');
            }
            '|' => out += "\\|",
            c => out.push(c),
        }
        at += 1;
    }
    out
}

/// How a setting is written under 2.4, with `code` around names and `any` around what stands for any.
fn in_2_4(setting: Setting, code: impl Fn(&str) -> String, any: impl Fn(&str) -> String) -> String {
    let own = code(Line::V2_4.name(setting));
    match setting {
        Setting::Write => format!("{own}: the algorithm; empty to read only"),
        Setting::UserKeyKey => {
            let (file, password) = (code(IN_BLOCK[0]), code(IN_BLOCK[1]));
            format!("{own} {} {{ {file}, {password} }}", any("NAME"))
        }
        _ if KEYS.contains(&setting) => format!("{own} {} {{ .. }}", any("NAME")),
        Setting::EscrowPublic => {
            let second = NAMES.iter().filter(|row| row.0 == setting).nth(1);
            format!("{own}, {}, ..", code(second.map_or("", |row| row.2)))
        }
        _ => own,
    }
}

fn has_several(setting: Setting) -> bool {
    KEYS.contains(&setting) || NAMES.iter().filter(|row| row.0 == setting).count() > 1
}

/// The settings in the order of their table, each once.
fn settings() -> Vec<Setting> {
    let mut found = Vec::new();
    for (setting, _, _) in NAMES {
        if !found.contains(&setting) {
            found.push(setting);
        }
    }
    found
}

/// The manual page's list of names: those that only this plugin has come last.
fn list() -> String {
    let row = |old: &str, new: &str| format!("|[ {old}\n:[ {new}\n");
    let bold = |name: &str| format!("*{name}*");
    let (mut packaged, mut own) = (String::new(), String::new());
    for setting in settings() {
        let several = if has_several(setting) { ", .." } else { "" };
        let old = format!("{}{several}", Line::V2_3.name(setting));
        let new = in_2_4(setting, bold, |name| format!("_{name}_"));
        let list = if setting.is_packaged() {
            &mut packaged
        } else {
            &mut own
        };
        *list += &row(&old, &new);
    }
    packaged += &row(DICT.0, &format!("*{}* {{ dict .. }}", DICT.1));
    // scdoc wants an empty line after a table.
    format!("[[ *2.3*\n:[ *2.4*\n{packaged}{own}\n")
}

/// docs/settings.md.
fn table(manual: &str) -> String {
    let mut out = HEAD.to_owned();
    let mut heading = String::new();
    for entry in entries(manual) {
        if entry.heading != heading {
            heading.clone_from(&entry.heading);
            let title = heading[..1].to_owned() + &heading[1..].to_lowercase();
            out += &format!("\n## {title}\n\n| 2.3 | 2.4 | meaning |\n|---|---|---|\n");
        }
        out += &row(&entry);
    }
    out
}

fn row(entry: &Entry) -> String {
    let code = |name: &str| format!("`{name}`");
    let (old, mut meaning) = (markdown(&entry.line), markdown(&entry.meaning));
    let new = match Line::V2_3.setting_of(&entry.names[0]) {
        Some(setting) => {
            if !setting.is_packaged() {
                meaning += " Only this plugin has it.";
            }
            in_2_4(setting, code, str::to_owned)
        }
        None => format!("{} {{ dict .. }}", code(DICT.1)),
    };
    format!("| {old} | {new} | {meaning} |\n")
}

/// The manual page with the list of names in its place.
fn with_list(manual: &str) -> String {
    let (before, rest) = manual.split_once(MARKS.0).expect("where the names begin");
    let (_, after) = rest.split_once(MARKS.1).expect("where they end");
    format!("{before}{}{}{}{after}", MARKS.0, list(), MARKS.1)
}

/// Fails where a file isn't what it should be, or writes it.
fn settle(path: &str, want: &str) {
    let path: &Path = &root().join(path);
    if std::env::var_os(WRITE).is_some() {
        fs::write(path, want).unwrap();
        return;
    }
    let have = fs::read_to_string(path).unwrap_or_default();
    assert!(
        have == want,
        "{} is stale: run make settings",
        path.display()
    );
}

#[test]
fn what_is_written_about_settings_is_what_the_plugin_takes() {
    let manual = fs::read_to_string(root().join(MANUAL)).unwrap();
    let described = entries(&manual);
    for setting in settings() {
        let name = Line::V2_3.name(setting);
        let is_first = |entry: &&Entry| entry.names[0] == name;
        assert_eq!(
            described.iter().filter(is_first).count(),
            1,
            "{name} in {MANUAL}"
        );
    }
    for name in described.iter().flat_map(|entry| &entry.names) {
        assert!(
            Line::V2_3.takes(name) || name == DICT.0,
            "{name} in {MANUAL}"
        );
    }
    let manual = with_list(&manual);
    settle(MANUAL, &manual);
    settle(TABLE, &table(&manual));
}

#[test]
fn bold_and_underlined_become_code() {
    for (scdoc, want) in [
        ("_a_b = c:.._, *x\\_\\** d", "`a_b = c:..`, `x_*` d"),
        ("see *x*(1): a_b | c", "see `x`(1): a_b \\| c"),
    ] {
        assert_eq!(markdown(scdoc), want);
    }
}
