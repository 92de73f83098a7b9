//! X25519 and X448 (RFC 7748), as Dovecot 2.4 uses them.
#![forbid(unsafe_code)]

use std::sync::Arc;

use openssl::derive::Deriver;
use openssl::pkey::{Id, PKey, Private, Public};

use super::Secret;
use crate::error::{Error, Result};

/// One of the two curves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XCurve {
    /// 32-byte keys.
    X25519,
    /// 56-byte keys.
    X448,
}

impl XCurve {
    /// The curve of that name, in OpenSSL's spelling.
    pub fn by_name(name: &str) -> Option<Self> {
        [XCurve::X25519, XCurve::X448]
            .into_iter()
            .find(|curve| name == curve.name() || name == curve.oid_text())
    }

    /// OpenSSL's name.
    pub fn name(self) -> &'static str {
        match self {
            XCurve::X25519 => "X25519",
            XCurve::X448 => "X448",
        }
    }

    /// The object identifier in dotted text.
    pub fn oid_text(self) -> &'static str {
        match self {
            XCurve::X25519 => "1.3.101.110",
            XCurve::X448 => "1.3.101.111",
        }
    }

    /// The size of public keys, private keys and secrets in bytes.
    pub fn key_len(self) -> usize {
        match self {
            XCurve::X25519 => 32,
            XCurve::X448 => 56,
        }
    }

    fn id(self) -> Id {
        match self {
            XCurve::X25519 => Id::X25519,
            XCurve::X448 => Id::X448,
        }
    }

    fn check_len(self, bytes: &[u8], what: &str) -> Result<()> {
        if bytes.len() == self.key_len() {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "{what} of {} bytes where {} has {}",
            bytes.len(),
            self.name(),
            self.key_len()
        )))
    }

    fn agree(self, own: &PKey<Private>, peer: &PKey<Public>) -> Result<Secret> {
        let mut deriver = Deriver::new(own)?;
        deriver.set_peer(peer)?;
        let mut secret = Secret::zeroed(self.key_len());
        // libcrypto refuses the all-zero secret that points of small order lead to.
        let len = deriver
            .derive(&mut secret)
            .map_err(|_| Error::corrupt(format!("{} key of small order", self.name())))?;
        if len != secret.len() {
            return Err(Error::corrupt("shared secret of a wrong size"));
        }
        Ok(secret)
    }
}

/// A public key.
pub struct XPublic {
    curve: XCurve,
    raw: Vec<u8>,
    key: PKey<Public>,
}

impl XPublic {
    /// The key with these bytes.
    ///
    /// # Errors
    /// Corrupt if they have the wrong number.
    pub fn from_bytes(curve: XCurve, raw: &[u8]) -> Result<Self> {
        curve.check_len(raw, "public key")?;
        Ok(XPublic {
            curve,
            raw: raw.to_vec(),
            key: PKey::public_key_from_raw_bytes(raw, curve.id())?,
        })
    }

    /// Its curve.
    pub fn curve(&self) -> XCurve {
        self.curve
    }

    /// The bytes of the key.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Agrees on a secret with the holder of the private key: returns a fresh ephemeral key and
    /// the secret.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn agree_ephemeral(&self) -> Result<(Vec<u8>, Secret)> {
        let own = generate(self.curve)?;
        Ok((own.raw_public_key()?, self.curve.agree(&own, &self.key)?))
    }
}

fn generate(curve: XCurve) -> Result<PKey<Private>> {
    Ok(match curve {
        XCurve::X25519 => PKey::generate_x25519()?,
        XCurve::X448 => PKey::generate_x448()?,
    })
}

/// A private key.
pub struct XPrivate {
    key: PKey<Private>,
    public: Arc<XPublic>,
}

impl XPrivate {
    /// A new random key.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn generate(curve: XCurve) -> Result<Self> {
        Self::from_key(curve, generate(curve)?)
    }

    /// The key with these bytes.
    ///
    /// # Errors
    /// Corrupt if they have the wrong number.
    pub fn from_bytes(curve: XCurve, raw: &[u8]) -> Result<Self> {
        curve.check_len(raw, "private key")?;
        Self::from_key(curve, PKey::private_key_from_raw_bytes(raw, curve.id())?)
    }

    fn from_key(curve: XCurve, key: PKey<Private>) -> Result<Self> {
        let public = Arc::new(XPublic::from_bytes(curve, &key.raw_public_key()?)?);
        Ok(XPrivate { key, public })
    }

    /// Its public half.
    pub fn public(&self) -> &Arc<XPublic> {
        &self.public
    }

    /// The bytes of the key.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn to_bytes(&self) -> Result<Secret> {
        Ok(Secret::new(self.key.raw_private_key()?))
    }

    /// The secret shared with the holder of `ephemeral`.
    ///
    /// # Errors
    /// Corrupt if it has the wrong size or is of small order.
    pub fn agree(&self, ephemeral: &[u8]) -> Result<Secret> {
        let curve = self.public.curve;
        let peer = XPublic::from_bytes(curve, ephemeral)?;
        curve.agree(&self.key, &peer.key)
    }
}
