//! RSA with OAEP (SHA-1, MGF1-SHA-1), the only padding that the formats know.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::sync::Arc;

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::encrypt::{Decrypter, Encrypter};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::{Padding, Rsa};

use super::{Secret, reasons};
use crate::error::{Error, Result};

/// The sizes of keys that are accepted, in bits. Smaller ones can be broken; larger ones take seconds
/// for one operation, and libcrypto refuses them too.
const BITS: RangeInclusive<i32> = 1024..=16384;
/// The most bits of the public exponent: real ones have 17, and the work grows with them.
const MAX_EXPONENT_BITS: i32 = 64;

fn check(n: &BigNumRef, e: &BigNumRef) -> Result<()> {
    if !BITS.contains(&n.num_bits()) {
        return Err(Error::unsupported(format!(
            "RSA key of {} bits (allowed are {} to {})",
            n.num_bits(),
            BITS.start(),
            BITS.end()
        )));
    }
    if e.num_bits() > MAX_EXPONENT_BITS || e.num_bits() < 2 || e.is_even() || n.is_even() {
        return Err(Error::corrupt(
            "RSA key with an impossible modulus or exponent",
        ));
    }
    Ok(())
}

fn bad_key(why: &ErrorStack) -> Error {
    Error::corrupt(format!("RSA key{}", reasons(why)))
}

/// A public RSA key.
pub struct RsaPublic {
    key: PKey<Public>,
    pkcs1: Vec<u8>,
}

impl RsaPublic {
    /// The key in this PKCS#1 RSAPublicKey.
    ///
    /// # Errors
    /// Corrupt, or unsupported for its size.
    pub fn from_pkcs1(der: &[u8]) -> Result<Self> {
        let rsa = Rsa::public_key_from_der_pkcs1(der).map_err(|e| bad_key(&e))?;
        check(rsa.n(), rsa.e())?;
        Self::from_rsa(rsa)
    }

    /// The key with this big-endian modulus and exponent.
    ///
    /// # Errors
    /// As [`RsaPublic::from_pkcs1`].
    pub fn from_numbers(n: &[u8], e: &[u8]) -> Result<Self> {
        let (n, e) = (BigNum::from_slice(n)?, BigNum::from_slice(e)?);
        check(&n, &e)?;
        Self::from_rsa(Rsa::from_public_components(n, e)?)
    }

    fn from_rsa(rsa: Rsa<Public>) -> Result<Self> {
        Ok(RsaPublic {
            pkcs1: rsa.public_key_to_der_pkcs1()?,
            key: PKey::from_rsa(rsa)?,
        })
    }

    /// PKCS#1 RSAPublicKey.
    pub fn pkcs1(&self) -> &[u8] {
        &self.pkcs1
    }

    /// The size of the key in bits.
    pub fn bits(&self) -> u32 {
        self.key.bits()
    }

    /// Encrypts `data`, at most 42 bytes less than the key has.
    ///
    /// # Errors
    /// As libcrypto, e.g. for more data.
    pub fn encrypt(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut encrypter = Encrypter::new(&self.key)?;
        encrypter.set_rsa_padding(Padding::PKCS1_OAEP)?;
        let mut out = vec![0; encrypter.encrypt_len(data)?];
        let len = encrypter.encrypt(data, &mut out)?;
        out.truncate(len);
        Ok(out)
    }
}

/// A private RSA key.
pub struct RsaPrivate {
    rsa: Rsa<Private>,
    key: PKey<Private>,
    public: Arc<RsaPublic>,
}

impl RsaPrivate {
    /// The key in this PKCS#1 RSAPrivateKey.
    ///
    /// # Errors
    /// Corrupt, or unsupported for its size.
    pub fn from_pkcs1(der: &[u8]) -> Result<Self> {
        let rsa = Rsa::private_key_from_der(der).map_err(|e| bad_key(&e))?;
        Self::from_rsa(rsa)
    }

    /// The key with these big-endian numbers: n, e, d, p, q, dp, dq, qi.
    ///
    /// # Errors
    /// As [`RsaPrivate::from_pkcs1`].
    pub fn from_numbers(numbers: [&[u8]; 8]) -> Result<Self> {
        let number = |i: usize| -> Result<BigNum> {
            let mut number = BigNum::new_secure()?;
            number.copy_from_slice(numbers[i])?;
            Ok(number)
        };
        let rsa = Rsa::from_private_components(
            number(0)?,
            number(1)?,
            number(2)?,
            number(3)?,
            number(4)?,
            number(5)?,
            number(6)?,
            number(7)?,
        )?;
        Self::from_rsa(rsa)
    }

    fn from_rsa(rsa: Rsa<Private>) -> Result<Self> {
        check(rsa.n(), rsa.e())?;
        let (Some(p), Some(q)) = (rsa.p(), rsa.q()) else {
            return Err(Error::unsupported("RSA key without its prime numbers"));
        };
        // Testing p and q for primality takes a second for a large key, and an id that fits (or a
        // private operation that works) says as much.
        let mut product = BigNum::new()?;
        let mut ctx = BigNumContext::new_secure()?;
        product.checked_mul(p, q, &mut ctx)?;
        if product != *rsa.n() {
            return Err(Error::corrupt(
                "RSA key whose numbers don't belong together",
            ));
        }
        let public = Rsa::from_public_components(rsa.n().to_owned()?, rsa.e().to_owned()?)?;
        Ok(RsaPrivate {
            public: Arc::new(RsaPublic::from_rsa(public)?),
            key: PKey::from_rsa(rsa.clone())?,
            rsa,
        })
    }

    /// Its public half.
    pub fn public(&self) -> &Arc<RsaPublic> {
        &self.public
    }

    /// PKCS#1 RSAPrivateKey.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn to_pkcs1(&self) -> Result<Secret> {
        Ok(Secret::new(self.rsa.private_key_to_der()?))
    }

    /// Decrypts what [`RsaPublic::encrypt`] made.
    ///
    /// # Errors
    /// Corrupt if it wasn't encrypted to this key. The error says no more, on purpose.
    pub fn decrypt(&self, data: &[u8]) -> Result<Secret> {
        let bad = || Error::corrupt("RSA data that this key can't decrypt");
        // RFC 8017, 7.1.2: as long as the modulus. libcrypto would accept it without leading zeros.
        if data.len() != self.rsa.size() as usize {
            return Err(bad());
        }
        let mut decrypter = Decrypter::new(&self.key)?;
        decrypter.set_rsa_padding(Padding::PKCS1_OAEP)?;
        let mut out = Secret::new(vec![0; decrypter.decrypt_len(data).map_err(|_| bad())?]);
        let len = decrypter.decrypt(data, &mut out).map_err(|_| bad())?;
        out.truncate(len);
        Ok(out)
    }
}
