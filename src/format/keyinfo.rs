//! The DER structures of keys: SubjectPublicKeyInfo (RFC 5280), PKCS#8 (RFC 5958), SEC 1
//! ECPrivateKey (RFC 5915). Only algorithms are looked at here, not numbers and points.
#![forbid(unsafe_code)]

use super::der::{self, DerReader, element};
use crate::crypto::Secret;
use crate::error::{Error, Result};

/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// X25519, 1.3.101.110.
const X25519: &[u8] = &[0x2b, 0x65, 0x6e];
/// X448, 1.3.101.111.
const X448: &[u8] = &[0x2b, 0x65, 0x6f];
/// PBES2, 1.2.840.113549.1.5.13.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
/// PBKDF2, 1.2.840.113549.1.5.12.
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// scrypt, 1.3.6.1.4.1.11591.4.11.
const SCRYPT: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b];
/// hmacWithSHA256, 1.2.840.113549.2.9.
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
/// aes-256-cbc, 2.16.840.1.101.3.4.1.42.
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

/// The algorithm of a key. Curves are named by the contents of their DER object identifier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AlgorithmIdentifier<'a> {
    /// An elliptic curve in Weierstrass form.
    Ec(&'a [u8]),
    /// RFC 7748's curve of 32-byte keys.
    X25519,
    /// RFC 7748's curve of 56-byte keys.
    X448,
    /// RSA.
    Rsa,
}

impl<'a> AlgorithmIdentifier<'a> {
    fn read(mut r: DerReader<'a>) -> Result<Self> {
        let oid = r.read(der::OID)?;
        if oid != EC_PUBLIC_KEY {
            return match oid {
                X25519 => Ok(AlgorithmIdentifier::X25519),
                X448 => Ok(AlgorithmIdentifier::X448),
                RSA_ENCRYPTION => Ok(AlgorithmIdentifier::Rsa),
                _ => Err(Error::unsupported(format!(
                    "keys of algorithm {}",
                    oid_text(oid)
                ))),
            };
        }
        match r.peek() {
            Some(der::OID) => Ok(AlgorithmIdentifier::Ec(r.read(der::OID)?)),
            Some(der::SEQUENCE) => Err(Error::unsupported(
                "an EC key with explicit curve parameters instead of a curve's name",
            )),
            _ => Err(Error::corrupt("EC key without a curve")),
        }
    }

    fn write(&self) -> Secret {
        let simple = |oid: &[u8]| element(der::SEQUENCE, &[&element(der::OID, &[oid])]);
        match self {
            AlgorithmIdentifier::X25519 => simple(X25519),
            AlgorithmIdentifier::X448 => simple(X448),
            AlgorithmIdentifier::Ec(curve) => element(
                der::SEQUENCE,
                &[
                    &element(der::OID, &[EC_PUBLIC_KEY]),
                    &element(der::OID, &[curve]),
                ],
            ),
            AlgorithmIdentifier::Rsa => element(
                der::SEQUENCE,
                &[
                    &element(der::OID, &[RSA_ENCRYPTION]),
                    &element(der::NULL, &[]),
                ],
            ),
        }
    }
}

/// An object identifier as dotted text, from the contents of its DER element.
fn oid_text(oid: &[u8]) -> String {
    crate::crypto::oid_text(&element(der::OID, &[oid]))
}

/// Takes a SubjectPublicKeyInfo apart: the algorithm and the key as that algorithm stores it (EC
/// point, raw X25519/X448 key, PKCS#1 RSAPublicKey).
///
/// # Errors
/// Truncated or corrupt DER; unsupported algorithm or explicit curve parameters.
pub fn read_spki(spki: &[u8]) -> Result<(AlgorithmIdentifier<'_>, &[u8])> {
    let mut outer = DerReader::new(spki);
    let mut r = outer.enter(der::SEQUENCE)?;
    outer.end()?;
    let algorithm = AlgorithmIdentifier::read(r.enter(der::SEQUENCE)?)?;
    let key = r.bit_string()?;
    r.end()?;
    Ok((algorithm, key))
}

/// A SubjectPublicKeyInfo, the reverse of [`read_spki`].
pub fn write_spki(algorithm: &AlgorithmIdentifier<'_>, key: &[u8]) -> Vec<u8> {
    element(
        der::SEQUENCE,
        &[&algorithm.write(), &element(der::BIT_STRING, &[&[0], key])],
    )
    .to_vec()
}

