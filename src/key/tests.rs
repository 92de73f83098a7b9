#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::string_slice)]

mod made;
mod refused;
mod slots;
mod spki;
mod survived;

mod written_by_dovecot;

use super::*;
use crate::crypto::SecretText;
use crate::format::base64;

const PASSWORD: &[u8] = "sw0rdfish käse".as_bytes();
const KEYS: [&str; 7] = ["p256", "p384", "p521", "x25519", "x448", "sect571k1", "rsa"];
const V1_KEYS: [&str; 3] = ["v1-p256", "v1-p521", "v1-p256short"];
/// Curves that keys are made on, as far as tests loop over them.
const CURVES: [&str; 5] = ["prime256v1", "secp384r1", "secp521r1", "X25519", "X448"];

/// A file of tests/vectors/keys, see the README there.
fn vector(name: &str) -> String {
    let path = format!("{}/tests/vectors/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn exists(name: &str) -> bool {
    std::fs::exists(format!(
        "{}/tests/vectors/keys/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

/// Key id and old key id that Dovecot printed.
fn ids(key: &str) -> (KeyId, Option<KeyId>) {
    let text = vector(&format!("{key}.ids"));
    let (id, old) = text.trim().split_once('\n').unwrap();
    let old = old.strip_prefix("old ").unwrap();
    (
        id.strip_prefix("id ").unwrap().parse().unwrap(),
        old.parse().ok(),
    )
}

fn plain(key: &str) -> PrivateKey {
    PrivateKey::parse_setting(&vector(&format!("{key}.plain")), None).unwrap()
}

fn one_line(text: &str) -> String {
    let mut out = SecretText::default();
    base64::push_lines(&mut out, text.as_bytes());
    out.finish().replace('\n', "")
}

fn hex_password() -> String {
    hex::encode(PASSWORD)
}

fn kind_of<T>(result: Result<T>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("must fail"),
        Err(e) => (e.kind(), e.to_string()),
    }
}
