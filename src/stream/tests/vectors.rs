//! What real Dovecots wrote; `tests/vectors/streams/README.md` says how.

use super::*;
use std::fs;
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

fn plaintext() -> Vec<u8> {
    fs::read(folder("streams/plain")).unwrap()
}

/// Name, recipient's key and content of each file.
fn files() -> Vec<(String, PrivateKey, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder("streams")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "plain" || [".md", ".sh", ".c"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let key = name.split('.').next().unwrap();
        let key = fs::read_to_string(folder("keys").join(format!("{key}.pem"))).unwrap();
        let key = PrivateKey::parse_setting(&key, None).unwrap();
        all.push((name, key, fs::read(path).unwrap()));
    }
    all
}

#[test]
fn what_dovecot_wrote_is_read() {
    let plain = plaintext();
    let files = files();
    for (name, key, file) in &files {
        let bytes: Vec<&[u8]> = file.chunks(1).collect();
        for limits in [SMALL, LARGE] {
            let read = |pieces: &[&[u8]]| {
                open_pieces(key, limits, pieces, &mut SecretCache::default())
                    .unwrap_or_else(|e| panic!("{name}: {e}"))
            };
            assert_eq!(read(&[file]), plain, "{name}");
            assert_eq!(read(&bytes), plain, "{name}");
        }
    }
    assert!(files.len() > 70, "{} files", files.len());
}

#[test]
fn what_dovecot_wrote_is_never_served_changed() {
    let plain = plaintext();
    for (name, key, file) in files() {
        if name.contains("none-") || name.contains("mail-v1") {
            continue; // nothing proves these
        }
        for back in [1, 17, 100, 400] {
            let mut bad = file.clone();
            let at = bad.len() - back;
            bad[at] ^= 0x20;
            for limits in [SMALL, LARGE] {
                let found = kind(open(&key, limits, &bad));
                assert_eq!(found, ErrorKind::Tampered, "{name} -{back}");
            }
        }
        let more = [&file[..], b"x"].concat();
        assert!(open(&key, SMALL, &more).is_err(), "{name}");
        assert!(file.len() > plain.len());
    }
}

#[test]
fn what_dovecot_wrote_has_the_fields_that_are_known_of_it() {
    for (name, _, file) in files() {
        let len = crate::format::stream::header_len(&file).unwrap().unwrap();
        let header = Header::parse(&file[..len]).unwrap();
        assert_eq!(header.write().unwrap(), file[..len], "{name}");
        let expected = match name.split_once('.').unwrap().1 {
            "mail-v1" => (Version::V1, Integrity::None, 0),
            "mail-24-chacha" | "lib-24-same-cbc" => (Version::V2, Integrity::Hmac, 2048),
            how if how.contains("none-") => (Version::V2, Integrity::None, 2048),
            how if how.contains("gcm") || how.contains("24") || how == "mail-v2" => {
                (Version::V2, Integrity::Aead, 2048)
            }
            _ => (Version::V2, Integrity::Hmac, 2048),
        };
        let found = (header.version, header.integrity, header.rounds);
        assert_eq!(found, expected, "{name}");
        assert_eq!(header.same_cipher, name.contains("same"), "{name}");
    }
}
