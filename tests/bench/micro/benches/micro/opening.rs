//! Opening a mail of 2 KB, by kind of key, by who wrote it, and by what is remembered.
#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::Criterion;
use mail_crypt_core::key::{KeyType, PrivateKey};
use mail_crypt_core::store::index_cache;
use mail_crypt_core::stream::{Algorithm, Body, Opener, SecretCache};
use mail_crypt_micro_bench::{Writer, file, mail, open, open_with};

const KEYS: [(&str, &str); 5] = [
    ("P-256", include_str!("../../../../vectors/keys/p256.plain")),
    ("P-384", include_str!("../../../../vectors/keys/p384.plain")),
    ("P-521", include_str!("../../../../vectors/keys/p521.plain")),
    (
        "X25519",
        include_str!("../../../../vectors/keys/x25519.plain"),
    ),
    (
        "RSA-2048",
        include_str!("../../../../vectors/keys/rsa.plain"),
    ),
];
const SIZE: usize = 2 << 10;

fn served(body: &Body) -> usize {
    match body {
        Body::Small(plain) => plain.len(),
        Body::Large(_) => 0,
    }
}

/// All of them.
pub fn opening(c: &mut Criterion) {
    for (name, text) in KEYS {
        let key = PrivateKey::parse_setting(text, None).expect("key");
        let write = |writer| file(&mail(SIZE), &key, &Algorithm::default(), writer).expect("file");
        let ours = write(Writer::Ours);
        let mut group = c.benchmark_group(format!("open, {name}"));

        for (writer, sealed) in [
            (Writer::Ours, &ours),
            (Writer::Packaged, &write(Writer::Packaged)),
        ] {
            // RSA has neither rounds nor a secret to remember.
            if key.key_type() == KeyType::Rsa && writer == Writer::Packaged {
                continue;
            }
            let mut nothing = SecretCache::new(0);
            let opened = open_with(sealed, &key, &mut nothing).expect("open");
            assert_eq!(served(&opened), SIZE);
            group.bench_function(format!("first time, written by {writer}"), |b| {
                b.iter(|| open_with(black_box(sealed), &key, &mut nothing).expect("open"));
            });
        }
        if key.key_type() != KeyType::Rsa {
            let mut secrets = SecretCache::default();
            open_with(&ours, &key, &mut secrets).expect("open");
            group.bench_function("secret remembered", |b| {
                b.iter(|| open_with(black_box(&ours), &key, &mut secrets).expect("open"));
            });
            assert_eq!(secrets.misses(), 1);
        }

        let secret = index_cache::derive(&key).expect("derive");
        let (mut header, mut content) = ([0; 32], None);
        let keep = |opener: &mut Opener| {
            header = opener.header_hash()?;
            opener.unlock(&key, &mut SecretCache::new(0))?;
            content = opener.content_key().cloned();
            Ok(())
        };
        open(&ours, keep).expect("open");
        let content = content.expect("content key");
        let entry = index_cache::seal_content_key(&secret, &header, &content).expect("seal");
        group.bench_function("content key from the index cache", |b| {
            b.iter(|| {
                let unlock = |opener: &mut Opener| {
                    let header = opener.header_hash()?;
                    let block =
                        index_cache::open_content_key(&secret, &header, &entry).expect("entry");
                    opener.unlock_with_block(&block)
                };
                open(black_box(&ours), unlock).expect("open")
            });
        });
        group.finish();
    }
}
