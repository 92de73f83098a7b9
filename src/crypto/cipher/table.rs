//! The ciphers that a stream can have been written with.
#![forbid(unsafe_code)]

use super::Mode;

/// One cipher.
pub(super) struct Row {
    /// libcrypto's name in lower case: the spelling of settings and key strings.
    pub name: &'static str,
    /// DER object identifier; empty for what a stream can't name.
    pub oid: &'static [u8],
    pub mode: Mode,
    /// Key size in bytes.
    pub key: usize,
    /// IV size in bytes.
    pub iv: usize,
    /// What decrypts from the middle: the bare counter or chaining mode.
    pub bare: &'static str,
}

const fn row(
    name: &'static str,
    oid: &'static [u8],
    mode: Mode,
    key: usize,
    iv: usize,
    bare: &'static str,
) -> Row {
    Row {
        name,
        oid,
        mode,
        key,
        iv,
        bare,
    }
}

/// DER of 2.16.840.1.101.3.4.1.`n` (NIST's AES modes).
const fn aes(n: u8) -> [u8; 11] {
    [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, n]
}

/// DER of 1.2.392.200011.61.1.1.1.`n` (Camellia CBC).
const fn camellia_cbc(n: u8) -> [u8; 13] {
    [6, 11, 0x2a, 0x83, 8, 0x8c, 0x9a, 0x4b, 0x3d, 1, 1, 1, n]
}

/// DER of 0.3.4401.5.3.1.9.`n` (Camellia's other modes).
const fn camellia(n: u8) -> [u8; 10] {
    [6, 8, 3, 0xa2, 0x31, 5, 3, 1, 9, n]
}

/// DER of 1.2.410.200046.1.1.`n` (ARIA).
const fn aria(n: u8) -> [u8; 11] {
    [6, 9, 0x2a, 0x83, 0x1a, 0x8c, 0x9a, 0x6e, 1, 1, n]
}

/// DER of 1.2.156.10197.1.104.`n` (SM4).
const fn sm4(n: u8) -> [u8; 10] {
    [6, 8, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 1, 0x68, n]
}

