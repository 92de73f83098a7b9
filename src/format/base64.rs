//! Base64: what PEM blocks and one-line settings are made of, and JWK's URL variant.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use crate::error::{Error, Result};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Decodes standard base64. White space may stand anywhere, padding must be complete, and the
/// bits beyond the last byte are zero: one value has one text.
///
/// # Errors
/// Corrupt, without the text.
pub fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.bytes().filter(|c| !c.is_ascii_whitespace()));
    if digits.len() % 4 != 0 {
        return Err(Error::corrupt("incomplete base64"));
    }
    let padding = digits.iter().rev().take_while(|c| **c == b'=').count();
    if padding > 2 {
        return Err(Error::corrupt("not base64"));
    }
    decode_digits(&digits[..digits.len() - padding], [b'+', b'/'])
}

/// Decodes base64 in its URL variant, with or without padding (JWK).
///
/// # Errors
/// Corrupt, without the text.
pub fn decode_url(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    decode_digits(text.trim_end_matches('=').as_bytes(), [b'-', b'_'])
}

fn decode_digits(digits: &[u8], last_two: [u8; 2]) -> Result<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(digits.len() / 4 * 3 + 3));
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &c in group {
            bits = (bits << 6) | u32::from(value(c, last_two)?);
        }
        bits <<= 6 * (4 - group.len());
        let bytes = bits.to_be_bytes();
        let (len, rest) = match group.len() {
            4 => (3, 0),
            3 => (2, bytes[3]),
            2 => (1, bytes[2] | bytes[3]),
            _ => return Err(Error::corrupt("incomplete base64")),
        };
        if rest != 0 {
            return Err(Error::corrupt("not base64"));
        }
        out.extend_from_slice(&bytes[1..=len]);
    }
    Ok(out)
}

fn value(c: u8, last_two: [u8; 2]) -> Result<u8> {
    match c {
        b'A'..=b'Z' => Ok(c - b'A'),
        b'a'..=b'z' => Ok(c - b'a' + 26),
        b'0'..=b'9' => Ok(c - b'0' + 52),
        _ if c == last_two[0] => Ok(62),
        _ if c == last_two[1] => Ok(63),
        _ => Err(Error::corrupt("not base64")),
    }
}

/// Appends `data` in base64 with padding, a line feed after every 64 digits and at the end, as
/// PEM has it. Reserve room before appending a secret.
pub fn push_lines(out: &mut String, data: &[u8]) {
    for line in data.chunks(48) {
        for group in line.chunks(3) {
            let mut bytes = [0; 4];
            bytes[1..=group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes(bytes);
            for i in 0..4 {
                let digit = ALPHABET[((bits >> (18 - 6 * i)) & 63) as usize];
                let padding = i > group.len();
                out.push(if padding { '=' } else { char::from(digit) });
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_4648_examples_are_read() {
        for (text, data) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            (" Zm9v\r\nYmFy\n", "foobar"),
        ] {
            assert_eq!(decode(text).unwrap().as_slice(), data.as_bytes());
        }
        assert_eq!(decode_url("-_8").unwrap().as_slice(), [0xfb, 0xff]);
        assert_eq!(decode("+/8=").unwrap().as_slice(), [0xfb, 0xff]);
    }

    #[test]
    fn damaged_text_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "Zm=v", "Zm9-", "Zmö=",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
        assert!(decode_url("+/8").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(data: Vec<u8>) {
            let mut text = String::new();
            push_lines(&mut text, &data);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            prop_assert_eq!(decode(&text).unwrap().to_vec(), data);
        }
    }
}
