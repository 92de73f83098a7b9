//! Codes that people keep on paper: 128 random bits in Crockford's base32.
//!
//! 26 digits for the bits, and two check digits, in groups of four: `7ZQ2-..`. What people mistake for one another
//! is read as what was meant, and a mistyped code is told from a wrong one.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use crate::crypto::digest::Digest;
use crate::crypto::{Secret, SecretText, ct_eq};
use crate::error::{Error, Result};

/// Bytes of a code's secret.
pub const BYTES: usize = 16;
/// Digits for [`BYTES`]: the last one has two bits to spare, which are zero.
const DATA: usize = 26;
/// Digits that tell a mistyped code.
const CHECK: usize = 2;
const DIGITS: usize = DATA + CHECK;
const GROUP: usize = 4;
/// The longest text that is looked at, in bytes: one separator after each digit.
const MAX_TEXT: usize = 2 * DIGITS;

/// What the check digits are made from, so that they say nothing about any other hash of the secret.
const LABEL: &[u8] = b"mail_crypt code 1";

/// The code of `secret`.
///
/// # Errors
/// Internal for a secret that hasn't [`BYTES`] bytes; as libcrypto.
pub fn write(secret: &[u8]) -> Result<Zeroizing<String>> {
    if secret.len() != BYTES {
        return Err(Error::internal("a code of a wrong size"));
    }
    let mut digits = values(secret);
    digits.extend_from_slice(&check(secret)?);
    let mut text = SecretText::with_capacity(DIGITS + DIGITS / GROUP);
    for (number, group) in digits.chunks(GROUP).enumerate() {
        if number > 0 {
            text.push_str("-");
        }
        for value in group {
            text.push_str(char::from(digit(*value)).encode_utf8(&mut [0; 4]));
        }
    }
    Ok(text.finish())
}

/// The secret of a code; `None` for a text that isn't like one.
///
/// # Errors
/// Corrupt where it is like one, but mistyped.
pub fn read(text: &[u8]) -> Result<Option<Secret>> {
    if text.len() > MAX_TEXT {
        return Ok(None);
    }
    let mut digits = Secret::with_capacity(MAX_TEXT);
    for byte in text.iter().filter(|b| !matches!(b, b'-' | b' ')) {
        match value(*byte) {
            Some(value) => digits.push(value),
            None => return Ok(None),
        }
    }
    if digits.len() != DIGITS {
        return Ok(None);
    }
    let mistyped = || Error::corrupt("the code is mistyped");
    let (data, given) = digits.split_at_checked(DATA).ok_or_else(mistyped)?;
    let (secret, spare) = bytes(data);
    if spare != 0 || !ct_eq(&check(&secret)?, given) {
        return Err(mistyped());
    }
    Ok(Some(secret))
}

fn check(secret: &[u8]) -> Result<Secret> {
    let hash = Secret::new(Digest::Sha256.hash(&[LABEL, secret])?);
    Ok(values(&hash).iter().take(CHECK).copied().collect())
}

/// `data` in groups of five bits, padded with zeros.
fn values(data: &[u8]) -> Secret {
    let mut values = Secret::with_capacity(data.len() * 8 / 5 + 1);
    let (mut bits, mut count) = (0u32, 0);
    for byte in data {
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            values.push((bits >> count) as u8 & 31);
        }
    }
    if count > 0 {
        values.push((bits << (5 - count)) as u8 & 31);
    }
    values
}

/// The bytes in groups of five bits, and the bits that are left.
fn bytes(values: &[u8]) -> (Secret, u32) {
    let mut data = Secret::with_capacity(BYTES);
    let (mut bits, mut count) = (0u32, 0);
    for value in values {
        bits = (bits << 5) | u32::from(*value);
        count += 5;
        if count >= 8 {
            count -= 8;
            data.push((bits >> count) as u8);
        }
        bits &= (1 << count) - 1;
    }
    (data, bits)
}

/// Crockford's digit: neither I, L, O nor U. Without a look-up that depends on the secret.
fn digit(value: u8) -> u8 {
    let beyond = |limit: u8| u8::from(value > limit);
    b'0' + value + 7 * beyond(9) + beyond(17) + beyond(19) + beyond(21) + beyond(26)
}

/// What a digit of either case stands for, in a time that doesn't depend on it.
fn value(byte: u8) -> Option<u8> {
    let byte = match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        byte => byte,
    };
    let mut found = 0;
    for value in 0..32 {
        found |= (value + 1) * u8::from(digit(value) == byte);
    }
    found.checked_sub(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const SECRET: [u8; 16] = *b"\x00\x01\xfe\xffmail_crypt!!";

    #[test]
    fn a_code_is_read_as_it_was_written() {
        let code = write(&SECRET).unwrap();
        assert_eq!(code.len(), 34);
        assert!(code.split('-').all(|group| group.len() == 4));
        assert_eq!(*read(code.as_bytes()).unwrap().unwrap(), SECRET);
        let all = (0..=255).map(|byte| [byte; BYTES]);
        for secret in all {
            let code = write(&secret).unwrap();
            assert_eq!(*read(code.as_bytes()).unwrap().unwrap(), secret);
        }
        assert!(write(&SECRET[1..]).is_err());
    }

    #[test]
    fn what_people_write_instead_is_read() {
        let code = write(&SECRET).unwrap();
        let other = [
            code.to_lowercase(),
            code.replace('-', " "),
            code.replace('-', ""),
            code.replace('0', "O").replace('1', "l"),
            code.replace('0', "o").replace('1', "I"),
        ];
        for text in other {
            assert_eq!(*read(text.as_bytes()).unwrap().unwrap(), SECRET, "{text}");
        }
    }

    #[test]
    fn a_mistyped_code_is_told_from_a_password() {
        let code = write(&SECRET).unwrap();
        let mut found = 0;
        for at in 0..code.len() {
            let mut typed = code.as_bytes().to_vec();
            if typed[at] == b'-' {
                continue;
            }
            typed[at] = if typed[at] == b'7' { b'8' } else { b'7' };
            found += usize::from(read(&typed).is_err());
        }
        // Two check digits: one in 1024 mistakes isn't found.
        assert!(found >= 27, "{found}");
        let (short, dashes) = (code.trim_end_matches(|c| c != '-'), "-".repeat(40));
        for text in [
            "",
            "secret",
            "correct horse battery staple",
            short,
            &dashes,
            "7UUU",
        ] {
            assert!(read(text.as_bytes()).unwrap().is_none(), "{text}");
        }
        assert!(read(&[0xff; 28]).unwrap().is_none());
    }
}
