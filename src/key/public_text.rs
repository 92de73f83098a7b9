//! Public keys as administrators and Dovecot write them.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::public::{AnyPublic, PublicKey};
use super::{KeyId, as_setting, is_private, jwk};
use crate::crypto::ec::{Curve, EcPublic};
use crate::error::{Error, Result};
use crate::format::keystring::{self, KeyString, PublicString};
use crate::format::{base64, pem};

impl PublicKey {
    /// Parses a public key: a key string of version 1 or 2, PEM (SubjectPublicKeyInfo), a JSON
    /// Web Key, or any of these in base64 on one line. White space around it is ignored.
    ///
    /// # Errors
    /// Truncated, corrupt (also if the id in the string is not the key's) or unsupported; a
    /// private key is refused as corrupt. No error shows any of the text.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > keystring::MAX_TEXT {
            return Err(Error::corrupt("key longer than 64 KB"));
        }
        if let Some(key) = Self::parse_direct(text)? {
            return Ok(key);
        }
        let decoded = base64::decode(text).map_err(|_| unknown())?;
        let text = std::str::from_utf8(&decoded).map_err(|_| unknown())?;
        Self::parse_direct(text.trim())?.ok_or_else(unknown)
    }

    /// As [`PublicKey::parse`], for the value of a setting.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Setting`].
    pub fn parse_setting(text: &str) -> Result<Self> {
        Self::parse(text).map_err(as_setting)
    }

    fn parse_direct(text: &str) -> Result<Option<Self>> {
        if text.starts_with(pem::BEGIN) {
            let block = pem::first(text, &["EC PARAMETERS"])?;
            return match block.label {
                "PUBLIC KEY" => Self::from_spki(&block.data).map(Some),
                label if label.ends_with("PRIVATE KEY") => Err(is_private()),
                _ => Err(Error::unsupported(
                    "PEM that is not a PUBLIC KEY (convert it with 'openssl pkey -pubin')",
                )),
            };
        }
        if jwk::looks_like(text) {
            return jwk::parse_public(text).map(Some);
        }
        if !keystring::looks_like(text) {
            return Ok(None);
        }
        let (key, id) = match keystring::parse(text)? {
            KeyString::Private(_) => return Err(is_private()),
            KeyString::Public(PublicString::V2 { spki, id }) => (Self::from_spki(&spki)?, id),
            KeyString::Public(PublicString::V1 { nid, point, id }) => {
                let point = EcPublic::from_bytes(&Curve::by_number(nid)?, &point)?;
                (Self::new(AnyPublic::Ec(Arc::new(point)))?, id)
            }
        };
        if !key.matches(&KeyId(id)) {
            return Err(Error::corrupt(format!(
                "public key {} that claims to be {}",
                key.id(),
                KeyId(id)
            )));
        }
        Ok(Some(key))
    }
}

fn unknown() -> Error {
    Error::corrupt("not a public key in any known format")
}
