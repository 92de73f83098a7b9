//! The header of an encrypted stream: a mail file, an attachment, any file of the fs driver. Its bytes are in docs/format.md.
//!
//! Everything here is checked before anything is computed: each length against what is really
//! there, the fields' sum against the declared header length, counts and rounds against limits.
//! All numbers on disk are big-endian.
#![forbid(unsafe_code)]

use crate::crypto::cipher::Cipher;
use crate::crypto::digest::Digest;
use crate::error::{Error, Result};

/// What every encrypted stream starts with.
pub const MAGIC: [u8; 9] = *b"CRYPTED\x03\x07";

/// The longest header: 16 recipients with fields of 2 x 2 KiB each come to 65 KiB, and version 1
/// can't say more than 64 KiB. What is written today has less than 1 KiB.
pub const MAX_HEADER: usize = 128 * 1024;
/// The most recipients a header may name. One is what is written.
pub const MAX_RECIPIENTS: usize = 16;
/// The longest ephemeral key: a P-521 point has 133 bytes, an ML-KEM-1024 ciphertext 1568.
pub const MAX_EPHEMERAL: usize = 2048;
/// The longest wrapped key block: under RSA as long as the modulus, here up to 16384 bits.
pub const MAX_WRAPPED: usize = 2048;
/// The most PBKDF2 rounds, about 0.15 s of work; 2048 is what the packaged plugin writes.
pub const MAX_ROUNDS: u32 = 1_000_000;

/// Bytes of a version 2 header up to and including its length field.
const FIXED_V2: usize = MAGIC.len() + 1 + 4 + 4;
/// Bytes of a version 1 header up to and including its length field.
const FIXED_V1: usize = MAGIC.len() + 1 + 2;

const FLAG_HMAC: u32 = 1;
const FLAG_AEAD: u32 = 2;
const FLAG_NONE: u32 = 4;
const FLAG_V1: u32 = 8;
const FLAG_SAME_CIPHER: u32 = 0x10;

const TYPE_RSA: u8 = 1;
const TYPE_EC: u8 = 2;

/// Whether `prefix`, the first bytes of a file or of a client's mail, starts an encrypted
/// stream. Nine bytes decide; fewer never do.
pub fn is_encrypted(prefix: &[u8]) -> bool {
    prefix.starts_with(&MAGIC)
}

/// The format's version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Legacy: AES-256-CTR, no integrity. Elliptic curves only.
    V1,
    /// Current.
    V2,
}

/// What proves that a payload wasn't changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integrity {
    /// An HMAC over the ciphertext, as long as the digest, after it.
    Hmac,
    /// The cipher's own 16-byte tag, after the ciphertext.
    Aead,
    /// Nothing.
    None,
}

/// How a recipient's key wraps the key block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrap {
    /// RSA-OAEP of the block itself.
    Rsa,
    /// A Diffie-Hellman secret with an ephemeral key: NIST curves, X25519, X448.
    Ec,
    /// A type that this implementation doesn't know (ML-KEM, say).
    Other(u8),
}

/// One recipient of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// How the block is wrapped.
    pub wrap: Wrap,
    /// Key id; in version 1 the old id.
    pub id: [u8; 32],
    /// Ephemeral public key as stored (EC point, X25519/X448 raw); empty for RSA.
    pub ephemeral: Vec<u8>,
    /// The wrapped key block (version 1: content key).
    pub wrapped: Vec<u8>,
}

/// A stream's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Format version.
    pub version: Version,
    /// What follows the payload.
    pub integrity: Integrity,
    /// The payload's cipher.
    pub cipher: Cipher,
    /// The digest of PBKDF2, the key block's hash and the HMAC.
    pub digest: Digest,
    /// PBKDF2 rounds over the shared secret; 0 in version 1, which has none.
    pub rounds: u32,
    /// Whether the key block is wrapped with the payload's cipher instead of AES-256-CBC.
    pub same_cipher: bool,
    /// Whom it is encrypted to; the packaged plugin writes and reads one.
    pub recipients: Vec<Recipient>,
    /// Hash of the key block (version 1: SHA-256 of the content key).
    pub key_hash: Vec<u8>,
}