/// A private key as found in PKCS#8 or SEC 1, borrowed from there.
pub struct PrivateKeyInfo<'a> {
    /// What kind of key.
    pub algorithm: AlgorithmIdentifier<'a>,
    /// EC: the number, big-endian; X25519/X448: the raw key; RSA: PKCS#1 RSAPrivateKey.
    pub key: &'a [u8],
    /// The public EC point that came along, which must fit.
    pub point: Option<&'a [u8]>,
}

/// Takes a PKCS#8 PrivateKeyInfo apart.
///
/// # Errors
/// As [`read_spki`].
pub fn read_pkcs8(pkcs8: &[u8]) -> Result<PrivateKeyInfo<'_>> {
    let mut outer = DerReader::new(pkcs8);
    let mut r = outer.enter(der::SEQUENCE)?;
    outer.end()?;
    if r.small_integer()? > 1 {
        return Err(Error::unsupported("PKCS#8 of a version above 2"));
    }
    let algorithm = AlgorithmIdentifier::read(r.enter(der::SEQUENCE)?)?;
    let inner = r.read(der::OCTET_STRING)?;
    // What may follow (attributes, a public key) doesn't matter.
    match algorithm {
        AlgorithmIdentifier::Rsa => Ok(PrivateKeyInfo {
            algorithm,
            key: inner,
            point: None,
        }),
        AlgorithmIdentifier::X25519 | AlgorithmIdentifier::X448 => Ok(PrivateKeyInfo {
            algorithm,
            key: DerReader::new(inner).read(der::OCTET_STRING)?,
            point: None,
        }),
        AlgorithmIdentifier::Ec(curve) => read_sec1(inner, Some(curve)),
    }
}

/// Takes a SEC 1 ECPrivateKey apart; `curve` is what the structure around it says.
///
/// # Errors
/// As [`read_spki`]; corrupt if no curve is named or two different ones.
pub fn read_sec1<'a>(sec1: &'a [u8], curve: Option<&'a [u8]>) -> Result<PrivateKeyInfo<'a>> {
    let mut outer = DerReader::new(sec1);
    let mut r = outer.enter(der::SEQUENCE)?;
    outer.end()?;
    if r.small_integer()? != 1 {
        return Err(Error::unsupported(
            "EC private key of a version other than 1",
        ));
    }
    let key = r.read(der::OCTET_STRING)?;
    let mut own = None;
    if let Some(parameters) = r.optional(der::EXPLICIT_0)? {
        if parameters.first() == Some(&der::SEQUENCE) {
            return Err(Error::unsupported(
                "an EC key with explicit curve parameters instead of a curve's name",
            ));
        }
        own = Some(DerReader::new(parameters).read(der::OID)?);
    }
    let point = match r.optional(der::EXPLICIT_1)? {
        Some(bits) => Some(DerReader::new(bits).bit_string()?),
        None => None,
    };
    r.end()?;
    match (curve, own) {
        (Some(a), Some(b)) if a != b => Err(Error::corrupt("EC key that names two curves")),
        (Some(oid), _) | (None, Some(oid)) => Ok(PrivateKeyInfo {
            algorithm: AlgorithmIdentifier::Ec(oid),
            key,
            point,
        }),
        (None, None) => Err(Error::corrupt("EC key without a curve")),
    }
}

/// A PKCS#8 PrivateKeyInfo, the reverse of [`read_pkcs8`]. An EC number should have as many bytes
/// as the curve's field.
pub fn write_pkcs8(parts: &PrivateKeyInfo<'_>) -> Secret {
    let inner = match parts.algorithm {
        AlgorithmIdentifier::Rsa => Secret::new(parts.key.to_vec()),
        AlgorithmIdentifier::X25519 | AlgorithmIdentifier::X448 => {
            element(der::OCTET_STRING, &[parts.key])
        }
        AlgorithmIdentifier::Ec(_) => {
            let point = parts.point.map(|point| {
                let bits = element(der::BIT_STRING, &[&[0], point]);
                element(der::EXPLICIT_1, &[&bits])
            });
            element(
                der::SEQUENCE,
                &[
                    &der::small_integer(1),
                    &element(der::OCTET_STRING, &[parts.key]),
                    point.as_deref().unwrap_or_default(),
                ],
            )
        }
    };
    element(
        der::SEQUENCE,
        &[
            &der::small_integer(0),
            &parts.algorithm.write(),
            &element(der::OCTET_STRING, &[&inner]),
        ],
    )
}

