//! The keys of one fs driver: from files, or from settings.
#![forbid(unsafe_code)]

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::fs_params::FsParams;
use super::names::{Line, Setting};
use super::settings;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, PrivateKey, PublicKey};
use crate::stream::Algorithm;

/// The largest key file: the longest RSA keys take a tenth of that.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Looks a setting up; `None` where it isn't set, an error where that can't be known.
pub type FsLookup<'a> = dyn FnMut(&str) -> Result<Option<settings::Value>> + 'a;

/// The keys that one fs driver's files are encrypted to and decrypted with.
///
/// They are read when they are first needed: deleting or listing needs none. Key files that were
/// changed since are read again, so that a long-lived process follows when a key is replaced.
pub struct FsKeys {
    source: Source,
    keys: Option<Keys>,
}

/// Where the keys are configured.
enum Source {
    /// In the driver's parameters, and in settings that those name.
    Params(FsParams),
    /// In the settings of this line, and in nothing else.
    Settings(Line),
}

struct Keys {
    /// Only needed for writing.
    public: Result<Option<PublicKey>>,
    private: Result<Vec<PrivateKey>>,
    /// The files as they were when they were read.
    public_file: Option<Stamp>,
    private_file: Option<Stamp>,
}

/// What tells that a file was replaced or written to.
#[derive(PartialEq, Eq)]
struct Stamp([u64; 3], [(i64, i64); 2]);

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Stamp(
            [file.dev(), file.ino(), file.size()],
            [
                (file.mtime(), file.mtime_nsec()),
                (file.ctime(), file.ctime_nsec()),
            ],
        )
    }

    /// A file that can't be reached any more (the process may have dropped its privileges) counts as
    /// unchanged.
    fn is_current(stamp: Option<&Self>, path: Option<&Path>) -> bool {
        let (Some(stamp), Some(path)) = (stamp, path) else {
            return true;
        };
        std::fs::metadata(path).map_or(true, |now| Stamp::of(&now) == *stamp)
    }
}

impl FsKeys {
    /// The keys that `params` name; nothing is read yet.
    pub fn new(params: FsParams) -> Self {
        FsKeys {
            source: Source::Params(params),
            keys: None,
        }
    }

    /// The keys in the settings of `line`; nothing is read yet.
    pub fn of_settings(line: Line) -> Self {
        FsKeys {
            source: Source::Settings(line),
            keys: None,
        }
    }

    /// What new files are encrypted with; `None` if they are not to be encrypted.
    ///
    /// # Errors
    /// [`ErrorKind::Setting`] if it can't be used.
    pub fn algorithm(&self, lookup: &mut FsLookup<'_>) -> Result<Option<Algorithm>> {
        match &self.source {
            Source::Params(params) => match params.algorithm() {
                None => Ok(Some(Algorithm::default())),
                Some(name) => name
                    .parse()
                    .map(Some)
                    .map_err(|e: Error| e.context("algo=")),
            },
            Source::Settings(line) => asked(lookup, |ask| settings::writing(ask, *line)),
        }
    }

    /// To whom new files are encrypted.
    ///
    /// # Errors
    /// The keys can't be read, or there is no public one: no file may then be written.
    pub fn public_key(&mut self, lookup: &mut FsLookup<'_>) -> Result<PublicKey> {
        let keys = self.current(lookup)?;
        let public = keys.public.clone()?;
        keys.private.as_ref().map_err(Clone::clone)?;
        public.ok_or_else(|| {
            let where_from =
                self.sources("public_key_path=", ("_public_key", Setting::GlobalPublic));
            Error::setting(format!(
                "no public key, and nothing is written without: set {where_from}"
            ))
        })
    }

    /// The private key that one of `ids` names.
    ///
    /// # Errors
    /// [`ErrorKind::NoKey`] where none is there; else why the keys can't be read.
    pub fn private_key(&mut self, ids: &[KeyId], lookup: &mut FsLookup<'_>) -> Result<PrivateKey> {
        let keys = self.current(lookup)?;
        let private = keys.private.as_ref().map_err(Clone::clone)?;
        let found = private
            .iter()
            .find(|key| ids.iter().any(|id| key.matches(id)));
        let (found, unusable) = (found.cloned(), keys.public.as_ref().err().cloned());
        found.ok_or_else(|| {
            // What is wrong with the other half may be why this one isn't there.
            if let Some(e) = unusable {
                return e;
            }
            let ids: Vec<String> = ids.iter().map(KeyId::to_string).collect();
            let where_from = self.sources(
                "private_key_path=",
                ("_private_key", Setting::GlobalPrivate),
            );
            Error::new(
                ErrorKind::NoKey,
                format!("no private key {} in {where_from}", ids.join(", ")),
            )
        })
    }