/// The header's whole length in bytes, or `None` while `prefix` is too short to say.
///
/// # Errors
/// Corrupt if it isn't an encrypted stream or its length is impossible, unsupported for a version
/// other than 1 and 2.
pub fn header_len(prefix: &[u8]) -> Result<Option<usize>> {
    if prefix
        .iter()
        .zip(&MAGIC)
        .any(|(found, magic)| found != magic)
    {
        return Err(Error::corrupt("not an encrypted stream"));
    }
    let len = match prefix.get(MAGIC.len()) {
        None => return Ok(None),
        Some(1) => {
            let Some(len) = prefix.get(10..).and_then(|field| field.first_chunk()) else {
                return Ok(None);
            };
            FIXED_V1 + usize::from(u16::from_be_bytes(*len))
        }
        Some(2) => {
            let Some(len) = prefix.get(14..).and_then(|field| field.first_chunk()) else {
                return Ok(None);
            };
            let len = u32::from_be_bytes(*len) as usize;
            if len < FIXED_V2 {
                return Err(Error::corrupt("header length is too small"));
            }
            len
        }
        Some(version) => {
            return Err(Error::unsupported(format!("stream version {version}")));
        }
    };
    if len > MAX_HEADER {
        return Err(Error::corrupt(format!("header of {len} bytes")));
    }
    Ok(Some(len))
}

