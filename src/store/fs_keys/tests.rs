#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use super::*;
use crate::key::Protect;

/// A folder of its own, gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fs-keys-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key() -> PrivateKey {
    PrivateKey::generate("prime256v1").unwrap()
}

fn fs_keys(args: &str) -> FsKeys {
    FsKeys::new(FsParams::parse(args).unwrap().0)
}

fn never(name: &str) -> Result<Option<settings::Value>> {
    panic!("{name} was looked up");
}

fn nothing(_: &str) -> Result<Option<settings::Value>> {
    Ok(None)
}

fn text<T>(result: Result<T>) -> String {
    result.err().expect("succeeded").to_string()
}

#[test]
fn keys_come_from_files_and_settings_are_then_not_looked_at() {
    let folder = Folder::new("files");
    let key = key();
    let public = folder.write("public", &key.public().to_pem().unwrap());
    let private = folder.write("private", &key.to_pem(None).unwrap());
    let mut keys = fs_keys(&format!(
        "public_key_path={public}:private_key_path={private}:posix:"
    ));
    assert_eq!(keys.public_key(&mut never).unwrap().id(), key.id());
    for id in [key.id(), key.old_id().unwrap()] {
        let found = keys.private_key(&[KeyId([1; 32]), id], &mut never);
        assert_eq!(found.unwrap().id(), key.id());
    }
}

#[test]
fn keys_come_from_settings_under_their_prefix() {
    let (one, two) = (key(), key());
    let mut lookup = |name: &str| {
        let value = match name {
            "p_public_key" => Some(one.public().to_dovecot()),
            "p_private_key" => Some(one.to_dovecot(Protect::None).unwrap().to_string()),
            "p_private_key2" => Some(two.to_dovecot(Protect::None).unwrap().to_string()),
            _ => None,
        };
        Ok(value.map(|v| Zeroizing::new(v.into_bytes())))
    };
    let mut keys = fs_keys("set_prefix=p:posix:");
    assert_eq!(keys.public_key(&mut lookup).unwrap().id(), one.id());
    let found = keys.private_key(&[two.id()], &mut lookup);
    assert_eq!(found.unwrap().id(), two.id());
}

#[test]
fn without_a_public_key_nothing_can_be_written() {
    let folder = Folder::new("no-public");
    let private = folder.write("private", &key().to_pem(None).unwrap());
    let mut keys = fs_keys(&format!("private_key_path={private}:posix:"));
    let error = text(keys.public_key(&mut never));
    assert!(error.contains("set public_key_path="), "{error}");
    let error = text(fs_keys("posix:").public_key(&mut nothing));
    assert!(error.contains("mail_crypt_global_public_key"), "{error}");
}

#[test]
fn an_empty_setting_is_named_and_stops_no_reading_where_it_is_for_writing() {
    let key = key();
    let private = key.to_dovecot(Protect::None).unwrap();
    let with = |empty: &'static str| {
        let private = private.to_string();
        move |name: &str| {
            let value = match name {
                name if name == empty => Some(String::new()),
                "p_private_key" => Some(private.clone()),
                _ => None,
            };
            Ok(value.map(|v| Zeroizing::new(v.into_bytes())))
        }
    };
    let mut keys = fs_keys("set_prefix=p:posix:");
    let mut lookup = with("p_public_key");
    let error = text(keys.public_key(&mut lookup));
    assert!(error.contains("p_public_key is set, but empty"), "{error}");
    assert!(keys.private_key(&[key.id()], &mut lookup).is_ok());
    for empty in ["p_private_key", "p_private_key2"] {
        let mut keys = fs_keys("set_prefix=p:posix:");
        let error = text(keys.private_key(&[key.id()], &mut with(empty)));
        assert!(
            error.contains(&format!("{empty} is set, but empty")),
            "{error}"
        );
    }
}

#[test]
fn a_private_key_of_another_id_is_no_key() {
    let mut keys = fs_keys("posix:");
    let id = KeyId([7; 32]);
    let error = keys.private_key(&[id], &mut nothing).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoKey);
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    assert!(error.to_string().contains("mail_crypt_global_private_key"));
}

#[test]
fn settings_that_cannot_be_read_are_not_settings_that_are_missing() {
    let mut lookup = |_: &str| Err(Error::store("the config process is away"));
    let error = fs_keys("posix:").public_key(&mut lookup).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Store);
}

