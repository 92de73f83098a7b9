//! Hexadecimal text, strict, in constant time.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use crate::crypto::{Secret, SecretText};
use crate::error::{Error, Result};

/// Decodes `text`: hexadecimal digits of either case, an even number of them, nothing else.
///
/// Takes the same time for the same length: the result may be a private key.
///
/// # Errors
/// Corrupt, without the text.
pub fn decode(text: &str) -> Result<Secret> {
    let mut out = Secret::zeroed(text.len() / 2);
    let decoded = base16ct::mixed::decode(text, &mut out).map(|_| ());
    decoded.map_err(|e| match e {
        base16ct::Error::InvalidLength => Error::corrupt("odd number of hexadecimal digits"),
        base16ct::Error::InvalidEncoding => Error::corrupt("not a hexadecimal digit"),
    })?;
    Ok(out)
}

/// `data` in lower-case hexadecimal digits.
pub fn encode(data: &[u8]) -> String {
    let mut out = String::with_capacity(data.len() * 2);
    digits(data, |text| out.push_str(text));
    out
}

/// `data` in upper-case hexadecimal digits, as old key ids are made of.
pub fn encode_upper(data: &[u8]) -> String {
    let mut out = encode(data);
    out.make_ascii_uppercase();
    out
}

/// Appends `data`, which may be secret, in lower-case hexadecimal digits.
pub fn push(out: &mut SecretText, data: &[u8]) {
    digits(data, |text| out.push_str(text));
}

fn digits(data: &[u8], mut push: impl FnMut(&str)) {
    let mut digits = Zeroizing::new([0; 128]);
    for part in data.chunks(64) {
        // 64 bytes have 128 digits.
        if let Ok(text) = base16ct::lower::encode_str(part, &mut *digits) {
            push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn either_case_is_read_and_the_asked_one_written() {
        assert_eq!(*decode("00fFaB").unwrap(), [0, 255, 0xab]);
        assert_eq!(encode(&[0, 255, 0xab]), "00ffab");
        assert_eq!(encode_upper(&[0, 255, 0xab]), "00FFAB");
        let all: Vec<u8> = (0..=255).collect();
        let plain: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(encode(&all), plain);
        assert_eq!(*decode(&plain).unwrap(), all);
        assert_eq!(*decode(&plain.to_uppercase()).unwrap(), all);
        assert!(decode("").unwrap().is_empty());
    }

    #[test]
    fn anything_but_pairs_of_digits_is_refused() {
        for text in ["0", "0g", " 00", "0x00", "00\n", "äö", "+1"] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
