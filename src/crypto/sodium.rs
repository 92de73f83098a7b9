//! libsodium's boxes, opened. They are those of mail and keys of TREES.
#![forbid(unsafe_code)]

use crypto_box::SecretKey;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{Key, KeyInit, Nonce, XSalsa20Poly1305};

use super::Secret;
use crate::error::Result;

/// A private key that opens sealed boxes (`crypto_box_seal`): X25519, XSalsa20 and Poly1305.
#[derive(Clone)]
pub struct SealKey(SecretKey);

impl SealKey {
    /// From the key's bytes.
    ///
    /// # Errors
    /// Unsupported, in a build without TREES.
    pub fn new(private: &[u8; 32]) -> Result<Self> {
        Ok(SealKey(SecretKey::from(*private)))
    }

    /// Its public half.
    pub fn public(&self) -> [u8; 32] {
        *self.0.public_key().as_bytes()
    }

    /// The content of a box. `None` if it was changed, or is sealed to another key.
    pub fn open(&self, sealed: &[u8]) -> Option<Secret> {
        self.0.unseal(sealed).ok().map(Secret::new)
    }
}

/// The content of a secret box (`crypto_secretbox_easy`). `None` if `key` isn't its key.
///
/// # Errors
/// Unsupported, in a build without TREES.
pub fn open_secretbox(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Result<Option<Secret>> {
    let cipher = XSalsa20Poly1305::new(Key::from_slice(key));
    let opened = cipher.decrypt(Nonce::from_slice(nonce), sealed);
    Ok(opened.ok().map(Secret::new))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use crypto_box::aead::rand_core::{self, CryptoRng, RngCore};

    use super::*;
    use crate::hex;

    struct Random;

    impl RngCore for Random {
        fn next_u32(&mut self) -> u32 {
            self.next_u64() as u32
        }

        fn next_u64(&mut self) -> u64 {
            let mut bytes = [0; 8];
            self.fill_bytes(&mut bytes);
            u64::from_be_bytes(bytes)
        }

        fn fill_bytes(&mut self, out: &mut [u8]) {
            crate::crypto::random(out).unwrap();
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> std::result::Result<(), rand_core::Error> {
            self.fill_bytes(out);
            Ok(())
        }
    }

    impl CryptoRng for Random {}

    /// Seals as TREES does.
    pub(crate) fn seal(public: [u8; 32], plain: &[u8]) -> Vec<u8> {
        let public = crypto_box::PublicKey::from(public);
        public.seal(&mut Random, plain).unwrap()
    }

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap()[..].try_into().unwrap()
    }

    #[test]
    fn what_libsodium_sealed_is_opened() {
        // crypto_box_seal of libsodium 1.0.18: "sealed by libsodium".
        let key = SealKey::new(&bytes(PRIVATE)).unwrap();
        assert_eq!(hex::encode(&key.public()), PUBLIC);
        let mut sealed = hex::decode(SEALED).unwrap();
        assert_eq!(*key.open(&sealed).unwrap(), *b"sealed by libsodium");
        for at in [0, 31, 32, 47, 48, sealed.len() - 1] {
            sealed[at] ^= 1;
            assert!(key.open(&sealed).is_none(), "{at}");
            sealed[at] ^= 1;
        }
        for len in [0, 31, 32, 47, 48, sealed.len() - 1] {
            assert!(key.open(&sealed[..len]).is_none(), "{len}");
        }
        assert!(SealKey::new(&[1; 32]).unwrap().open(&sealed).is_none());
    }

    #[test]
    fn what_libsodium_put_into_a_secret_box_is_opened() {
        // crypto_secretbox_easy of libsodium 1.0.18: "boxed by libsodium", key 32 bytes of 7, nonce 24 bytes of 9.
        let boxed = hex::decode(BOXED).unwrap();
        let open = |key, boxed: &[u8]| open_secretbox(key, &[9; 24], boxed).unwrap();
        assert_eq!(*open(&[7; 32], &boxed).unwrap(), *b"boxed by libsodium");
        assert!(open(&[8; 32], &boxed).is_none());
        assert!(open(&[7; 32], &boxed[1..]).is_none());
        assert!(open(&[7; 32], b"short").is_none());
    }

    const PRIVATE: &str = "7c7ddf1df2823c1274de2f522d3e3dc05f78e61f011c73a950edd20c291fa895";
    const PUBLIC: &str = "a3e6200a4cd7e536355a8828c3633f7b33a1fe190eeae6c51f47934d76193174";
    const SEALED: &str = "48fbe0b5b4ba71bafbcc233aee5c1aa16f487a562746e58fecd7ba8e49244e0a8156cd5af7a4514274b90e4066cc7cf5dee4172a573a8688d1e0a42ade528126e81fb5";
    const BOXED: &str = "82bcd241121f40077356e66a14ca4cd3ee256b935b71509524187b8ad95bd13b15f0";
}
