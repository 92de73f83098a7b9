//! Private keys.
#![forbid(unsafe_code)]

use std::sync::Arc;

use zeroize::Zeroizing;

use super::public::AnyPublic;
use super::{KeyId, KeyType, PASSWORD_ROUNDS, PublicKey, wrap};
use crate::crypto::cipher::aes256_cbc_encrypt;
use crate::crypto::digest::Digest;
use crate::crypto::ec::{Curve, EcPrivate};
use crate::crypto::rsa::RsaPrivate;
use crate::crypto::xdh::{XCurve, XPrivate};
use crate::crypto::{self, Secret};
use crate::error::{Error, Result};
use crate::format::keyinfo::{self, AlgorithmIdentifier, PrivateKeyInfo};
use crate::format::keystring::{self, Encryption};
use crate::format::pem;

/// RSA's object identifier in key strings.
const RSA_OID: &str = "1.2.840.113549.1.1.1";
/// The smallest field of a new key's curve, in bits: 112 bits of strength. Smaller ones are only
/// read.
const MIN_NEW_BITS: u32 = 224;

/// A private key. A clone is another reference to the same key, which is wiped with the last.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    key: AnyPrivate,
    public: PublicKey,
}

enum AnyPrivate {
    Ec(EcPrivate),
    X(XPrivate),
    Rsa(RsaPrivate),
}

/// What protects a private key in its key string.
pub enum Protect<'a> {
    /// Nothing.
    None,
    /// A password, which must not be empty.
    Password {
        /// The password.
        password: &'a [u8],
        /// PBKDF2 rounds that it is stretched with, within 1..=[`keystring::MAX_ROUNDS`].
        rounds: u32,
    },
    /// Another key: only its private half opens the string.
    Key(&'a PublicKey),
}

impl<'a> Protect<'a> {
    /// A password, stretched with the default rounds.
    pub fn password(password: &'a [u8]) -> Self {
        let rounds = PASSWORD_ROUNDS;
        Protect::Password { password, rounds }
    }
}

enum NewCurve {
    Ec(Arc<Curve>),
    X(XCurve),
}

fn new_curve(name: &str) -> Result<NewCurve> {
    if let Some(curve) = XCurve::by_name(name) {
        return Ok(NewCurve::X(curve));
    }
    match Curve::by_name(name) {
        Ok(curve) if curve.bits() >= MIN_NEW_BITS => Ok(NewCurve::Ec(curve)),
        // This ends up in the log: quote a name, and not a whole text given by mistake.
        _ => Err(Error::setting(format!(
            "keys can't be made on the curve '{}' (use prime256v1, secp384r1, secp521r1, X25519 \
             or X448)",
            name.escape_default().take(40).collect::<String>()
        ))),
    }
}

/// Whether [`PrivateKey::generate`] can make keys on the curve of that name.
///
/// # Errors
/// [`crate::ErrorKind::Setting`], naming those that can be used.
pub fn check_curve(name: &str) -> Result<()> {
    // Every libcrypto has these: a session that makes no key needn't wake it.
    if ["prime256v1", "secp384r1", "secp521r1"].contains(&name) {
        return Ok(());
    }
    new_curve(name).map(|_| ())
}

impl PrivateKey {
    /// A new key on the curve of that name: OpenSSL's name of it, case matters.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] as [`check_curve`]; else as libcrypto.
    pub fn generate(curve: &str) -> Result<Self> {
        Self::new(match new_curve(curve)? {
            NewCurve::Ec(curve) => AnyPrivate::Ec(EcPrivate::generate(&curve)?),
            NewCurve::X(curve) => AnyPrivate::X(XPrivate::generate(curve)?),
        })
    }