/// Every cipher that the packaged plugin can write on a current libcrypto, and some of the same
/// families. Not here: what it writes but can't always read back (XTS), and what only the
/// legacy provider has. AES-CTR has no object identifier: it is for key strings and version 1.
#[rustfmt::skip]
pub(super) const TABLE: [Row; 49] = [
    row("aes-256-gcm", &aes(46), Mode::Gcm, 32, 12, "aes-256-ctr"),
    row("aes-256-ctr", &[], Mode::Ctr, 32, 16, "aes-256-ctr"),
    row("aes-256-cbc", &aes(42), Mode::Cbc, 32, 16, "aes-256-cbc"),
    // 1.2.840.113549.1.9.16.3.18 (RFC 8103). No libcrypto has it; Dovecot 2.4 brings it along.
    row("chacha20-poly1305",
        &[6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 3, 18],
        Mode::ChaChaPoly, 32, 12, "chacha20"),
    // Not a cipher of streams: the bare keystream of chacha20-poly1305. Its IV is a
    // little-endian u32 counter and the 12 nonce bytes.
    row("chacha20", &[], Mode::Ctr, 32, 16, "chacha20"),
    row("aes-128-gcm", &aes(6), Mode::Gcm, 16, 12, "aes-128-ctr"),
    row("aes-128-ctr", &[], Mode::Ctr, 16, 16, "aes-128-ctr"),
    row("aes-128-cbc", &aes(2), Mode::Cbc, 16, 16, "aes-128-cbc"),
    row("aes-192-gcm", &aes(26), Mode::Gcm, 24, 12, "aes-192-ctr"),
    row("aes-192-ctr", &[], Mode::Ctr, 24, 16, "aes-192-ctr"),
    row("aes-192-cbc", &aes(22), Mode::Cbc, 24, 16, "aes-192-cbc"),
    row("aes-128-cfb", &aes(4), Mode::Cfb, 16, 16, "aes-128-cfb"),
    row("aes-128-ofb", &aes(3), Mode::Ofb, 16, 16, "aes-128-ofb"),
    row("aes-192-cfb", &aes(24), Mode::Cfb, 24, 16, "aes-192-cfb"),
    row("aes-192-ofb", &aes(23), Mode::Ofb, 24, 16, "aes-192-ofb"),
    row("aes-256-cfb", &aes(44), Mode::Cfb, 32, 16, "aes-256-cfb"),
    row("aes-256-ofb", &aes(43), Mode::Ofb, 32, 16, "aes-256-ofb"),
    row("camellia-128-cbc", &camellia_cbc(2), Mode::Cbc, 16, 16, "camellia-128-cbc"),
    row("camellia-128-ctr", &camellia(9), Mode::Ctr, 16, 16, "camellia-128-ctr"),
    row("camellia-128-cfb", &camellia(4), Mode::Cfb, 16, 16, "camellia-128-cfb"),
    row("camellia-128-ofb", &camellia(3), Mode::Ofb, 16, 16, "camellia-128-ofb"),
    row("camellia-192-cbc", &camellia_cbc(3), Mode::Cbc, 24, 16, "camellia-192-cbc"),
    row("camellia-192-ctr", &camellia(29), Mode::Ctr, 24, 16, "camellia-192-ctr"),
    row("camellia-192-cfb", &camellia(24), Mode::Cfb, 24, 16, "camellia-192-cfb"),
    row("camellia-192-ofb", &camellia(23), Mode::Ofb, 24, 16, "camellia-192-ofb"),
    row("camellia-256-cbc", &camellia_cbc(4), Mode::Cbc, 32, 16, "camellia-256-cbc"),
    row("camellia-256-ctr", &camellia(49), Mode::Ctr, 32, 16, "camellia-256-ctr"),
    row("camellia-256-cfb", &camellia(44), Mode::Cfb, 32, 16, "camellia-256-cfb"),
    row("camellia-256-ofb", &camellia(43), Mode::Ofb, 32, 16, "camellia-256-ofb"),
    row("aria-128-gcm", &aria(34), Mode::Gcm, 16, 12, "aria-128-ctr"),
    row("aria-128-cbc", &aria(2), Mode::Cbc, 16, 16, "aria-128-cbc"),
    row("aria-128-ctr", &aria(5), Mode::Ctr, 16, 16, "aria-128-ctr"),
    row("aria-128-cfb", &aria(3), Mode::Cfb, 16, 16, "aria-128-cfb"),
    row("aria-128-ofb", &aria(4), Mode::Ofb, 16, 16, "aria-128-ofb"),
    row("aria-192-gcm", &aria(35), Mode::Gcm, 24, 12, "aria-192-ctr"),
    row("aria-192-cbc", &aria(7), Mode::Cbc, 24, 16, "aria-192-cbc"),
    row("aria-192-ctr", &aria(10), Mode::Ctr, 24, 16, "aria-192-ctr"),
    row("aria-192-cfb", &aria(8), Mode::Cfb, 24, 16, "aria-192-cfb"),
    row("aria-192-ofb", &aria(9), Mode::Ofb, 24, 16, "aria-192-ofb"),
    row("aria-256-gcm", &aria(36), Mode::Gcm, 32, 12, "aria-256-ctr"),
    row("aria-256-cbc", &aria(12), Mode::Cbc, 32, 16, "aria-256-cbc"),
    row("aria-256-ctr", &aria(15), Mode::Ctr, 32, 16, "aria-256-ctr"),
    row("aria-256-cfb", &aria(13), Mode::Cfb, 32, 16, "aria-256-cfb"),
    row("aria-256-ofb", &aria(14), Mode::Ofb, 32, 16, "aria-256-ofb"),
    row("sm4-cbc", &sm4(2), Mode::Cbc, 16, 16, "sm4-cbc"),
    row("sm4-ctr", &sm4(7), Mode::Ctr, 16, 16, "sm4-ctr"),
    row("sm4-cfb", &sm4(4), Mode::Cfb, 16, 16, "sm4-cfb"),
    row("sm4-ofb", &sm4(3), Mode::Ofb, 16, 16, "sm4-ofb"),
    row("des-ede3-cbc",
        &[6, 8, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 3, 7],
        Mode::Cbc, 24, 8, "des-ede3-cbc"),
];