impl Header {
    /// Parses a whole header: `bytes` is exactly as long as [`header_len`] says.
    ///
    /// # Errors
    /// Corrupt if a field reaches outside of what contains it, or contradicts another;
    /// unsupported, with its name, for an unknown algorithm or flag.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if header_len(bytes)? != Some(bytes.len()) {
            return Err(Error::corrupt("header isn't as long as it says"));
        }
        let mut fields = HeaderFields(bytes);
        fields.take(MAGIC.len())?;
        if fields.u8()? == 1 {
            // The header's length.
            fields.take(2)?;
            Self::parse_v1(fields)
        } else {
            let flags = fields.u32()?;
            fields.take(4)?;
            Self::parse_v2(flags, fields)
        }
    }

    fn parse_v1(mut fields: HeaderFields<'_>) -> Result<Self> {
        let ephemeral = fields.field_u16()?;
        let id = fields.field_u16()?;
        let key_hash = fields.field_u16()?;
        let wrapped = fields.field_u16()?;
        // The first writers ended the list with an empty field.
        if fields.0 != [0, 0] {
            fields.end()?;
        }
        check_len("ephemeral key", ephemeral.len(), 1..=MAX_EPHEMERAL)?;
        check_len("content key's hash", key_hash.len(), 32..=32)?;
        check_len("content key", wrapped.len(), 32..=32)?;
        let id = <[u8; 32]>::try_from(id).map_err(|_| Error::corrupt("key id's size"))?;
        Ok(Header {
            version: Version::V1,
            integrity: Integrity::None,
            cipher: Cipher::AES_256_CTR,
            digest: Digest::Sha256,
            rounds: 0,
            same_cipher: false,
            recipients: vec![Recipient {
                wrap: Wrap::Ec,
                id,
                ephemeral: ephemeral.to_vec(),
                wrapped: wrapped.to_vec(),
            }],
            key_hash: key_hash.to_vec(),
        })
    }

    fn parse_v2(flags: u32, mut fields: HeaderFields<'_>) -> Result<Self> {
        let (integrity, same_cipher) = parse_flags(flags)?;
        let cipher = Cipher::from_oid_der(fields.oid()?)?;
        let digest = Digest::from_oid_der(fields.oid()?)?;
        check_integrity(integrity, cipher)?;
        let rounds = fields.u32()?;
        if rounds == 0 || rounds > MAX_ROUNDS {
            return Err(Error::corrupt(format!(
                "{rounds} key derivation rounds (1 to {MAX_ROUNDS} are allowed)"
            )));
        }
        let key_data_len = fields.u32()? as usize;
        if key_data_len != fields.0.len() {
            return Err(Error::corrupt("key data and header lengths disagree"));
        }
        let count = usize::from(fields.u8()?);
        check_len("number of recipients", count, 1..=MAX_RECIPIENTS)?;
        let recipients = (0..count)
            .map(|_| fields.recipient())
            .collect::<Result<Vec<_>>>()?;
        let key_hash = fields.field_u32()?;
        fields.end()?;
        check_len(
            "key block's hash",
            key_hash.len(),
            digest.size()..=digest.size(),
        )?;
        Ok(Header {
            version: Version::V2,
            integrity,
            cipher,
            digest,
            rounds,
            same_cipher,
            recipients,
            key_hash: key_hash.to_vec(),
        })
    }

    /// How many bytes of the key block are for integrity: AAD or HMAC key.
    pub fn mac_len(&self) -> usize {
        match self.integrity {
            Integrity::Hmac | Integrity::Aead => 16,
            Integrity::None => 0,
        }
    }

    /// Size of the plain key block: key, IV, and AAD or HMAC key (version 1: the key alone).
    pub fn block_len(&self) -> usize {
        match self.version {
            Version::V1 => 32,
            Version::V2 => self.cipher.key_len() + self.cipher.iv_len() + self.mac_len(),
        }
    }

    /// Size in bytes of what follows the payload.
    pub fn tag_len(&self) -> usize {
        match self.integrity {
            Integrity::Hmac => self.digest.size(),
            Integrity::Aead => 16,
            Integrity::None => 0,
        }
    }

    /// The bytes on disk.
    ///
    /// # Errors
    /// Unsupported if the format can't express it: a cipher without an object identifier,
    /// version 1 with anything but one EC recipient, a field beyond its limit.
    pub fn write(&self) -> Result<Vec<u8>> {
        let bytes = match self.version {
            Version::V1 => self.write_v1()?,
            Version::V2 => self.write_v2()?,
        };
        // Never write what can't be read back.
        match Self::parse(&bytes) {
            Ok(parsed) if parsed == *self => Ok(bytes),
            Ok(_) => Err(Error::unsupported("this header can't be expressed")),
            Err(error) => Err(error.context("this header can't be expressed")),
        }
    }

    fn write_v1(&self) -> Result<Vec<u8>> {
        let [to] = self.recipients.as_slice() else {
            return Err(Error::unsupported("version 1 has one recipient"));
        };
        let mut data = Vec::with_capacity(256);
        for field in [&to.ephemeral[..], &to.id, &self.key_hash, &to.wrapped] {
            put_u16(&mut data, field.len())?;
            data.extend_from_slice(field);
        }
        let mut out = MAGIC.to_vec();
        out.push(1);
        put_u16(&mut out, data.len())?;
        out.append(&mut data);
        Ok(out)
    }

    fn write_v2(&self) -> Result<Vec<u8>> {
        let cipher_oid = self.cipher.oid_der().ok_or_else(|| {
            Error::unsupported(format!("{} has no object identifier", self.cipher))
        })?;
        let mut data = Vec::with_capacity(512);
        data.push(u8::try_from(self.recipients.len()).unwrap_or(0));
        for to in &self.recipients {
            data.push(match to.wrap {
                Wrap::Rsa => TYPE_RSA,
                Wrap::Ec => TYPE_EC,
                Wrap::Other(byte) => byte,
            });
            data.extend_from_slice(&to.id);
            put_field(&mut data, &to.ephemeral)?;
            put_field(&mut data, &to.wrapped)?;
        }
        put_field(&mut data, &self.key_hash)?;
        let digest_oid = self.digest.oid_der();
        let len = FIXED_V2 + cipher_oid.len() + digest_oid.len() + 8 + data.len();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.push(2);
        out.extend_from_slice(&self.flags().to_be_bytes());
        put_u32(&mut out, len)?;
        out.extend_from_slice(cipher_oid);
        out.extend_from_slice(digest_oid);
        out.extend_from_slice(&self.rounds.to_be_bytes());
        put_field(&mut out, &data)?;
        Ok(out)
    }

    fn flags(&self) -> u32 {
        let integrity = match self.integrity {
            Integrity::Hmac => FLAG_HMAC,
            Integrity::Aead => FLAG_AEAD,
            Integrity::None => FLAG_NONE,
        };
        integrity
            | if self.same_cipher {
                FLAG_SAME_CIPHER
            } else {
                0
            }
    }
}

