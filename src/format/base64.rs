//! Base64: what PEM blocks and one-line settings are made of, and JWK's URL variant.
#![forbid(unsafe_code)]

use base64ct::{Base64, Base64Unpadded, Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use crate::crypto::{Secret, SecretText};
use crate::error::{Error, Result};

/// Decodes standard base64. White space is ignored. Padding must be complete, and the bits beyond
/// the last byte zero: one value has one text.
///
/// # Errors
/// Corrupt, without the text.
pub fn decode(text: &str) -> Result<Secret> {
    let mut digits = Secret::with_capacity(text.len());
    for part in text.split_ascii_whitespace() {
        digits.extend_from_slice(part.as_bytes());
    }
    if digits.len() % 4 != 0 {
        return Err(Error::corrupt("incomplete base64"));
    }
    let unpadded = digits
        .strip_suffix(b"==")
        .or_else(|| digits.strip_suffix(b"="));
    decode_digits::<Base64Unpadded>(unpadded.unwrap_or(&digits))
}

/// Decodes base64 in its URL variant, with or without padding (JWK).
///
/// # Errors
/// Corrupt, without the text.
pub fn decode_url(text: &str) -> Result<Secret> {
    decode_digits::<Base64UrlUnpadded>(text.trim_end_matches('=').as_bytes())
}

/// Takes the same time for the same length: it may be a private key.
fn decode_digits<E: Encoding>(digits: &[u8]) -> Result<Secret> {
    let mut out = Secret::zeroed(digits.len() / 4 * 3 + 3);
    let len = E::decode(digits, &mut out)
        .map(<[u8]>::len)
        .map_err(|e| match e {
            base64ct::Error::InvalidLength => Error::corrupt("incomplete base64"),
            base64ct::Error::InvalidEncoding => Error::corrupt("not base64"),
        })?;
    out.truncate(len);
    Ok(out)
}

/// The bytes of a line of 64 digits.
const LINE: usize = 48;

/// Appends `data` in base64 with padding, a line feed after every 64 digits and at the end, as
/// PEM has it.
pub fn push_lines(out: &mut SecretText, data: &[u8]) {
    let mut digits = Zeroizing::new([0; 64]);
    for line in data.chunks(LINE) {
        // A whole line has 64 digits.
        if let Ok(text) = Base64::encode(line, &mut *digits) {
            out.push_str(text);
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
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
            assert_eq!(*decode(text).unwrap(), *data.as_bytes());
        }
        assert_eq!(*decode_url("-_8").unwrap(), [0xfb, 0xff]);
        assert_eq!(*decode("+/8=").unwrap(), [0xfb, 0xff]);
    }

    #[test]
    fn damaged_text_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "Zm=v", "Zm9-", "Zmö=",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
        for text in ["+/8", "Z", "-_9", "Zm9v Zm9v"] {
            assert!(decode_url(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(data: Vec<u8>) {
            let mut text = SecretText::default();
            push_lines(&mut text, &data);
            let text = text.finish();
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            prop_assert_eq!(decode(&text).unwrap().to_vec(), data);
        }
    }
}
