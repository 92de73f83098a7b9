//! Hexadecimal text, strict.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Decodes `text`: hexadecimal digits of either case, an even number of them, nothing else.
///
/// The result is wiped when dropped, as it may be a private key.
///
/// # Errors
/// Corrupt, without the text.
pub fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let text = text.as_bytes();
    if text.len() % 2 != 0 {
        return Err(Error::corrupt("odd number of hexadecimal digits"));
    }
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.chunks_exact(2) {
        out.push((digit(pair[0])? << 4) | digit(pair[1])?);
    }
    Ok(out)
}

fn digit(c: u8) -> Result<u8> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        b'A'..=b'F' => Ok(c - b'A' + 10),
        _ => Err(Error::corrupt("not a hexadecimal digit")),
    }
}

/// `data` in lower-case hexadecimal digits.
pub fn encode(data: &[u8]) -> String {
    let mut out = String::with_capacity(data.len() * 2);
    push(&mut out, data);
    out
}

/// `data` in upper-case hexadecimal digits, as old key ids are made of.
pub fn encode_upper(data: &[u8]) -> String {
    let mut out = encode(data);
    out.make_ascii_uppercase();
    out
}

/// Appends `data` in lower-case hexadecimal digits. Reserve room before appending a secret: a
/// string that grows leaves its old copy behind.
pub fn push(out: &mut String, data: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in data {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn either_case_is_read_and_the_asked_one_written() {
        assert_eq!(decode("00fFaB").unwrap().as_slice(), [0, 255, 0xab]);
        assert_eq!(encode(&[0, 255, 0xab]), "00ffab");
        assert_eq!(encode_upper(&[0, 255, 0xab]), "00FFAB");
    }

    #[test]
    fn anything_but_pairs_of_digits_is_refused() {
        for text in ["0", "0g", " 00", "0x00", "00\n", "äö", "+1"] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
