//! Hexadecimal text, strict, in constant time.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Decodes `text`: hexadecimal digits of either case, an even number of them, nothing else.
///
/// Takes the same time for the same length: the result may be a private key. It is wiped when dropped.
///
/// # Errors
/// Corrupt, without the text.
pub fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(vec![0; text.len() / 2]);
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
    let mut digits = Zeroizing::new([0; 128]);
    for part in data.chunks(64) {
        // Twice the room that 64 bytes need can't be too little.
        if let Ok(text) = base16ct::lower::encode_str(part, &mut *digits) {
            out.push_str(text);
        }
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
        let all: Vec<u8> = (0..=255).collect();
        let plain: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(encode(&all), plain);
        assert_eq!(*decode(&plain).unwrap(), all);
        assert_eq!(*decode(&plain.to_uppercase()).unwrap(), all);
        assert_eq!(*decode("").unwrap(), []);
    }

    #[test]
    fn anything_but_pairs_of_digits_is_refused() {
        for text in ["0", "0g", " 00", "0x00", "00\n", "äö", "+1"] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
