//! The machine: where files are in memory or on an encrypted disk, and who may read them.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How deep devices lie on each other: a volume on a group on an encrypted disk is three.
const MAX_DEVICES: usize = 16;

/// A machine whose files are below a folder: `/` for this one.
pub(crate) struct Host {
    root: PathBuf,
}

/// Where something is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In memory, or on an encrypted disk.
    Safe,
    /// On a file system of this kind.
    Clear(String),
    /// Nothing tells.
    Unknown,
}

struct Mount {
    point: PathBuf,
    kind: String,
    source: String,
}

impl Host {
    /// The machine below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Host {
            root: root.to_owned(),
        }
    }

    /// Where the machine's file is here.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where what is below `folder` is kept. The folder may be made later.
    pub(crate) fn kept(&self, folder: &Path) -> Kept {
        match self.mount_of(&self.resolved(folder)) {
            None => Kept::Unknown,
            Some(mount) if matches!(mount.kind.as_str(), "tmpfs" | "ramfs") => Kept::Safe,
            Some(mount) if self.is_encrypted(&mount.source) => Kept::Safe,
            Some(mount) => Kept::Clear(mount.kind),
        }
    }

    /// The swap that isn't encrypted; none where nothing tells.
    pub(crate) fn clear_swap(&self) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.path("/proc/swaps")).ok()?;
        let mut found = Vec::new();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(kind)) = (words.next(), words.next()) else {
                continue;
            };
            let name = unescaped(name);
            let safe = match kind {
                "file" => self.kept(Path::new(&name)) == Kept::Safe,
                // zram is memory, unless it writes back to a disk.
                _ => self.is_encrypted(&name) || self.is_zram(&name),
            };
            if !safe {
                found.push(name);
            }
        }
        Some(found)
    }

    /// Whether somebody who is neither the owner nor in the group can read the file.
    ///
    /// # Errors
    /// As `stat`.
    pub(crate) fn read_by_others(&self, file: &Path) -> io::Result<bool> {
        let file = fs::canonicalize(self.path(file))?;
        if fs::metadata(&file)?.mode() & 0o004 == 0 {
            return Ok(false);
        }
        for folder in file.ancestors().skip(1) {
            if fs::metadata(folder)?.mode() & 0o001 == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The path behind symbolic links, as far as it is there.
    fn resolved(&self, path: &Path) -> PathBuf {
        let there = path.ancestors().find_map(|part| {
            let real = fs::canonicalize(self.path(part)).ok()?;
            let rest = path.strip_prefix(part).ok()?;
            let root = fs::canonicalize(&self.root).ok()?;
            Some(
                Path::new("/")
                    .join(real.strip_prefix(root).ok()?)
                    .join(rest),
            )
        });
        there.unwrap_or_else(|| path.to_owned())
    }

    /// The mount that a path is on: of those above it the innermost, and of several at one place the last.
    fn mount_of(&self, path: &Path) -> Option<Mount> {
        let text = fs::read_to_string(self.path("/proc/self/mountinfo")).ok()?;
        let mounts = text.lines().filter_map(mount);
        let above = mounts.filter(|mount| path.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.components().count())
    }

    /// Whether a block device is encrypted, or all that it lies on.
    fn is_encrypted(&self, device: &str) -> bool {
        if !device.starts_with('/') {
            return false;
        }
        let real = self.resolved(Path::new(device));
        let name = real.file_name().unwrap_or_default();
        self.lies_on_encrypted(Path::new(name), MAX_DEVICES)
    }

    fn lies_on_encrypted(&self, name: &Path, depth: usize) -> bool {
        let folder = self.path("/sys/class/block").join(name);
        let uuid = fs::read_to_string(folder.join("dm/uuid")).unwrap_or_default();
        if uuid.starts_with("CRYPT-") {
            return true;
        }
        let below = fs::read_dir(folder.join("slaves")).into_iter().flatten();
        let below: Vec<PathBuf> = below.flatten().map(|d| d.file_name().into()).collect();
        depth > 0
            && !below.is_empty()
            && below
                .iter()
                .all(|name| self.lies_on_encrypted(name, depth - 1))
    }

    fn is_zram(&self, device: &str) -> bool {
        let name = Path::new(device).file_name().unwrap_or_default();
        let backing = self.path("/sys/class/block").join(name).join("backing_dev");
        let backing = fs::read_to_string(backing).unwrap_or_default();
        name.to_string_lossy().starts_with("zram") && matches!(backing.trim(), "" | "none")
    }
}

/// A line of /proc/self/mountinfo: after a `-` are the file system and its device.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    Some(Mount {
        point: unescaped(before.split(' ').nth(4)?).into(),
        kind: after.next()?.to_owned(),
        source: unescaped(after.next()?),
    })
}

/// The kernel writes a space as \040.
fn unescaped(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, plain) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(escape, plain);
    }
    out
}
