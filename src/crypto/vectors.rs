//! Published test vectors, put through this module's own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod nist;
mod wycheproof;

use super::cipher::{Cipher, TAG_LEN};
use crate::error::Result;

/// The ciphertext and tag of `plain` under an authenticated cipher.
fn seal(
    cipher: Cipher,
    key: &[u8],
    iv: &[u8],
    aad: &[u8],
    plain: &[u8],
) -> Result<(Vec<u8>, [u8; TAG_LEN])> {
    let mut stream = cipher.encrypt(key, iv, aad)?;
    let mut sealed = Vec::new();
    stream.update(plain, &mut sealed)?;
    stream.finish(&mut sealed)?;
    Ok((sealed, stream.tag()?))
}

/// Opens `sealed` piece by piece, the last one first, as a large mail's chunks are opened. Checks that the pieces'
/// tags make the tag of the whole where the additional data is one block.
fn open_in_pieces(
    with: super::gcm::GmacKey<'_>,
    aad: &[u8],
    sealed: &[u8],
    tag: &[u8],
    piece: usize,
) -> Vec<u8> {
    use super::gcm::{Gmac, Pieces, whole_tag};

    let mut mac = Gmac::new(with).unwrap();
    let tags = sealed.chunks(piece).map(|part| *mac.of(part).unwrap());
    let tags: Vec<[u8; TAG_LEN]> = tags.collect();
    if let Ok(aad) = <&[u8; 16]>::try_from(aad) {
        let whole = whole_tag(with, aad, &tags, piece, sealed.len() as u64).unwrap();
        assert_eq!(&whole[..], tag, "by pieces of {piece}");
    }
    let mut pieces = Pieces::new(with).unwrap();
    let mut plain = vec![0; sealed.len()];
    for (n, part) in sealed.chunks(piece).enumerate().rev() {
        let at = n * piece;
        let out = &mut plain[at..];
        assert!(pieces.open(at as u64, part, &tags[n], out).unwrap());
    }
    plain
}
