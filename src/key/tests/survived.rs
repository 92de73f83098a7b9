//! Random and mutated input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn any_vector() -> impl Strategy<Value = String> {
    let names: Vec<String> =
        std::fs::read_dir(format!("{}/tests/vectors/keys", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.contains("rsa") && name != "README.md")
            .collect();
    prop::sample::select(names).prop_map(|name| vector(&name))
}

/// Whatever text is given: an answer, and never the wrong key.
fn try_all(text: &str) {
    if let Ok(public) = PublicKey::parse(text) {
        public.agree_ephemeral().unwrap();
    }
    if let Ok(stored) = StoredKey::parse(text) {
        for unlocked in [
            stored.unlock(),
            stored.unlock_with_password(PASSWORD),
            stored.unlock_with_key(&plain("p256")),
        ]
        .into_iter()
        .flatten()
        {
            assert!(stored.id().is_none_or(|id| unlocked.matches(&id)));
        }
    }
    let _ = PrivateKey::parse_setting(text, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_text_is_survived(text: String) {
        try_all(&text);
        try_all(&format!("2:{text}"));
        try_all(&format!("1\t{text}"));
    }

    #[test]
    fn mutated_strings_are_survived(
        text in any_vector(),
        at: prop::sample::Index,
        len in 0..6usize,
        with in prop_oneof!["[0-9a-f]{0,6}", "[:\t0-9]{0,3}", ".{0,2}"],
    ) {
        let at = at.index(text.len() + 1);
        let end = (at + len).min(text.len());
        if text.is_char_boundary(at) && text.is_char_boundary(end) {
            let mut text = text;
            text.replace_range(at..end, &with);
            try_all(&text);
        }
    }

    #[test]
    fn mutated_der_is_survived(at: prop::sample::Index, bits in 1..=255u8, which in 0..6usize) {
        let text = vector(&format!("{}.pem", KEYS[which]));
        let block = crate::format::pem::first(&text, &[]).unwrap();
        let mut der = block.data.to_vec();
        let at = at.index(der.len());
        der[at] ^= bits;
        try_all(&crate::format::pem::write("PRIVATE KEY", &der));
        try_all(&crate::format::pem::write("EC PRIVATE KEY", &der));
        try_all(&crate::format::pem::write("ENCRYPTED PRIVATE KEY", &der));
    }
}
