//! Streams that the encryptor doesn't write, but others did or might.

use super::*;
use crate::crypto::cipher::{TAG_LEN, aes256_cbc_encrypt};
use crate::crypto::digest::Hmac;
use crate::format::stream::{Recipient, Wrap};

/// What to forge.
pub(super) struct Forge {
    pub cipher: Cipher,
    pub integrity: Integrity,
    pub digest: Digest,
    pub rounds: u32,
    pub same_cipher: bool,
}

impl Forge {
    pub(super) fn new(cipher: &str, integrity: Integrity) -> Self {
        Forge {
            cipher: Cipher::from_name(cipher).unwrap(),
            integrity,
            digest: Digest::Sha256,
            rounds: 3,
            same_cipher: false,
        }
    }

    /// A file for the recipients `to`.
    pub(super) fn write(&self, to: &[&PrivateKey], data: &[u8]) -> Vec<u8> {
        let mut header = Header {
            version: Version::V2,
            integrity: self.integrity,
            cipher: self.cipher,
            digest: self.digest,
            rounds: self.rounds,
            same_cipher: self.same_cipher,
            recipients: Vec::new(),
            key_hash: Vec::new(),
        };
        let block: Vec<u8> = (0..header.block_len() as u8).map(|b| b ^ 0x5a).collect();
        header.key_hash = self.digest.iterated(&block, 2048).unwrap();
        header.recipients = to.iter().map(|key| self.wrap(key, &block)).collect();
        let mut file = header.write().unwrap();
        file.extend(self.payload(&block, data));
        file
    }

    fn wrap(&self, to: &PrivateKey, block: &[u8]) -> Recipient {
        let (ephemeral, shared) = to.public().agree_ephemeral().unwrap();
        let secret = |len| {
            self.digest
                .pbkdf2(&shared, &ephemeral, self.rounds, len)
                .unwrap()
        };
        let wrapped = if self.same_cipher {
            let (k, i) = (self.cipher.key_len(), self.cipher.iv_len());
            let aad = if self.integrity == Integrity::Aead {
                16
            } else {
                0
            };
            let secret = secret(k + i + aad);
            let mut stream = self
                .cipher
                .encrypt(&secret[..k], &secret[k..k + i], &secret[k + i..])
                .unwrap();
            let mut out = Vec::new();
            stream.update(block, &mut out).unwrap();
            stream.finish(&mut out).unwrap();
            if aad > 0 {
                out.extend(stream.tag().unwrap());
            }
            out
        } else {
            let secret = secret(48);
            let wrapped = aes256_cbc_encrypt(&secret[..32], &secret[32..], block);
            wrapped.unwrap().to_vec()
        };
        Recipient {
            wrap: Wrap::Ec,
            id: to.id().0,
            ephemeral,
            wrapped,
        }
    }

    fn payload(&self, block: &[u8], data: &[u8]) -> Vec<u8> {
        let (key, rest) = block.split_at(self.cipher.key_len());
        let (iv, mac) = rest.split_at(self.cipher.iv_len());
        let aad = if self.integrity == Integrity::Aead {
            mac
        } else {
            &[]
        };
        let mut stream = self.cipher.encrypt(key, iv, aad).unwrap();
        let mut out = Vec::new();
        stream.update(data, &mut out).unwrap();
        stream.finish(&mut out).unwrap();
        match self.integrity {
            Integrity::Aead => out.extend::<[u8; TAG_LEN]>(stream.tag().unwrap()),
            Integrity::Hmac => {
                let mut hmac = Hmac::new(self.digest, mac).unwrap();
                hmac.update(&out).unwrap();
                out.extend(hmac.finish().unwrap());
            }
            Integrity::None => {}
        }
        out
    }
}