    fn new(key: AnyPrivate) -> Result<Self> {
        let public = PublicKey::new(match &key {
            AnyPrivate::Ec(key) => AnyPublic::Ec(Arc::clone(key.public())),
            AnyPrivate::X(key) => AnyPublic::X(Arc::clone(key.public())),
            AnyPrivate::Rsa(key) => AnyPublic::Rsa(Arc::clone(key.public())),
        })?;
        Ok(PrivateKey(Arc::new(Inner { key, public })))
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self> {
        Self::from_parts(keyinfo::read_pkcs8(der)?)
    }

    pub(super) fn from_sec1(der: &[u8]) -> Result<Self> {
        Self::from_parts(keyinfo::read_sec1(der, None)?)
    }

    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self> {
        Self::from_rsa(RsaPrivate::from_pkcs1(der)?)
    }

    pub(super) fn from_rsa(key: RsaPrivate) -> Result<Self> {
        Self::new(AnyPrivate::Rsa(key))
    }

    pub(super) fn from_parts(parts: PrivateKeyInfo<'_>) -> Result<Self> {
        match parts.algorithm {
            AlgorithmIdentifier::Rsa => Self::from_pkcs1(parts.key),
            AlgorithmIdentifier::X25519 => Self::from_raw(XCurve::X25519, parts.key),
            AlgorithmIdentifier::X448 => Self::from_raw(XCurve::X448, parts.key),
            AlgorithmIdentifier::Ec(oid) => {
                let curve = wrap::curve_by_oid(oid)?;
                let key = EcPrivate::from_bytes(&curve, parts.key)?;
                if let Some(point) = parts.point {
                    let claimed = crypto::ec::EcPublic::from_bytes(&curve, point)?;
                    if claimed.compressed() != key.public().compressed() {
                        return Err(Error::corrupt(
                            "private key with a public key that isn't its own",
                        ));
                    }
                }
                Self::new(AnyPrivate::Ec(key))
            }
        }
    }

    pub(super) fn from_raw(curve: XCurve, raw: &[u8]) -> Result<Self> {
        Self::new(AnyPrivate::X(XPrivate::from_bytes(curve, raw)?))
    }

    /// The key that a key string holds, decrypted.
    pub(super) fn from_string_bytes(algorithm: &KeyEncoding, bytes: &[u8]) -> Result<Self> {
        match algorithm {
            KeyEncoding::Number(curve) => {
                Self::new(AnyPrivate::Ec(EcPrivate::from_bytes(curve, bytes)?))
            }
            KeyEncoding::Mpi(curve) => {
                let number = read_mpi(bytes)?;
                Self::new(AnyPrivate::Ec(EcPrivate::from_bytes(curve, number)?))
            }
            KeyEncoding::Raw(curve) => Self::from_raw(*curve, bytes),
            KeyEncoding::Pkcs1 => Self::from_pkcs1(bytes),
        }
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.0.public.id()
    }

    /// Its old id. RSA keys have none.
    pub fn old_id(&self) -> Option<KeyId> {
        self.0.public.old_id()
    }

    /// Whether `id` is its id or old id.
    pub fn matches(&self, id: &KeyId) -> bool {
        self.0.public.matches(id)
    }

    /// Its type.
    pub fn key_type(&self) -> KeyType {
        self.0.public.key_type()
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        self.0.public.clone()
    }

    /// The secret shared with the holder of `ephemeral`: a compressed or uncompressed point on
    /// this key's curve, X25519 and X448: the raw key. EC: the x coordinate with leading zeros.
    ///
    /// # Errors
    /// Corrupt if it is not a key on this key's curve; unsupported for RSA.
    pub fn agree(&self, ephemeral: &[u8]) -> Result<Secret> {
        match &self.0.key {
            AnyPrivate::Ec(key) => key.agree(ephemeral),
            AnyPrivate::X(key) => key.agree(ephemeral),
            AnyPrivate::Rsa(_) => Err(Error::unsupported("key agreement with an RSA key")),
        }
    }

    /// Undoes [`PublicKey::rsa_encrypt`].
    ///
    /// # Errors
    /// Corrupt if it was not made for this key; unsupported for other kinds.
    pub fn rsa_decrypt(&self, data: &[u8]) -> Result<Secret> {
        match &self.0.key {
            AnyPrivate::Rsa(key) => key.decrypt(data),
            _ => Err(Error::unsupported(
                "RSA decryption with another kind of key",
            )),
        }
    }

    /// A secret that only who has this key can make, for the purpose that `label` names.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn derive(&self, label: &[u8]) -> Result<Secret> {
        let text = self.to_dovecot(Protect::None)?;
        Ok(Secret::new(Digest::Sha256.hmac(text.as_bytes(), &[label])?))
    }

    /// A version 2 key string.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] for an empty password; else as libcrypto.
    pub fn to_dovecot(&self, protect: Protect<'_>) -> Result<Zeroizing<String>> {
        let (oid, key) = match &self.0.key {
            AnyPrivate::Ec(key) => {
                let number = key.to_bytes()?;
                (key.public().curve().oid_text(), write_mpi(&number))
            }
            AnyPrivate::X(key) => (key.public().curve().oid_text(), key.to_bytes()?),
            AnyPrivate::Rsa(key) => (RSA_OID, key.to_pkcs1()?),
        };
        let (encryption, key) = match protect {
            Protect::None => (Encryption::None, key),
            Protect::Password { password, rounds } => wrap::under_password(&key, password, rounds)?,
            Protect::Key(other) => wrap::under_key(&key, other)?,
        };
        keystring::write_private(oid, &encryption, &key, &self.id().0)
    }