/// How much work it takes to try a password on a PKCS#8 EncryptedPrivateKeyInfo, in rounds of a
/// hash (scrypt: an estimate), so that a caller can refuse it beforehand.
///
/// # Errors
/// Truncated or corrupt DER; unsupported key derivation.
pub fn kdf_rounds(encrypted: &[u8]) -> Result<u64> {
    let mut outer = DerReader::new(encrypted);
    let mut r = outer.enter(der::SEQUENCE)?;
    outer.end()?;
    let mut algorithm = r.enter(der::SEQUENCE)?;
    let scheme = algorithm.read(der::OID)?;
    let mut parameters = algorithm.enter(der::SEQUENCE)?;
    if scheme != PBES2 {
        // PKCS#5 1.5 and PKCS#12: salt, rounds.
        parameters.read(der::OCTET_STRING)?;
        return parameters.small_integer();
    }
    let mut kdf = parameters.enter(der::SEQUENCE)?;
    let name = kdf.read(der::OID)?;
    let mut parameters = kdf.enter(der::SEQUENCE)?;
    parameters.read(der::OCTET_STRING)?;
    let n = parameters.small_integer()?;
    match name {
        PBKDF2 => Ok(n),
        // N blocks of 2r 64-byte pieces are made and mixed, p times over; a piece costs about
        // a tenth of a SHA-256 round.
        SCRYPT => {
            let (r, p) = (parameters.small_integer()?, parameters.small_integer()?);
            Ok(n.saturating_mul(r).saturating_mul(p).saturating_mul(4) / 10)
        }
        _ => Err(Error::unsupported(format!(
            "a password with key derivation {}",
            oid_text(name)
        ))),
    }
}

/// A PKCS#8 EncryptedPrivateKeyInfo: PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC.
pub fn write_encrypted(salt: &[u8], rounds: u32, iv: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let oid = |oid: &[u8]| element(der::OID, &[oid]);
    let prf = element(
        der::SEQUENCE,
        &[&oid(HMAC_SHA256), &element(der::NULL, &[])],
    );
    let kdf_parameters = element(
        der::SEQUENCE,
        &[
            &element(der::OCTET_STRING, &[salt]),
            &der::small_integer(rounds.into()),
            &prf,
        ],
    );
    let kdf = element(der::SEQUENCE, &[&oid(PBKDF2), &kdf_parameters]);
    let cipher = element(
        der::SEQUENCE,
        &[&oid(AES_256_CBC), &element(der::OCTET_STRING, &[iv])],
    );
    let scheme = element(
        der::SEQUENCE,
        &[&oid(PBES2), &element(der::SEQUENCE, &[&kdf, &cipher])],
    );
    element(
        der::SEQUENCE,
        &[&scheme, &element(der::OCTET_STRING, &[ciphertext])],
    )
    .to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

    fn algorithm() -> impl Strategy<Value = AlgorithmIdentifier<'static>> {
        prop_oneof![
            Just(AlgorithmIdentifier::Ec(P256)),
            Just(AlgorithmIdentifier::X25519),
            Just(AlgorithmIdentifier::X448),
            Just(AlgorithmIdentifier::Rsa)
        ]
    }

    proptest! {
        #[test]
        fn keys_are_read_back(algorithm in algorithm(), key: Vec<u8>, point: Option<Vec<u8>>) {
            let spki = write_spki(&algorithm, &key);
            prop_assert_eq!(read_spki(&spki).unwrap(), (algorithm.clone(), key.as_slice()));
            let point = point.as_deref().filter(|_| matches!(algorithm, AlgorithmIdentifier::Ec(_)));
            let parts = PrivateKeyInfo { algorithm, key: &key, point };
            let pkcs8 = write_pkcs8(&parts);
            let back = read_pkcs8(&pkcs8).unwrap();
            prop_assert_eq!(back.algorithm, parts.algorithm);
            prop_assert_eq!((back.key, back.point), (parts.key, parts.point));
        }

        #[test]
        fn damage_is_survived(key: Vec<u8>, at: prop::sample::Index, bits in 1..=255u8) {
            let parts = PrivateKeyInfo { algorithm: AlgorithmIdentifier::Ec(P256), key: &key, point: None };
            let mut pkcs8 = write_pkcs8(&parts).to_vec();
            let at = at.index(pkcs8.len());
            pkcs8[at] ^= bits;
            let _ = read_pkcs8(&pkcs8);
            let mut spki = write_spki(&AlgorithmIdentifier::Rsa, &key);
            let at = at % spki.len();
            spki[at] ^= bits;
            let _ = read_spki(&spki);
            let mut encrypted = write_encrypted(&key, 7, &key, &key);
            prop_assert_eq!(kdf_rounds(&encrypted).unwrap(), 7);
            let at = at % encrypted.len();
            encrypted[at] ^= bits;
            let _ = kdf_rounds(&encrypted);
        }
    }
}
