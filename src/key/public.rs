//! Public keys.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{KeyId, KeyType};
use crate::crypto::Secret;
use crate::crypto::digest::Digest;
use crate::crypto::ec::EcPublic;
use crate::crypto::rsa::RsaPublic;
use crate::crypto::xdh::{XCurve, XPublic};
use crate::error::{Error, Result};
use crate::format::keyinfo::{self, AlgorithmIdentifier};
use crate::format::{keystring, pem};
use crate::hex;

/// A public key with its ids. A clone is another reference to the same key.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    key: AnyPublic,
    id: KeyId,
    old_id: Option<KeyId>,
}

/// The key itself.
#[derive(Clone)]
pub(super) enum AnyPublic {
    Ec(Arc<EcPublic>),
    X(Arc<XPublic>),
    Rsa(Arc<RsaPublic>),
}

impl AnyPublic {
    fn algorithm(&self) -> AlgorithmIdentifier<'_> {
        match self {
            AnyPublic::Ec(key) => AlgorithmIdentifier::Ec(key.curve().oid()),
            AnyPublic::X(key) if key.curve() == XCurve::X25519 => AlgorithmIdentifier::X25519,
            AnyPublic::X(_) => AlgorithmIdentifier::X448,
            AnyPublic::Rsa(_) => AlgorithmIdentifier::Rsa,
        }
    }

    /// As the formats store it: compressed point, raw key, PKCS#1.
    fn bytes(&self) -> &[u8] {
        match self {
            AnyPublic::Ec(key) => key.compressed(),
            AnyPublic::X(key) => key.raw(),
            AnyPublic::Rsa(key) => key.pkcs1(),
        }
    }
}

fn sha256(data: &[u8]) -> Result<KeyId> {
    let hash = Digest::Sha256.hash(&[data])?;
    <[u8; 32]>::try_from(hash)
        .map(KeyId)
        .map_err(|_| Error::internal("SHA-256 of a wrong size"))
}

impl PublicKey {
    pub(super) fn new(key: AnyPublic) -> Result<Self> {
        let id = sha256(&keyinfo::write_spki(&key.algorithm(), key.bytes()))?;
        // Dovecot 2.4 gives X25519 and X448 keys an old id too, over the raw key.
        let old_id = match &key {
            AnyPublic::Rsa(_) => None,
            _ => Some(sha256(hex::encode_upper(key.bytes()).as_bytes())?),
        };
        Ok(PublicKey(Arc::new(Inner { key, id, old_id })))
    }

    /// The key in a DER SubjectPublicKeyInfo, its EC point compressed or not.
    ///
    /// # Errors
    /// Truncated, corrupt or unsupported.
    pub fn from_spki(spki: &[u8]) -> Result<Self> {
        let (algorithm, bytes) = keyinfo::read_spki(spki)?;
        Self::new(match algorithm {
            AlgorithmIdentifier::Ec(oid) => {
                let curve = super::wrap::curve_by_oid(oid)?;
                AnyPublic::Ec(Arc::new(EcPublic::from_bytes(&curve, bytes)?))
            }
            AlgorithmIdentifier::X25519 => {
                AnyPublic::X(Arc::new(XPublic::from_bytes(XCurve::X25519, bytes)?))
            }
            AlgorithmIdentifier::X448 => {
                AnyPublic::X(Arc::new(XPublic::from_bytes(XCurve::X448, bytes)?))
            }
            AlgorithmIdentifier::Rsa => AnyPublic::Rsa(Arc::new(RsaPublic::from_pkcs1(bytes)?)),
        })
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// Its old id. RSA keys have none.
    pub fn old_id(&self) -> Option<KeyId> {
        self.0.old_id
    }

    /// Whether `id` is its id or old id.
    pub fn matches(&self, id: &KeyId) -> bool {
        self.0.id == *id || self.0.old_id == Some(*id)
    }

    /// Its type.
    pub fn key_type(&self) -> KeyType {
        match &self.0.key {
            AnyPublic::Ec(_) => KeyType::Ec,
            AnyPublic::X(key) if key.curve() == XCurve::X25519 => KeyType::X25519,
            AnyPublic::X(_) => KeyType::X448,
            AnyPublic::Rsa(_) => KeyType::Rsa,
        }
    }

    /// OpenSSL's name of its curve, e.g. `prime256v1`; none for RSA.
    pub fn curve_name(&self) -> Option<&'static str> {
        match &self.0.key {
            AnyPublic::Ec(key) => Some(key.curve().name()),
            AnyPublic::X(key) => Some(key.curve().name()),
            AnyPublic::Rsa(_) => None,
        }
    }

    /// The size of the key in bits: of the curve's field, or of RSA's modulus.
    pub fn bits(&self) -> u32 {
        match &self.0.key {
            AnyPublic::Ec(key) => key.curve().bits(),
            AnyPublic::X(key) if key.curve() == XCurve::X25519 => 255,
            AnyPublic::X(_) => 448,
            AnyPublic::Rsa(key) => key.bits(),
        }
    }

    /// A version 2 key string.
    pub fn to_dovecot(&self) -> String {
        let key = &self.0.key;
        let spki = keyinfo::write_spki(&key.algorithm(), key.bytes());
        keystring::write_public(&spki, &self.0.id.0)
    }

    /// PEM (SubjectPublicKeyInfo, EC point uncompressed as other software expects it).
    ///
    /// # Errors
    /// As libcrypto.
    pub fn to_pem(&self) -> Result<String> {
        let algorithm = self.0.key.algorithm();
        let spki = match &self.0.key {
            AnyPublic::Ec(key) => keyinfo::write_spki(&algorithm, &key.uncompressed()?),
            key => keyinfo::write_spki(&algorithm, key.bytes()),
        };
        Ok(pem::write("PUBLIC KEY", &spki).to_string())
    }

    /// Agrees on a secret with the holder of the private key by means of a fresh ephemeral key.
    ///
    /// Returns the ephemeral public key as streams and key strings store it (EC: uncompressed
    /// point; X25519, X448: raw) and the secret (EC: x coordinate with its leading zeros).
    ///
    /// # Errors
    /// Unsupported for RSA; else as libcrypto.
    pub fn agree_ephemeral(&self) -> Result<(Vec<u8>, Secret)> {
        match &self.0.key {
            AnyPublic::Ec(key) => key.agree_ephemeral(),
            AnyPublic::X(key) => key.agree_ephemeral(),
            AnyPublic::Rsa(_) => Err(Error::unsupported("key agreement with an RSA key")),
        }
    }

    /// Encrypts `data` to an RSA key: OAEP with SHA-1 and MGF1-SHA-1.
    ///
    /// # Errors
    /// Unsupported for other keys; as libcrypto for more than 42 bytes less than the key has.
    pub fn rsa_encrypt(&self, data: &[u8]) -> Result<Vec<u8>> {
        match &self.0.key {
            AnyPublic::Rsa(key) => key.encrypt(data),
            _ => Err(Error::unsupported("RSA encryption to another kind of key")),
        }
    }
}