    /// PEM (PKCS#8); under a password PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`] for an empty password or one that libcrypto can't take;
    /// else as libcrypto.
    pub fn to_pem(&self, password: Option<&[u8]>) -> Result<Zeroizing<String>> {
        let der = self.to_pkcs8()?;
        let Some(password) = password else {
            return Ok(pem::write("PRIVATE KEY", &der));
        };
        if password.is_empty() || password.len() > crypto::pkcs8::MAX_PASSWORD {
            return Err(Error::setting(format!(
                "a password for PEM must have 1 to {} bytes",
                crypto::pkcs8::MAX_PASSWORD
            )));
        }
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        crypto::random(&mut salt)?;
        crypto::random(&mut iv)?;
        let key = Digest::Sha256.pbkdf2(password, &salt, PASSWORD_ROUNDS, 32)?;
        let sealed = aes256_cbc_encrypt(&key, &iv, &der)?;
        let der = keyinfo::write_encrypted(&salt, PASSWORD_ROUNDS, &iv, &sealed);
        Ok(pem::write("ENCRYPTED PRIVATE KEY", &der))
    }

    fn to_pkcs8(&self) -> Result<Secret> {
        let (bytes, point);
        let parts = match &self.0.key {
            AnyPrivate::Ec(key) => {
                (bytes, point) = (key.to_bytes()?, key.public().uncompressed()?);
                PrivateKeyInfo {
                    algorithm: AlgorithmIdentifier::Ec(key.public().curve().oid()),
                    key: &bytes,
                    point: Some(&point),
                }
            }
            AnyPrivate::X(key) => {
                bytes = key.to_bytes()?;
                PrivateKeyInfo {
                    algorithm: match key.public().curve() {
                        XCurve::X25519 => AlgorithmIdentifier::X25519,
                        XCurve::X448 => AlgorithmIdentifier::X448,
                    },
                    key: &bytes,
                    point: None,
                }
            }
            AnyPrivate::Rsa(key) => {
                bytes = key.to_pkcs1()?;
                PrivateKeyInfo {
                    algorithm: AlgorithmIdentifier::Rsa,
                    key: &bytes,
                    point: None,
                }
            }
        };
        Ok(keyinfo::write_pkcs8(&parts))
    }
}

/// How a key string's bytes become a key.
pub(super) enum KeyEncoding {
    /// Version 1: a big-endian number.
    Number(Arc<Curve>),
    /// Version 2: OpenSSL's MPI.
    Mpi(Arc<Curve>),
    /// X25519, X448: the key itself.
    Raw(XCurve),
    /// RSA.
    Pkcs1,
}

impl KeyEncoding {
    /// What the key string names.
    ///
    /// # Errors
    /// Unsupported.
    pub(super) fn of(named: &keystring::AlgorithmName) -> Result<Self> {
        match named {
            keystring::AlgorithmName::Nid(nid) => Ok(KeyEncoding::Number(Curve::by_number(*nid)?)),
            keystring::AlgorithmName::Oid(oid) if oid == RSA_OID => Ok(KeyEncoding::Pkcs1),
            keystring::AlgorithmName::Oid(oid) => match XCurve::by_name(oid) {
                Some(curve) => Ok(KeyEncoding::Raw(curve)),
                None => Ok(KeyEncoding::Mpi(Curve::by_name(oid)?)),
            },
        }
    }
}

/// OpenSSL's MPI: u32 length, then that many bytes of a big-endian number whose top bit is the
/// sign.
fn read_mpi(bytes: &[u8]) -> Result<&[u8]> {
    match bytes.split_first_chunk::<4>() {
        Some((len, number))
            if u32::from_be_bytes(*len) as usize == number.len()
                && number.first().is_some_and(|top| top & 0x80 == 0) =>
        {
            Ok(number)
        }
        _ => Err(Error::corrupt("private key that is not a number")),
    }
}

fn write_mpi(number: &[u8]) -> Secret {
    let number = crypto::without_zeros(number);
    let sign = usize::from(number.first().is_some_and(|top| top & 0x80 != 0));
    let mut out = Secret::with_capacity(4 + 1 + number.len());
    out.extend_from_slice(&((number.len() + sign) as u32).to_be_bytes());
    if sign == 1 {
        out.push(0);
    }
    out.extend_from_slice(number);
    out
}
