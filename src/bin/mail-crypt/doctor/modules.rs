//! Whether the modules are those of the Dovecot that is installed.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::Report;
use super::conf::Conf;
use super::host::Host;

/// Where modules are if nothing says so.
const FOLDERS: [&str; 3] = [
    "/usr/lib/dovecot/modules",
    "/usr/lib64/dovecot/modules",
    "/usr/local/lib/dovecot/modules",
];

/// Where modules are below their folder.
const BELOW: [&str; 3] = ["", "doveadm", "settings"];

/// What an ABI has in it: 2.3.ABIv19(2.3.19.1), 2.4.ABIv1.
const MARK: &[u8] = b".ABIv";

/// All modules of the plugin; `folder` is where doveconf says that they are.
pub(crate) fn check(conf: &Conf, host: &Host, folder: Option<&Path>, report: &mut Report) {
    let named = conf.get("mail_plugin_dir").map(Path::new).or(folder);
    let mut folders: Vec<&Path> = named.into_iter().collect();
    folders.extend(FOLDERS.map(Path::new));
    let Some((want, _)) = folders.iter().find_map(|f| installed(host, f)) else {
        report.leave_out("the modules' ABI: there is no libdovecot-storage.so");
        return;
    };
    let there = |f: &&&Path| host.path(f).is_dir();
    let Some(folder) = folders.iter().find(there) else {
        return;
    };
    let modules = modules(host, folder);
    let is_plugin = |path: &&PathBuf| path.to_string_lossy().contains("mail_crypt_plugin");
    if !modules.iter().any(|path| is_plugin(&path)) {
        let what = "has no mail_crypt plugin in it";
        let fix = "install the plugin there, or Dovecot's own package of it";
        report.find("abi", folder.to_string_lossy(), what, fix);
    }
    for path in modules {
        let have = abi(&host.path(&path));
        if have.as_ref().is_none_or(|have| *have == want) {
            continue;
        }
        let what = format!(
            "is for ABI {}, and Dovecot has {want}: it isn't loaded, and no mail is stored or read",
            have.unwrap_or_default()
        );
        let fix = "build and install the plugin again for this Dovecot: make && make install, or its package";
        report.find("abi", path.to_string_lossy(), what, fix);
    }
}

/// The ABI of the Dovecot whose modules are in `folder`, and the library that says so.
fn installed(host: &Host, folder: &Path) -> Option<(String, PathBuf)> {
    let libraries = files(host, folder.parent()?);
    let is_storage = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libdovecot-storage.so")
    };
    let mut found = libraries.into_iter().filter(is_storage);
    found.find_map(|path| Some((abi(&host.path(&path))?, path)))
}

/// The modules of mail_crypt, ours or the packaged ones: what is put aside isn't called .so.
fn modules(host: &Host, folder: &Path) -> Vec<PathBuf> {
    let all = BELOW
        .iter()
        .flat_map(|below| files(host, &folder.join(below)));
    let is_module = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".so") && name.contains("crypt")
    };
    all.filter(is_module).collect()
}

/// What is in a folder, as the machine calls it, in order.
fn files(host: &Host, folder: &Path) -> Vec<PathBuf> {
    let there = fs::read_dir(host.path(folder)).into_iter().flatten();
    let mut found: Vec<PathBuf> = there
        .flatten()
        .map(|entry| folder.join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// The ABI that a library or module was built with or for; none if it doesn't say.
fn abi(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let at = bytes.windows(MARK.len()).position(|part| part == MARK)?;
    let printed = |b: &u8| b.is_ascii_graphic();
    let before = bytes[..at].iter().rev().take_while(|b| printed(b)).count();
    let after = bytes[at..].iter().take_while(|b| printed(b)).count();
    String::from_utf8(bytes[at - before..at + after].to_vec()).ok()
}
