//! Encrypting and decrypting, by size and algorithm.
#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use mail_crypt_core::key::PrivateKey;
use mail_crypt_core::stream::{Algorithm, Encryptor, SecretCache, Sender, Version};
use mail_crypt_micro_bench::{PIECE, Writer, file, mail, open_with, serve};

const ALGORITHMS: [&str; 3] = [
    "aes-256-gcm-sha256",
    "chacha20-poly1305-sha256",
    "aes-256-cbc-sha256",
];
const SIZES: [(&str, usize); 3] = [("2 KB", 2 << 10), ("1 MB", 1 << 20), ("50 MB", 50 << 20)];

/// What a connection that delivers many mails to one folder does for each.
fn encrypt(plain: &[u8], algorithm: &Algorithm, sender: &mut Sender, out: &mut Vec<u8>) -> usize {
    let mut encryptor = Encryptor::new(algorithm, Version::V2, sender).expect("encryptor");
    let mut written = 0;
    for piece in plain.chunks(PIECE) {
        out.clear();
        encryptor.update(piece, out).expect("update");
        written += out.len();
    }
    out.clear();
    encryptor.finish(out).expect("finish");
    written + out.len()
}

/// All of them.
pub fn streams(c: &mut Criterion) {
    let key = PrivateKey::generate("prime256v1").expect("key");
    for name in ALGORITHMS {
        let algorithm: Algorithm = name.parse().expect("algorithm");
        for (size_name, size) in SIZES {
            let plain = mail(size);
            let sealed = file(&plain, &key, &algorithm, Writer::Ours).expect("file");
            let mut room = Vec::with_capacity(PIECE + 1024);
            let mut sender = Sender::new(key.public());
            let mut secrets = SecretCache::default();
            let mut group = c.benchmark_group(name);
            group.throughput(Throughput::Bytes(size as u64));
            if size > PIECE {
                group.sampling_mode(SamplingMode::Flat);
            }
            group.bench_function(BenchmarkId::new("encrypt", size_name), |b| {
                b.iter(|| encrypt(black_box(&plain), &algorithm, &mut sender, &mut room));
            });
            group.bench_function(BenchmarkId::new("check and decrypt", size_name), |b| {
                b.iter(|| {
                    let opened = open_with(black_box(&sealed), &key, &mut secrets).expect("open");
                    serve(&sealed, &opened, &mut room).expect("serve")
                });
            });
            if size > PIECE {
                let opened = open_with(&sealed, &key, &mut secrets).expect("open");
                assert_eq!(serve(&sealed, &opened, &mut room).expect("serve"), size);
                group.bench_function(BenchmarkId::new("check", size_name), |b| {
                    b.iter(|| open_with(black_box(&sealed), &key, &mut secrets).expect("open"));
                });
                group.bench_function(
                    BenchmarkId::new("decrypt what was checked", size_name),
                    |b| {
                        b.iter(|| serve(black_box(&sealed), &opened, &mut room).expect("serve"));
                    },
                );
            }
            group.finish();
        }
    }
}
