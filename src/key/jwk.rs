//! Keys in JSON Web Key form, as settings may hold them.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::public::AnyPublic;
use super::{PrivateKey, PublicKey, is_private, is_public};
use crate::crypto::ec::{Curve, EcPublic};
use crate::crypto::rsa::{RsaPrivate, RsaPublic};
use crate::crypto::without_zeros;
use crate::crypto::xdh::{XCurve, XPublic};
use crate::error::{Error, Result};
use crate::format::jwk::Jwk;
use crate::format::keyinfo::{AlgorithmIdentifier, PrivateKeyInfo};

/// Whether `text` looks like a JWK.
pub(super) fn looks_like(text: &str) -> bool {
    text.starts_with('{')
}

/// What `kty` and `crv` say.
enum JwkType {
    Ec(Arc<Curve>),
    X(XCurve),
    Rsa,
}

fn key_type(jwk: &Jwk) -> Result<JwkType> {
    // RFC 7518 and 8037; their names of the curves are not OpenSSL's.
    match (jwk.get("kty"), jwk.get("crv")) {
        (Some("EC"), Some("P-256")) => Curve::by_name("prime256v1").map(JwkType::Ec),
        (Some("EC"), Some("P-384")) => Curve::by_name("secp384r1").map(JwkType::Ec),
        (Some("EC"), Some("P-521")) => Curve::by_name("secp521r1").map(JwkType::Ec),
        (Some("OKP"), Some("X25519")) => Ok(JwkType::X(XCurve::X25519)),
        (Some("OKP"), Some("X448")) => Ok(JwkType::X(XCurve::X448)),
        (Some("RSA"), _) => Ok(JwkType::Rsa),
        _ => Err(Error::unsupported(
            "JWK that is not RSA, EC on P-256, P-384 or P-521, or OKP on X25519 or X448",
        )),
    }
}

/// The uncompressed point. Dovecot writes coordinates without their leading zeros.
fn point(jwk: &Jwk, curve: &Curve) -> Result<Vec<u8>> {
    let mut point = vec![4];
    for name in ["x", "y"] {
        let number = jwk.bytes(name)?;
        let number = without_zeros(&number);
        let Some(padding) = curve.field_len().checked_sub(number.len()) else {
            return Err(Error::corrupt(format!(
                "JWK with a '{name}' that is too large"
            )));
        };
        point.resize(point.len() + padding, 0);
        point.extend_from_slice(number);
    }
    Ok(point)
}

/// Parses a public key.
///
/// # Errors
/// Corrupt or unsupported; corrupt for a private key.
pub(super) fn parse_public(text: &str) -> Result<PublicKey> {
    let jwk = Jwk::parse(text)?;
    let key_type = key_type(&jwk)?;
    if jwk.get("d").is_some() {
        return Err(is_private());
    }
    PublicKey::new(match key_type {
        JwkType::Ec(curve) => {
            let point = point(&jwk, &curve)?;
            AnyPublic::Ec(Arc::new(EcPublic::from_bytes(&curve, &point)?))
        }
        JwkType::X(curve) => AnyPublic::X(Arc::new(XPublic::from_bytes(curve, &jwk.bytes("x")?)?)),
        JwkType::Rsa => {
            let key = RsaPublic::from_numbers(&jwk.bytes("n")?, &jwk.bytes("e")?)?;
            AnyPublic::Rsa(Arc::new(key))
        }
    })
}

/// Parses a private key.
///
/// # Errors
/// Corrupt or unsupported; corrupt for a public key.
pub(super) fn parse_private(text: &str) -> Result<PrivateKey> {
    let jwk = Jwk::parse(text)?;
    let key_type = key_type(&jwk)?;
    if jwk.get("d").is_none() {
        return Err(is_public());
    }
    match key_type {
        JwkType::Ec(curve) => PrivateKey::from_parts(PrivateKeyInfo {
            algorithm: AlgorithmIdentifier::Ec(curve.oid()),
            key: &jwk.bytes("d")?,
            point: Some(&point(&jwk, &curve)?),
        }),
        JwkType::X(curve) => {
            let key = PrivateKey::from_raw(curve, &jwk.bytes("d")?)?;
            let public = XPublic::from_bytes(curve, &jwk.bytes("x")?)?;
            if PublicKey::new(AnyPublic::X(Arc::new(public)))?.id() != key.id() {
                return Err(Error::corrupt(
                    "private key with a public key that isn't its own",
                ));
            }
            Ok(key)
        }
        JwkType::Rsa => {
            let mut numbers = Vec::new();
            for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
                numbers.push(jwk.bytes(name)?);
            }
            let slices: Vec<&[u8]> = numbers.iter().map(|n| &n[..]).collect();
            let slices = slices.try_into().map_err(|_| Error::corrupt("JWK"))?;
            PrivateKey::from_rsa(RsaPrivate::from_numbers(slices)?)
        }
    }
}