fn parse_flags(flags: u32) -> Result<(Integrity, bool)> {
    let unknown = flags & !(FLAG_HMAC | FLAG_AEAD | FLAG_NONE | FLAG_V1 | FLAG_SAME_CIPHER);
    if unknown != 0 {
        return Err(Error::unsupported(format!("stream flags 0x{unknown:x}")));
    }
    if flags & FLAG_V1 != 0 {
        return Err(Error::corrupt("version 2 stream with version 1's flag"));
    }
    let integrity = match flags & !FLAG_SAME_CIPHER {
        FLAG_HMAC => Integrity::Hmac,
        FLAG_AEAD => Integrity::Aead,
        FLAG_NONE => Integrity::None,
        _ => return Err(Error::corrupt("not exactly one kind of integrity")),
    };
    Ok((integrity, flags & FLAG_SAME_CIPHER != 0))
}

/// An authenticated cipher may have the HMAC flag, without its own tag: Dovecot 2.4.0 to 2.4.3
/// wrote ChaCha20-Poly1305 like that, and the fs driver any cipher whose setting doesn't say `gcm`
/// in lower case (`id-aes256-GCM`). Nothing ever wrote the other combinations.
fn check_integrity(integrity: Integrity, cipher: Cipher) -> Result<()> {
    match integrity {
        Integrity::Aead if !cipher.is_aead() => Err(Error::corrupt(format!(
            "{cipher} has no tag of its own, but the flags say so"
        ))),
        Integrity::None if cipher.is_aead() => {
            Err(Error::corrupt(format!("{cipher} without its tag")))
        }
        _ => Ok(()),
    }
}

fn check_len(what: &str, len: usize, sane: std::ops::RangeInclusive<usize>) -> Result<()> {
    if sane.contains(&len) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{what}: {len} (expected {} to {})",
        sane.start(),
        sane.end()
    )))
}

/// Takes fields from the front of what is left of a header.
struct HeaderFields<'a>(&'a [u8]);

impl<'a> HeaderFields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len).ok_or_else(too_long)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN]> {
        let (field, rest) = self.0.split_first_chunk().ok_or_else(too_long)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn field_u16(&mut self) -> Result<&'a [u8]> {
        let len = self.array().map(u16::from_be_bytes)?;
        self.take(usize::from(len))
    }

    fn field_u32(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    /// A DER object identifier with tag and length. All that are known are shorter than 128
    /// bytes, so the length has one byte.
    fn oid(&mut self) -> Result<&'a [u8]> {
        match self.0 {
            [6, len @ 1..=0x7f, ..] => self.take(usize::from(*len) + 2),
            _ => Err(Error::corrupt("an object identifier was expected")),
        }
    }

    fn recipient(&mut self) -> Result<Recipient> {
        let wrap = match self.u8()? {
            TYPE_RSA => Wrap::Rsa,
            TYPE_EC => Wrap::Ec,
            other => Wrap::Other(other),
        };
        let id = self.array()?;
        let ephemeral = self.field_u32()?;
        let wrapped = self.field_u32()?;
        let ephemerals = match wrap {
            Wrap::Rsa => 0..=0,
            Wrap::Ec => 1..=MAX_EPHEMERAL,
            Wrap::Other(_) => 0..=MAX_EPHEMERAL,
        };
        check_len("ephemeral key's size", ephemeral.len(), ephemerals)?;
        check_len("wrapped key block's size", wrapped.len(), 1..=MAX_WRAPPED)?;
        Ok(Recipient {
            wrap,
            id,
            ephemeral: ephemeral.to_vec(),
            wrapped: wrapped.to_vec(),
        })
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::corrupt("unexpected bytes at the end of the header"))
    }
}

fn too_long() -> Error {
    Error::corrupt("a field reaches beyond the header")
}

fn put_u16(out: &mut Vec<u8>, n: usize) -> Result<()> {
    let n = u16::try_from(n).map_err(|_| Error::unsupported("a field is too long"))?;
    out.extend_from_slice(&n.to_be_bytes());
    Ok(())
}

fn put_u32(out: &mut Vec<u8>, n: usize) -> Result<()> {
    let n = u32::try_from(n).map_err(|_| Error::unsupported("a field is too long"))?;
    out.extend_from_slice(&n.to_be_bytes());
    Ok(())
}

fn put_field(out: &mut Vec<u8>, field: &[u8]) -> Result<()> {
    put_u32(out, field.len())?;
    out.extend_from_slice(field);
    Ok(())
}

#[cfg(test)]
mod tests;
