//! Sizes that Dovecot has noted of mail that it could only see encrypted.
#![forbid(unsafe_code)]

/// May `recorded` be what Dovecot notes as a mail's size when it mends the sdbox or mdbox file in which `stored` bytes of
/// ciphertext lie? That is one byte for each, and another for each LF without a CR. One byte of ciphertext in 256 is
/// an LF, give or take chance: up to six standard deviations, which is one mail in 500 million that is missed.
///
/// A mail's own size may lie there, too: whoever asks has to count.
pub fn may_be_ciphertext_size(recorded: u64, stored: u64) -> bool {
    let lines = stored / 256;
    // The header's few bytes aren't random.
    let chance = 6 * (lines + 1).isqrt() + 16;
    recorded.abs_diff(stored.saturating_add(lines)) <= chance
}
