//! The few pieces of DER that keys are made of.
#![forbid(unsafe_code)]

use crate::crypto::Secret;
use crate::error::{Error, Result};

/// Tag of an INTEGER.
pub const INTEGER: u8 = 0x02;
/// Tag of a BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// Tag of an OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of NULL.
pub const NULL: u8 = 0x05;
/// Tag of an OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// Tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// Tag of an explicit `[0]`.
pub const EXPLICIT_0: u8 = 0xa0;
/// Tag of an explicit `[1]`.
pub const EXPLICIT_1: u8 = 0xa1;

/// Reads the elements of one level, in order.
pub struct DerReader<'a> {
    rest: &'a [u8],
}

impl<'a> DerReader<'a> {
    /// Reads `data`: the contents of an element, or a whole document.
    pub fn new(data: &'a [u8]) -> Self {
        DerReader { rest: data }
    }

    /// The tag of the next element, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The contents of the next element, which must have this tag.
    ///
    /// # Errors
    /// Truncated at the end of the data, corrupt for another tag or a length that is not DER.
    pub fn read(&mut self, tag: u8) -> Result<&'a [u8]> {
        let truncated = || Error::truncated("DER ends within an element");
        let (&found, rest) = self.rest.split_first().ok_or_else(truncated)?;
        if found != tag {
            return Err(Error::corrupt(format!(
                "DER: expected tag {tag:02x}, found {found:02x}"
            )));
        }
        let (&first, mut rest) = rest.split_first().ok_or_else(truncated)?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return Err(Error::corrupt("DER: bad length"));
            }
            let (bytes, after) = rest.split_at_checked(count).ok_or_else(truncated)?;
            len = bytes.iter().fold(0, |len, b| (len << 8) | usize::from(*b));
            // Only the shortest form is DER.
            if bytes.first() == Some(&0) || len < 0x80 {
                return Err(Error::corrupt("DER: bad length"));
            }
            rest = after;
        }
        let (value, rest) = rest.split_at_checked(len).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(value)
    }

    /// A reader over the contents of the next element, which must have this tag.
    ///
    /// # Errors
    /// As [`DerReader::read`].
    pub fn enter(&mut self, tag: u8) -> Result<DerReader<'a>> {
        self.read(tag).map(DerReader::new)
    }

    /// The next element if it has this tag, else nothing is read.
    ///
    /// # Errors
    /// As [`DerReader::read`].
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>> {
        if self.peek() == Some(tag) {
            self.read(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The next element, a non-negative INTEGER of at most 8 bytes.
    ///
    /// # Errors
    /// As [`DerReader::read`]; corrupt if it is negative or larger.
    pub fn small_integer(&mut self) -> Result<u64> {
        let bytes = self.read(INTEGER)?;
        if bytes.len() > 8 || bytes.first().is_none_or(|top| *top >= 0x80) {
            return Err(Error::corrupt("DER: number out of range"));
        }
        Ok(bytes.iter().fold(0, |n, b| (n << 8) | u64::from(*b)))
    }

    /// The next element, a BIT STRING of whole bytes.
    ///
    /// # Errors
    /// As [`DerReader::read`].
    pub fn bit_string(&mut self) -> Result<&'a [u8]> {
        match self.read(BIT_STRING)?.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(Error::corrupt("DER: bit string that isn't whole bytes")),
        }
    }

    /// Checks that everything has been read.
    ///
    /// # Errors
    /// Corrupt if something follows.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::corrupt("DER: unexpected data at the end"))
        }
    }
}

/// One element with this tag around the concatenation of `parts`. Wiped when dropped, as it may
/// hold a private key.
pub fn element(tag: u8, parts: &[&[u8]]) -> Secret {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let bytes = len.to_be_bytes();
    let mut out = Secret::with_capacity(len + 2 + bytes.len());
    out.push(tag);
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let zeros = (len.leading_zeros() / 8) as usize;
        out.push(0x80 | (bytes.len() - zeros) as u8);
        bytes.iter().skip(zeros).for_each(|byte| out.push(*byte));
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A non-negative INTEGER.
pub fn small_integer(n: u64) -> Secret {
    // More bytes than it needs. One zero stays where the sign bit would be set otherwise.
    let bytes = u128::from(n).to_be_bytes();
    let mut number = bytes.as_slice();
    while let [0, 0..=0x7f, ..] = number {
        number = number.split_at(1).1;
    }
    element(INTEGER, &[number])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn lengths_have_one_form() {
        assert_eq!(element(4, &[&[7; 5]])[..2], [4, 5]);
        assert_eq!(element(4, &[&[7; 127]])[..2], [4, 127]);
        assert_eq!(element(4, &[&[7; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[&[7; 256]])[..4], [4, 0x82, 1, 0]);
        for bad in [
            &[4, 0x80, 0, 0][..],
            &[4, 0x81, 5, 1, 2, 3, 4, 5],
            &[4, 0x82, 0, 1, 1],
            &[4, 0x85, 0, 0, 0, 0, 1, 1],
        ] {
            let e = DerReader::new(bad).read(4).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{bad:?}");
        }
    }

    #[test]
    fn a_cut_element_is_truncated() {
        let whole = element(4, &[&[7; 300]]);
        for len in 0..whole.len() {
            let e = DerReader::new(&whole[..len]).read(4).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Truncated, "{len}");
        }
    }

    #[test]
    fn numbers_are_written_in_the_shortest_form() {
        assert_eq!(*small_integer(0), [2, 1, 0]);
        assert_eq!(*small_integer(127), [2, 1, 127]);
        assert_eq!(*small_integer(128), [2, 2, 0, 128]);
        assert_eq!(*small_integer(600_000), [2, 3, 9, 0x27, 0xc0]);
    }

    proptest! {
        #[test]
        fn elements_are_read_back(data: Vec<u8>, n in 0..=i64::MAX as u64) {
            let mut both = element(OCTET_STRING, &[&data]).to_vec();
            both.extend_from_slice(&small_integer(n));
            let mut r = DerReader::new(&both);
            prop_assert_eq!(r.read(OCTET_STRING).unwrap(), &data);
            prop_assert_eq!(r.small_integer().unwrap(), n);
            r.end().unwrap();
        }

        #[test]
        fn any_bytes_are_survived(data: Vec<u8>) {
            let mut r = DerReader::new(&data);
            while let Some(tag) = r.peek() {
                if r.read(tag).is_err() { break; }
            }
        }
    }
}