#[test]
fn an_error_names_the_parameter_and_no_secret() {
    let folder = Folder::new("errors");
    let locked = folder.write("locked", &key().to_pem(Some(b"hunter2")).unwrap());
    let garbage = folder.write("garbage", "hunter2");
    let long = folder.write("long", &"hunter2".repeat(10_000));
    for (args, kind, names) in [
        (
            "public_key_path=/nonexistent".into(),
            ErrorKind::Setting,
            "public_key_path=: /nonex",
        ),
        (
            "private_key_path=/nonexistent".into(),
            ErrorKind::Setting,
            "private_key_path=: /nonex",
        ),
        (
            format!("public_key_path={garbage}"),
            ErrorKind::Setting,
            "public_key_path=",
        ),
        (
            format!("private_key_path={garbage}"),
            ErrorKind::Setting,
            "private_key_path=",
        ),
        (
            format!("private_key_path={long}"),
            ErrorKind::Setting,
            "too long",
        ),
        (
            format!("private_key_path={locked}:password=letmein"),
            ErrorKind::WrongPassword,
            "password=",
        ),
    ] {
        let mut keys = fs_keys(&format!("{args}:posix:"));
        let error = keys.public_key(&mut never).err().unwrap();
        assert_eq!(error.kind(), kind, "{args}: {error}");
        let text = error.to_string();
        assert!(text.contains(names), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("letmein"),
            "{text}"
        );
    }
    let mut keys = fs_keys(&format!("private_key_path={locked}:posix:"));
    let error = text(keys.private_key(&[KeyId([0; 32])], &mut never));
    assert!(error.contains("private_key_path="), "{error}");
    let mut keys = fs_keys(&format!(
        "private_key_path={locked}:password=hunter2:posix:"
    ));
    let error = text(keys.private_key(&[KeyId([0; 32])], &mut never));
    assert!(error.contains("no private key 0000"), "{error}");
}

#[test]
fn a_replaced_key_file_is_read_again_and_a_missing_one_is_remembered() {
    let folder = Folder::new("replaced");
    let (one, two) = (key(), key());
    let path = folder.write("public", &one.public().to_pem().unwrap());
    let mut keys = fs_keys(&format!("public_key_path={path}:posix:"));
    assert_eq!(keys.public_key(&mut never).unwrap().id(), one.id());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(keys.public_key(&mut never).unwrap().id(), one.id());
    folder.write("public", &two.public().to_pem().unwrap());
    assert_eq!(keys.public_key(&mut never).unwrap().id(), two.id());
    folder.write("public", "garbage");
    assert!(keys.public_key(&mut never).is_err());
    folder.write("public", &one.public().to_pem().unwrap());
    assert_eq!(keys.public_key(&mut never).unwrap().id(), one.id());
}

#[test]
fn a_key_file_is_told_from_one_of_another_second() {
    let folder = Folder::new("second");
    let path = folder.write("key", "same");
    let stamp = |path: &str| {
        std::fs::metadata(path)
            .map(|file| Stamp::of(&file))
            .unwrap()
    };
    let before = stamp(&path);
    let mut later = stamp(&path);
    assert!(before == later);
    later.1[1].0 += 1;
    assert!(before != later);
    later.1[1].0 -= 1;
    later.1[0].0 += 1;
    assert!(before != later);
}

#[test]
fn an_algorithm_that_cannot_be_written_is_named() {
    let default = fs_keys("posix:").algorithm(&mut never).unwrap();
    assert!(default == Some(Algorithm::default()));
    let error = text(fs_keys("algo=aes-256-ctr-sha256:posix:").algorithm(&mut never));
    assert!(
        error.contains("algo=") && error.contains("aes-256-ctr"),
        "{error}"
    );
    assert!(fs_keys("algo=:posix:").algorithm(&mut never).is_err());
}

#[test]
fn settings_alone_say_what_2_4_writes_and_with_which_keys() {
    let key = key();
    let public = key.public().to_dovecot();
    let private = key.to_dovecot(Protect::None).unwrap().to_string();
    let mut written = "2";
    for (algorithm, expected) in [("chacha20-poly1305-sha256", true), ("", false)] {
        if algorithm.is_empty() {
            written = "0";
        }
        let mut lookup = |name: &str| {
            let value = match name {
                "mail_crypt_save_version" => written,
                "crypt_write_algorithm" => algorithm,
                "mail_crypt_global_public_key" => &public,
                "mail_crypt_global_private_key" => &private,
                _ => return Ok(None),
            };
            Ok(Some(Zeroizing::new(value.as_bytes().to_vec())))
        };
        let mut keys = FsKeys::of_settings(Line::V2_4);
        let found = keys.algorithm(&mut lookup).unwrap();
        assert_eq!(
            found.map(|a| a.to_string()),
            expected.then(|| algorithm.to_owned())
        );
        assert_eq!(keys.public_key(&mut lookup).unwrap().id(), key.id());
        assert!(keys.private_key(&[key.id()], &mut lookup).is_ok());
    }
}

#[test]
fn what_cant_be_asked_is_never_written_as_plaintext() {
    let mut failing = |_: &str| Err(Error::store("no answer"));
    let mut keys = FsKeys::of_settings(Line::V2_4);
    assert!(text(keys.algorithm(&mut failing)).contains("no answer"));
    assert!(text(keys.public_key(&mut failing)).contains("no answer"));
    // Nor what isn't said.
    let unset = text(keys.algorithm(&mut nothing));
    assert!(unset.contains("crypt_write_algorithm"), "{unset}");
}

#[test]
fn errors_under_2_4_name_its_settings() {
    let mut keys = FsKeys::of_settings(Line::V2_4);
    let public = text(keys.public_key(&mut nothing));
    assert!(
        public.contains("set crypt_global_public_key_file"),
        "{public}"
    );
    let private = text(keys.private_key(&[KeyId([1; 32])], &mut nothing));
    assert!(
        private.ends_with("in crypt_global_private_key"),
        "{private}"
    );
}
