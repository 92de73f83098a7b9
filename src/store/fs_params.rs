//! An fs driver's parameters: `crypt:NAME=VALUE:..:PARENT[:PARENT'S]`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Where the settings' keys are, unless `set_prefix=` says otherwise.
const DEFAULT_PREFIX: &str = "mail_crypt_global";

/// The parameters before the parent.
#[derive(Default)]
pub struct FsParams {
    algorithm: Option<String>,
    set_prefix: Option<String>,
    public_key_path: Option<PathBuf>,
    private_key_path: Option<PathBuf>,
    password: Option<Zeroizing<String>>,
}

impl FsParams {
    /// Parses `args`, which follow the driver's name. Also returns at which byte of them the
    /// parent begins: the first field without `=`.
    ///
    /// A parameter without a value counts as not given, as in the packaged driver.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] for an unknown parameter or a missing parent; the text
    /// never shows a value.
    pub fn parse(args: &str) -> Result<(Self, usize)> {
        let mut params = FsParams::default();
        let mut rest = args;
        loop {
            let (field, tail) = match rest.split_once(':') {
                Some((field, tail)) => (field, Some(tail)),
                None => (rest, None),
            };
            let Some((name, value)) = field.split_once('=') else {
                if field.is_empty() {
                    return Err(no_parent());
                }
                return Ok((params, args.len() - rest.len()));
            };
            params.set(name, value)?;
            rest = tail.ok_or_else(no_parent)?;
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let text = Some(value).filter(|v| !v.is_empty());
        match name {
            // An empty name of an algorithm is a mistake, not the default.
            "algo" => self.algorithm = Some(value.to_owned()),
            "set_prefix" => self.set_prefix = text.map(str::to_owned),
            "public_key_path" => self.public_key_path = text.map(PathBuf::from),
            "private_key_path" => self.private_key_path = text.map(PathBuf::from),
            "password" => self.password = text.map(|v| Zeroizing::new(v.to_owned())),
            _ => {
                let name = name.escape_default();
                return Err(Error::setting(format!("invalid parameter '{name}'")));
            }
        }
        Ok(())
    }

    /// `algo=`.
    pub fn algorithm(&self) -> Option<&str> {
        self.algorithm.as_deref()
    }

    /// What the names of the settings with the keys begin with.
    pub fn prefix(&self) -> &str {
        self.set_prefix.as_deref().unwrap_or(DEFAULT_PREFIX)
    }

    /// `public_key_path=`.
    pub fn public_key_path(&self) -> Option<&Path> {
        self.public_key_path.as_deref()
    }

    /// `private_key_path=`.
    pub fn private_key_path(&self) -> Option<&Path> {
        self.private_key_path.as_deref()
    }

    /// `password=`, of the key in the private key file.
    pub fn password(&self) -> Option<&[u8]> {
        self.password.as_ref().map(|p| p.as_bytes())
    }

    /// Whether the keys are in files; settings are then not looked at.
    pub fn uses_files(&self) -> bool {
        self.public_key_path.is_some() || self.private_key_path.is_some()
    }
}

fn no_parent() -> Error {
    Error::setting("missing parameters: no parent driver, such as 'posix:', at their end")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn parse(args: &str) -> (FsParams, &str) {
        let (params, parent) = FsParams::parse(args).unwrap();
        (params, &args[parent..])
    }

    fn error(args: &str) -> String {
        match FsParams::parse(args) {
            Ok(_) => panic!("accepted"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn the_parent_begins_at_the_first_field_without_a_value() {
        assert_eq!(parse("posix:prefix=/a/").1, "posix:prefix=/a/");
        assert_eq!(parse("algo=x:sis:posix").1, "sis:posix");
        assert_eq!(parse("algo=x:posix").1, "posix");
    }

    #[test]
    fn all_parameters_are_known() {
        let (params, parent) = parse(
            "algo=a-b:set_prefix=p:public_key_path=/u:private_key_path=/r:password=a=b:posix:",
        );
        assert_eq!(parent, "posix:");
        assert_eq!(params.algorithm(), Some("a-b"));
        assert_eq!(params.prefix(), "p");
        assert_eq!(params.public_key_path(), Some(Path::new("/u")));
        assert_eq!(params.private_key_path(), Some(Path::new("/r")));
        assert_eq!(params.password(), Some(&b"a=b"[..]));
        assert!(params.uses_files());
    }

    #[test]
    fn what_is_empty_is_not_given() {
        let (params, _) = parse("set_prefix=:public_key_path=:private_key_path=:password=:posix");
        assert_eq!(params.prefix(), "mail_crypt_global");
        assert!(!params.uses_files());
        assert_eq!(params.password(), None);
    }

    #[test]
    fn a_missing_parent_or_an_unknown_parameter_is_refused_without_its_value() {
        for args in ["", ":", "password=hunter2", "password=hunter2:"] {
            let text = error(args);
            assert!(text.contains("no parent driver"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let text = error("passwrd=hunter2:posix:");
        assert!(text.contains("'passwrd'"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
