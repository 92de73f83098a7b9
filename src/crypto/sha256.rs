//! SHA-256 by single blocks: hashes, HMAC, PBKDF2 and the iterated key-block hash of the stream format.
//!
//! Its blocks and states are wiped: they hold keys. The `sha2` crate's own hasher keeps its last block.
#![forbid(unsafe_code)]

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;
use sha2::digest::typenum::U64;
use zeroize::{Zeroize, Zeroizing};

type Block = GenericArray<u8, U64>;

const BLOCK: usize = 64;
const SIZE: usize = 32;
const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// One more block into `state`.
fn compress(state: &mut [u32; 8], block: &Block) {
    compress256(state, std::slice::from_ref(block));
}

/// Writes a state as the 32 digest bytes.
fn store(out: &mut [u8], state: &[u32; 8]) {
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

/// A block that holds a message's end of `len` bytes, with SHA-256's padding after it; `before`
/// bytes were hashed in earlier blocks. `len` is at most 55, so that the length fits.
fn padded(len: usize, before: usize) -> Block {
    let mut block = Block::default();
    block[len] = 0x80;
    let bits = ((before + len) as u64) * 8;
    block[BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
    block
}

/// SHA-256 over the concatenation of `parts`.
pub(super) fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut state = IV;
    let mut block = Block::default();
    let (mut filled, mut len) = (0, 0);
    for mut part in parts.iter().copied() {
        len += part.len() as u64;
        while filled + part.len() >= BLOCK {
            let (now, later) = part.split_at(BLOCK - filled);
            block[filled..].copy_from_slice(now);
            compress(&mut state, &block);
            (filled, part) = (0, later);
        }
        block[filled..filled + part.len()].copy_from_slice(part);
        filled += part.len();
    }
    block[filled..].fill(0);
    block[filled] = 0x80;
    if filled >= BLOCK - 8 {
        compress(&mut state, &block);
        block.fill(0);
    }
    block[BLOCK - 8..].copy_from_slice(&(len * 8).to_be_bytes());
    compress(&mut state, &block);
    let mut out = vec![0; SIZE];
    store(&mut out, &state);
    block.zeroize();
    state.zeroize();
    out
}

/// The two halves of an HMAC key schedule: the states after the inner and the outer pad.
struct Pads {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Drop for Pads {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

impl Pads {
    fn new(key: &[u8]) -> Self {
        let mut block = Block::default();
        if key.len() > BLOCK {
            block[..SIZE].copy_from_slice(&Zeroizing::new(hash(&[key])));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let (mut inner, mut outer) = (IV, IV);
        block.iter_mut().for_each(|b| *b ^= 0x36);
        compress(&mut inner, &block);
        block.iter_mut().for_each(|b| *b ^= 0x36 ^ 0x5c);
        compress(&mut outer, &block);
        block.zeroize();
        Pads { inner, outer }
    }

    /// HMAC over the concatenation of `parts`, of which nothing is secret.
    fn mac(&self, parts: &[&[u8]]) -> [u32; 8] {
        let mut tail = parts.concat();
        let bits = ((BLOCK + tail.len()) as u64) * 8;
        tail.push(0x80);
        while tail.len() % BLOCK != BLOCK - 8 {
            tail.push(0);
        }
        tail.extend_from_slice(&bits.to_be_bytes());
        let mut state = self.inner;
        for block in tail.chunks_exact(BLOCK) {
            compress(&mut state, Block::from_slice(block));
        }
        let mut block = padded(SIZE, BLOCK);
        store(&mut block[..SIZE], &state);
        let mut out = self.outer;
        compress(&mut out, &block);
        block.zeroize();
        state.zeroize();
        out
    }
}

/// HMAC-SHA256 under `key` over the concatenation of `parts`, of which nothing is secret.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0; SIZE];
    let mut mac = Pads::new(key).mac(parts);
    store(&mut out, &mac);
    mac.zeroize();
    out
}

/// One output block of PBKDF2 in the making.
struct Chain {
    /// The last HMAC, with the padding that both halves of the next one need.
    block: Block,
    sum: [u32; 8],
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.block.zeroize();
        self.sum.zeroize();
    }
}

impl Chain {
    fn new(pads: &Pads, salt: &[u8], index: u32) -> Self {
        let sum = pads.mac(&[salt, &index.to_be_bytes()]);
        let mut block = padded(SIZE, BLOCK);
        store(&mut block[..SIZE], &sum);
        Chain { block, sum }
    }

    /// One half of an HMAC over the 32 bytes in `block`, back into `block`.
    fn half(&mut self, pad: &[u32; 8]) -> [u32; 8] {
        let mut state = *pad;
        compress(&mut state, &self.block);
        store(&mut self.block[..SIZE], &state);
        state
    }

    fn add(&mut self, state: &[u32; 8]) {
        self.sum.iter_mut().zip(state).for_each(|(a, b)| *a ^= b);
    }
}

/// PBKDF2-HMAC-SHA256 into `out`; `rounds` >= 1.
pub(super) fn pbkdf2(secret: &[u8], salt: &[u8], rounds: u32, out: &mut [u8]) {
    let pads = Pads::new(secret);
    let mut index = 1;
    // The stream format wants 48 bytes, two output blocks. Their chains don't depend on each
    // other: taken in turns, the CPU overlaps the latency of one with the work of the other.
    for pair in out.chunks_mut(2 * SIZE) {
        let mut a = Chain::new(&pads, salt, index);
        if pair.len() <= SIZE {
            for _ in 1..rounds {
                a.half(&pads.inner);
                let state = a.half(&pads.outer);
                a.add(&state);
            }
            write(pair, &a);
            break;
        }
        let mut b = Chain::new(&pads, salt, index + 1);
        for _ in 1..rounds {
            a.half(&pads.inner);
            b.half(&pads.inner);
            let state_a = a.half(&pads.outer);
            let state_b = b.half(&pads.outer);
            a.add(&state_a);
            b.add(&state_b);
        }
        let (first, second) = pair.split_at_mut(SIZE);
        write(first, &a);
        write(second, &b);
        index += 2;
    }
}

fn write(out: &mut [u8], chain: &Chain) {
    let mut bytes = [0; SIZE];
    store(&mut bytes, &chain.sum);
    out.copy_from_slice(&bytes[..out.len()]);
    bytes.zeroize();
}

/// h0 = SHA-256(block), h(i) = SHA-256(h(i-1) || u32 i), i = 1..=`count`.
pub(super) fn iterated(block: &[u8], count: u32) -> Vec<u8> {
    let mut h = hash(&[block]);
    let mut buf = padded(SIZE + 4, 0);
    buf[..SIZE].copy_from_slice(&h);
    for i in 1..=count {
        buf[SIZE..SIZE + 4].copy_from_slice(&i.to_be_bytes());
        let mut state = IV;
        compress(&mut state, &buf);
        store(&mut buf[..SIZE], &state);
    }
    h.copy_from_slice(&buf[..SIZE]);
    buf.zeroize();
    h
}
