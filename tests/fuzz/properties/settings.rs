//! Settings and parameters, as an administrator or userdb may have written them.

use mail_crypt_core::ErrorKind;
use mail_crypt_core::store::fs_params::FsParams;
use mail_crypt_core::store::{Line, Settings};
use mail_crypt_core::stream::Algorithm;
use zeroize::Zeroizing;

/// Any text as all of them.
pub(crate) fn any(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok((_, parent)) = FsParams::parse(text) {
        let field = text[parent..].split(':').next().unwrap();
        assert!(!field.is_empty() && !field.contains('='));
    }
    match text.parse::<Algorithm>() {
        Ok(algorithm) => {
            assert_eq!(
                algorithm.to_string().parse::<Algorithm>().unwrap(),
                algorithm
            );
        }
        Err(e) => assert_eq!(e.kind(), ErrorKind::Setting),
    }
    load(text, Line::V2_3);
    load(text, Line::V2_4);
}

/// Lines of `NAME=VALUE`. A value may have several lines as `|`, as keys in PEM do.
fn load(text: &str, line: Line) {
    // Stretching a password takes a fuzzer's time.
    if text.contains("ENCRYPTED") || text.len() > 4096 {
        return;
    }
    let mut asked = 0;
    let loaded = Settings::load(line, &mut |name| {
        asked += 1;
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = pairs.find(|(n, _)| *n == name)?;
        Some(Zeroizing::new(value.replace('|', "\n").into_bytes()))
    });
    // However many there are.
    assert!(asked < 2000);
    match loaded {
        Ok(settings) => {
            let kinds = settings
                .global_private
                .iter()
                .chain(&settings.user_key_keys);
            assert!(kinds.count() <= 128);
        }
        Err(e) => assert!(matches!(
            e.kind(),
            ErrorKind::Setting | ErrorKind::WrongPassword
        )),
    }
}
