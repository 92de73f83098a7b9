//! Parsing and unlocking a P-256 key's string, as both plugins write it.
#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::Criterion;
use mail_crypt_core::Result;
use mail_crypt_core::key::{PASSWORD_ROUNDS, PrivateKey, Protect, StoredKey};

/// What the packaged plugin wrote.
macro_rules! stored {
    ($name:literal) => {
        include_str!(concat!("../../../../vectors/keys/", $name))
    };
}

const PASSWORD: &[u8] = "sw0rdfish käse".as_bytes();

/// All of them.
pub fn keys(c: &mut Criterion) {
    let key = PrivateKey::parse_setting(stored!("p256.plain"), None).expect("key");
    let mut group = c.benchmark_group("unlock a key");
    let mut bench = |name: &str, text: &str, unlock: &dyn Fn(&StoredKey) -> Result<PrivateKey>| {
        let run = |text: &str| unlock(&StoredKey::parse(text)?);
        assert_eq!(run(text).expect("unlock").id(), key.id());
        group.bench_function(name, |b| b.iter(|| run(black_box(text)).expect("unlock")));
    };

    bench(
        "that is not protected",
        stored!("p256.plain"),
        &StoredKey::unlock,
    );

    let with_password = |stored: &StoredKey| stored.unlock_with_password(PASSWORD);
    let packaged = stored!("p256.password");
    bench(
        "under a password, 2048 rounds (packaged)",
        packaged,
        &with_password,
    );
    let ours = key.to_dovecot(Protect::password(PASSWORD)).expect("string");
    let name = format!("under a password, {PASSWORD_ROUNDS} rounds (ours)");
    bench(&name, &ours, &with_password);

    for (kind, packaged, other) in [
        ("P-256", stored!("p256.under-p256"), &key),
        (
            "RSA-2048",
            stored!("p256.under-rsa"),
            &PrivateKey::parse_setting(stored!("rsa.plain"), None).expect("key"),
        ),
    ] {
        let with_key = |stored: &StoredKey| stored.unlock_with_key(other);
        bench(
            &format!("under a {kind} key, 2048 rounds (packaged)"),
            packaged,
            &with_key,
        );
        let ours = key
            .to_dovecot(Protect::Key(&other.public()))
            .expect("string");
        bench(
            &format!("under a {kind} key, 1 round (ours)"),
            &ours,
            &with_key,
        );
    }
    group.finish();
}
