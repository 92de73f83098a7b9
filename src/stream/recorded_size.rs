//! Sizes that Dovecot has recorded for mail that it could only see encrypted.
#![forbid(unsafe_code)]

/// Whether `recorded` may be the size that Dovecot records when it rebuilds an sdbox or mdbox file with a mail of
/// `stored` bytes of ciphertext: one for each byte, and one more for each LF without a CR. One byte of ciphertext in
/// 256 is an LF. Six standard deviations are allowed, which misses one mail in 500 million.
///
/// The mail's true size may fall into that range too: only decrypting and counting tells.
pub fn may_be_ciphertext_size(recorded: u64, stored: u64) -> bool {
    let lines = stored / 256;
    // The header's few bytes aren't random.
    let chance = 6 * (lines + 1).isqrt() + 16;
    recorded.abs_diff(stored.saturating_add(lines)) <= chance
}