    /// Where a key would have to be, for error texts.
    fn sources(&self, parameter: &str, setting: (&str, Setting)) -> String {
        match &self.source {
            Source::Params(params) if params.uses_files() => parameter.to_owned(),
            Source::Params(params) => format!("{}{} (or {parameter})", params.prefix(), setting.0),
            Source::Settings(line) => line.name(setting.1).to_owned(),
        }
    }

    fn current(&mut self, lookup: &mut FsLookup<'_>) -> Result<&Keys> {
        let keys = self.keys.take().filter(|keys| match &self.source {
            // It may have been mended meanwhile.
            _ if keys.public.is_err() || keys.private.is_err() => false,
            Source::Params(params) => {
                Stamp::is_current(keys.public_file.as_ref(), params.public_key_path())
                    && Stamp::is_current(keys.private_file.as_ref(), params.private_key_path())
            }
            Source::Settings(_) => true,
        });
        let keys = match (keys, &self.source) {
            (Some(keys), _) => keys,
            (None, Source::Params(params)) if params.uses_files() => from_files(params),
            (None, Source::Params(params)) => from_named(params.prefix(), lookup)?,
            (None, Source::Settings(line)) => from_settings(*line, lookup)?,
        };
        Ok(self.keys.insert(keys))
    }
}

fn from_files(params: &FsParams) -> Keys {
    const PUBLIC: &str = "public_key_path=";
    const PRIVATE: &str = "private_key_path=";
    let (mut public_file, mut private_file) = (None, None);
    let public = params.public_key_path().map(|path| {
        let (text, stamp) = read_file(path).map_err(|e| e.context(PUBLIC))?;
        public_file = Some(stamp);
        PublicKey::parse_setting(&text).map_err(|e| in_file(e, PUBLIC, path))
    });
    let private = params.private_key_path().map(|path| {
        let (text, stamp) = read_file(path).map_err(|e| e.context(PRIVATE))?;
        private_file = Some(stamp);
        let key = PrivateKey::parse_setting(&text, params.password());
        key.map_err(|e| match e.kind() {
            ErrorKind::WrongPassword => e.context("password="),
            _ => in_file(e, PRIVATE, path),
        })
    });
    Keys {
        public: public.transpose(),
        private: private.into_iter().collect(),
        public_file,
        private_file,
    }
}

fn in_file(e: Error, parameter: &str, path: &Path) -> Error {
    e.context(path.display()).context(parameter)
}

fn read_file(path: &Path) -> Result<(Zeroizing<String>, Stamp)> {
    let failed = |e: std::io::Error| Error::setting(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let stamp = Stamp::of(&file.metadata().map_err(failed)?);
    // Read into memory that never grows: growing would leave copies behind.
    let mut bytes = Zeroizing::new(vec![0; MAX_KEY_FILE as usize + 1]);
    let mut len = 0;
    let mut file = file;
    loop {
        match file.read(&mut bytes[len..]).map_err(failed)? {
            0 => break,
            n => len += n,
        }
    }
    if len as u64 > MAX_KEY_FILE {
        return Err(Error::setting(format!(
            "{}: too long for a key",
            path.display()
        )));
    }
    let text = std::str::from_utf8(&bytes[..len])
        .map_err(|_| Error::setting(format!("{}: not a text", path.display())))?;
    if text.trim().is_empty() {
        return Err(Error::setting(format!("{} is empty", path.display())));
    }
    Ok((Zeroizing::new(text.to_owned()), stamp))
}

/// From the settings whose names begin with `prefix`.
fn from_named(prefix: &str, lookup: &mut FsLookup<'_>) -> Result<Keys> {
    asked(lookup, |ask| {
        Ok(Keys::unchanging(
            settings::public_key(ask, &format!("{prefix}_public_key")),
            settings::private_keys(ask, &format!("{prefix}_private_key")),
        ))
    })
}

/// From the global settings of `line`.
fn from_settings(line: Line, lookup: &mut FsLookup<'_>) -> Result<Keys> {
    asked(lookup, |ask| {
        let (public, private) = settings::global_keys(ask, line);
        Ok(Keys::unchanging(public, private))
    })
}

impl Keys {
    fn unchanging(public: Result<Option<PublicKey>>, private: Result<Vec<PrivateKey>>) -> Self {
        Keys {
            public,
            private,
            public_file: None,
            private_file: None,
        }
    }
}

/// What `f` makes of the settings, with a look-up that can't fail.
fn asked<T>(
    lookup: &mut FsLookup<'_>,
    f: impl FnOnce(&mut settings::Lookup<'_>) -> Result<T>,
) -> Result<T> {
    let mut failed = None;
    // "Can't say" must not end up as "not set": the first failure is what counts.
    let found = f(&mut |name: &str| match lookup(name) {
        Ok(value) => value,
        Err(e) => {
            failed.get_or_insert(e);
            None
        }
    });
    failed.map_or(found, Err)
}

#[cfg(test)]
mod tests;
