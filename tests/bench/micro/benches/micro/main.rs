//! Times of the core's parts alone.
#![forbid(unsafe_code)]

mod keys;
mod opening;
mod streams;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, streams::streams, opening::opening, keys::keys);
criterion_main!(benches);
