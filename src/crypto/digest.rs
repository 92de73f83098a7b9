//! Message digests, HMAC and PBKDF2.
//!
//! SHA-256 runs on the CPU's own instructions through the `sha2` crate: a stream header of the
//! packaged plugin costs 2048 PBKDF2 rounds, which are nothing but single SHA-256 blocks, and
//! a libcrypto call around each block costs more than the block itself. OpenSSL 3 also takes a million
//! instructions to set up its first HMAC.
#![forbid(unsafe_code)]

use std::fmt;

use openssl::md::MdRef;
use openssl::md_ctx::MdCtx;

use super::Secret;
use super::lookup::{self, Slot};
use super::sha256;
use crate::error::{Error, Result};

/// A message digest that streams and key strings may name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Digest {
    /// MD5: read, never written.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256: what is written by default.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA3-256.
    Sha3_256,
    /// SHA3-512.
    Sha3_512,
}

/// One row per digest: name (lower case, as in settings and key strings), size in bytes, DER
/// object identifier.
const TABLE: [(Digest, &str, usize, &[u8]); 8] = [
    (
        Digest::Md5,
        "md5",
        16,
        &[6, 8, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5],
    ),
    (Digest::Sha1, "sha1", 20, &[6, 5, 0x2b, 0x0e, 3, 2, 0x1a]),
    (Digest::Sha224, "sha224", 28, &nist(4)),
    (Digest::Sha256, "sha256", 32, &nist(1)),
    (Digest::Sha384, "sha384", 48, &nist(2)),
    (Digest::Sha512, "sha512", 64, &nist(3)),
    (Digest::Sha3_256, "sha3-256", 32, &nist(8)),
    (Digest::Sha3_512, "sha3-512", 64, &nist(10)),
];

/// DER of 2.16.840.1.101.3.4.2.`n` (NIST's hash algorithms).
const fn nist(n: u8) -> [u8; 11] {
    [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, n]
}

