//! PEM blocks.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::base64;
use crate::crypto::{Secret, SecretText};
use crate::error::{Error, Result};

/// What every PEM text starts with.
pub const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block: its label ("PRIVATE KEY") and its data.
pub struct Block<'a> {
    /// The words between `-----BEGIN ` and `-----`.
    pub label: &'a str,
    /// The decoded data, wiped when dropped.
    pub data: Secret,
}

/// The first block of `text` whose label is not in `skip`. Text around blocks is ignored.
///
/// # Errors
/// Truncated without an end line, corrupt for bad base64 or no block, unsupported for the old
/// password protection that is written into the block's header.
pub fn first<'a>(text: &'a str, skip: &[&str]) -> Result<Block<'a>> {
    let mut rest = text;
    loop {
        let (_, block) = rest.split_once(BEGIN).ok_or_else(no_block)?;
        let (label, block) = block.split_once(DASHES).ok_or_else(no_block)?;
        let (body, end) = block
            .split_once(END)
            .ok_or_else(|| Error::truncated("PEM without its end line"))?;
        let after = end
            .strip_prefix(label)
            .and_then(|end| end.strip_prefix(DASHES));
        rest =
            after.ok_or_else(|| Error::corrupt("PEM whose end line doesn't fit its begin line"))?;
        if skip.contains(&label) {
            continue;
        }
        if body.contains("Proc-Type:") {
            return Err(Error::unsupported(
                "PEM under a password in its old form (convert it with 'openssl pkcs8 -topk8')",
            ));
        }
        let data = base64::decode(body).map_err(|e| e.context("PEM"))?;
        return Ok(Block { label, data });
    }
}

fn no_block() -> Error {
    Error::corrupt("no PEM block with a key")
}

/// A PEM block. `data` may be a private key.
pub fn write(label: &str, data: &[u8]) -> Zeroizing<String> {
    let base64_len = data.len().div_ceil(3) * 4 + data.len().div_ceil(48);
    let mut out = SecretText::with_capacity(base64_len + 2 * label.len() + 40);
    for part in [BEGIN, label, "-----\n"] {
        out.push_str(part);
    }
    base64::push_lines(&mut out, data);
    for part in [END, label, "-----\n"] {
        out.push_str(part);
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn text_around_and_unwanted_blocks_are_skipped() {
        let text = format!(
            "Bag\n{}\n{}",
            *write("EC PARAMETERS", &[1]),
            *write("PRIVATE KEY", &[2; 100])
        );
        let block = first(&text.replace('\n', "\r\n"), &["EC PARAMETERS"])
            .map(|b| (b.label.to_owned(), b.data))
            .unwrap();
        assert_eq!(
            (block.0.as_str(), &*block.1),
            ("PRIVATE KEY", &[2; 100][..])
        );
    }

    #[test]
    fn each_defect_has_its_kind() {
        let good = write("PRIVATE KEY", &[2; 100]);
        for (text, kind) in [
            (good.replace("-----END", "END"), ErrorKind::Truncated),
            (
                good.replace("END PRIVATE", "END PUBLIC"),
                ErrorKind::Corrupt,
            ),
            (good.replace("AgIC", "A*IC"), ErrorKind::Corrupt),
            (
                good.replace("KEY-----\nAgIC", "KEY-----\nProc-Type: 4,ENCRYPTED\n\nAgIC"),
                ErrorKind::Unsupported,
            ),
            ("-----BEGIN ".to_owned(), ErrorKind::Corrupt),
            (String::new(), ErrorKind::Corrupt),
        ] {
            assert_eq!(
                first(&text, &[]).map(|_| ()).unwrap_err().kind(),
                kind,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_without_growing(data: Vec<u8>) {
            let text = write("X", &data);
            prop_assert!(text.capacity() < text.len() + 64);
            prop_assert_eq!(first(&text, &[]).unwrap().data.to_vec(), data);
        }

        #[test]
        fn any_text_is_survived(text in "(-----BEGIN |-----END |-----|KEY|\n|[A-Z=]{0,5}|ä){0,12}") {
            let _ = first(&text, &[]);
        }
    }
}