impl Digest {
    fn row(self) -> &'static (Digest, &'static str, usize, &'static [u8]) {
        &TABLE[self as usize]
    }

    /// The digest named by a DER object identifier (tag, length, value).
    ///
    /// # Errors
    /// Unsupported, naming the identifier.
    pub fn from_oid_der(der: &[u8]) -> Result<Self> {
        TABLE
            .iter()
            .find(|row| row.3 == der)
            .map(|row| row.0)
            .ok_or_else(|| Error::unsupported(format!("digest {}", super::oid_text(der))))
    }

    /// Its DER object identifier (tag, length, value).
    pub fn oid_der(self) -> &'static [u8] {
        self.row().3
    }

    /// The digest of that name, in any case.
    ///
    /// # Errors
    /// Unsupported, with the name.
    pub fn from_name(name: &str) -> Result<Self> {
        TABLE
            .iter()
            .find(|row| row.1.eq_ignore_ascii_case(name))
            .map(|row| row.0)
            .ok_or_else(|| Error::unsupported(format!("digest '{}'", name.escape_default())))
    }

    /// Its name in lower case, as key strings and settings have it.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The size of its output in bytes.
    pub fn size(self) -> usize {
        self.row().2
    }

    /// Every digest, for error texts that list them.
    pub fn all() -> impl Iterator<Item = Digest> {
        TABLE.iter().map(|row| row.0)
    }

    /// libcrypto's implementation, looked up once per process.
    pub(super) fn md(self) -> Result<&'static MdRef> {
        static FETCHED: [Slot<MdRef>; TABLE.len()] = [const { Slot::new() }; TABLE.len()];
        lookup::digest(&FETCHED[self as usize], self.name())
    }

    /// The digest over the concatenation of `parts`.
    pub fn hash(self, parts: &[&[u8]]) -> Result<Vec<u8>> {
        if self == Digest::Sha256 {
            return Ok(sha256::hash(parts));
        }
        let mut ctx = MdCtx::new()?;
        ctx.digest_init(self.md()?)?;
        for part in parts {
            ctx.digest_update(part)?;
        }
        let mut out = vec![0; self.size()];
        ctx.digest_final(&mut out)?;
        Ok(out)
    }

    /// The HMAC under `key` over the concatenation of `parts`, of which nothing is secret.
    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>> {
        if self == Digest::Sha256 {
            return Ok(sha256::hmac(key, parts));
        }
        let mut mac = Hmac::new(self, key)?;
        for part in parts {
            mac.update(part)?;
        }
        mac.finish()
    }

    /// PBKDF2-HMAC of `secret` and `salt`, `out_len` bytes.
    ///
    /// The caller has bounded `rounds`: in a file they are under an attacker's control. 0 is an error.
    pub fn pbkdf2(self, secret: &[u8], salt: &[u8], rounds: u32, out_len: usize) -> Result<Secret> {
        if rounds == 0 {
            return Err(Error::corrupt("PBKDF2 with 0 rounds"));
        }
        let mut out = Secret::zeroed(out_len);
        if self == Digest::Sha256 {
            sha256::pbkdf2(secret, salt, rounds, &mut out);
            return Ok(out);
        }
        let md = match self {
            Digest::Md5 => openssl::hash::MessageDigest::md5(),
            Digest::Sha1 => openssl::hash::MessageDigest::sha1(),
            Digest::Sha224 => openssl::hash::MessageDigest::sha224(),
            Digest::Sha384 => openssl::hash::MessageDigest::sha384(),
            Digest::Sha512 => openssl::hash::MessageDigest::sha512(),
            Digest::Sha3_256 => openssl::hash::MessageDigest::sha3_256(),
            Digest::Sha3_512 => openssl::hash::MessageDigest::sha3_512(),
            Digest::Sha256 => openssl::hash::MessageDigest::sha256(),
        };
        openssl::pkcs5::pbkdf2_hmac(secret, salt, rounds as usize, md, &mut out)?;
        Ok(out)
    }

    /// The stream format's hash of a key block: h0 = H(block), h(i) = H(h(i-1) || u32 i) for
    /// i = 1..=`count`.
    pub fn iterated(self, block: &[u8], count: u32) -> Result<Vec<u8>> {
        if self == Digest::Sha256 {
            return Ok(sha256::iterated(block, count));
        }
        let mut ctx = MdCtx::new()?;
        let mut h = self.hash(&[block])?;
        for i in 1..=count {
            ctx.digest_init(self.md()?)?;
            ctx.digest_update(&h)?;
            ctx.digest_update(&i.to_be_bytes())?;
            ctx.digest_final(&mut h)?;
        }
        Ok(h)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An HMAC that takes its data in pieces.
pub struct Hmac {
    ctx: MdCtx,
    size: usize,
}

impl Hmac {
    /// Starts an HMAC-`digest` under `key`.
    pub fn new(digest: Digest, key: &[u8]) -> Result<Self> {
        let key = openssl::pkey::PKey::hmac(key)?;
        let mut ctx = MdCtx::new()?;
        ctx.digest_sign_init(Some(digest.md()?), &key)?;
        Ok(Hmac {
            ctx,
            size: digest.size(),
        })
    }

    /// Adds `data`.
    pub fn update(&mut self, data: &[u8]) -> Result<()> {
        Ok(self.ctx.digest_sign_update(data)?)
    }

    /// The HMAC of all that was added.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let mut out = vec![0; self.size];
        let n = self.ctx.digest_sign_final(Some(&mut out))?;
        out.truncate(n);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use openssl::asn1::Asn1Object;
    use openssl::hash::MessageDigest;

    #[test]
    fn every_row_is_found_by_each_of_its_names() {
        for (i, row) in TABLE.iter().enumerate() {
            let digest = row.0;
            assert_eq!(digest as usize, i);
            assert_eq!(Digest::from_oid_der(row.3).unwrap(), digest);
            assert_eq!(Digest::from_name(&row.1.to_uppercase()).unwrap(), digest);
            assert_eq!(digest.hash(&[b"abc"]).unwrap().len(), digest.size());
            let nid = |text: &str| Asn1Object::from_str(text).unwrap().nid();
            let dotted = crate::crypto::oid_text(row.3);
            assert_eq!(nid(&dotted), nid(digest.name()), "{digest}");
        }
        assert!(Digest::from_name("").is_err());
        let error = Digest::from_oid_der(&[6, 3, 0x2a, 3, 4]).unwrap_err();
        assert_eq!(error.to_string(), "digest 1.2.3.4");
    }

    #[test]
    fn sha256_agrees_with_libcrypto() {
        for len in [0usize, 1, 31, 55, 56, 63, 64, 65, 66, 119, 128, 1000] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let theirs = openssl::hash::hash(MessageDigest::sha256(), &data).unwrap();
            assert_eq!(Digest::Sha256.hash(&[&data]).unwrap(), &*theirs);
            for cut in [0, len / 3, len.min(64), len] {
                let (a, b) = data.split_at(cut);
                assert_eq!(Digest::Sha256.hash(&[a, &[], b]).unwrap(), &*theirs);
            }
            let key = [&data[..], &[len as u8]].concat();
            let mut theirs = Hmac::new(Digest::Sha256, &key).unwrap();
            theirs.update(&data).unwrap();
            let (a, b) = data.split_at(len / 3);
            let ours = Digest::Sha256.hmac(&key, &[a, b]).unwrap();
            assert_eq!(ours, theirs.finish().unwrap());
            for (rounds, out_len) in [
                (1, 32),
                (1, 48),
                (2, 47),
                (3, 64),
                (17, 65),
                (5, 150),
                (4, 1),
            ] {
                let salt = &data[..len / 2];
                let mut theirs = vec![0; out_len];
                let sha256 = MessageDigest::sha256();
                openssl::pkcs5::pbkdf2_hmac(&data, salt, rounds, sha256, &mut theirs).unwrap();
                let ours = Digest::Sha256
                    .pbkdf2(&data, salt, rounds as u32, out_len)
                    .unwrap();
                assert_eq!(*ours, theirs, "{len} bytes, {rounds} rounds, {out_len} out");
            }
        }
    }

    #[test]
    fn the_iterated_hash_is_the_plain_definition() {
        for digest in Digest::all() {
            let mut h = digest.hash(&[b"block"]).unwrap();
            for i in 1u32..=5 {
                h = digest.hash(&[&h, &i.to_be_bytes()]).unwrap();
            }
            assert_eq!(digest.iterated(b"block", 5).unwrap(), h);
        }
    }

    #[test]
    fn hmac_and_pbkdf2_match_published_vectors() {
        // RFC 4231, test case 2, and RFC 6070.
        let mac = Digest::Sha256
            .hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"])
            .unwrap();
        assert_eq!(
            crate::hex::encode(&mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let key = Digest::Sha1.pbkdf2(b"password", b"salt", 2, 20).unwrap();
        assert_eq!(
            crate::hex::encode(&key),
            "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"
        );
        assert!(Digest::Sha256.pbkdf2(b"p", b"s", 0, 32).is_err());
    }
}
