//! Elliptic-curve Diffie-Hellman on the Weierstrass curves that libcrypto knows by name.
//!
//! Uses points and groups instead of `EVP_PKEY`: for each agreement, libcrypto's `EVP` interface
//! looks up its provider again and multiplies the peer's point by the curve's order once more.
//! On the usual curves (cofactor 1) every point but infinity has that order, so decoding a point
//! checks it; on the others its order is checked here.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use openssl::asn1::Asn1Object;
use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcPoint, PointConversionForm};
use openssl::nid::Nid;

use super::Secret;
use crate::error::{Error, Result};

/// A named curve. Each process builds it once: building a group costs more than using it.
pub struct Curve {
    nid: Nid,
    group: EcGroup,
    order: BigNum,
    generator: (BigNum, BigNum),
    name: &'static str,
    oid: Vec<u8>,
    oid_text: String,
    field_len: usize,
    /// Whether every point but infinity has the order of the generator.
    cofactor_1: bool,
}

impl Curve {
    /// The curve of that name: OpenSSL's short or long name, or its object identifier in dotted
    /// text.
    ///
    /// # Errors
    /// Unsupported, with the name, for what isn't a curve.
    pub fn by_name(name: &str) -> Result<Arc<Self>> {
        // OpenSSL must not see a NUL, and takes its time over long numbers.
        let good = !name.is_empty() && name.len() <= 80 && name.is_ascii() && !name.contains('\0');
        if !good {
            return Err(Error::unsupported("a curve with an impossible name"));
        }
        let nid = match Asn1Object::from_str(name) {
            Ok(object) => object.nid(),
            Err(_) => Nid::UNDEF,
        };
        if nid == Nid::UNDEF {
            return Err(Error::unsupported(format!(
                "curve '{}'",
                name.escape_default()
            )));
        }
        Self::by_nid(nid).map_err(|e| Error::unsupported(format!("curve '{name}': {e}")))
    }

    /// The curve with OpenSSL's number `nid`, as version 1 key strings name it.
    ///
    /// # Errors
    /// Unsupported, with the number.
    pub fn by_number(nid: u32) -> Result<Arc<Self>> {
        let unknown = |e| Error::unsupported(format!("curve with OpenSSL's number {nid}: {e}"));
        let nid = i32::try_from(nid).map_err(|_| Error::unsupported("curve number"))?;
        Self::by_nid(Nid::from_raw(nid)).map_err(unknown)
    }

    fn by_nid(nid: Nid) -> Result<Arc<Self>> {
        static KNOWN: Mutex<Vec<Arc<Curve>>> = Mutex::new(Vec::new());
        // A panic elsewhere can't have left the list half-written: it only ever grows by push.
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(curve) = known.iter().find(|curve| curve.nid == nid) {
            return Ok(Arc::clone(curve));
        }
        let curve = Arc::new(Self::load(nid)?);
        known.push(Arc::clone(&curve));
        Ok(curve)
    }

    fn load(nid: Nid) -> Result<Self> {
        let group = EcGroup::from_curve_name(nid)?;
        let mut ctx = BigNumContext::new()?;
        let mut cofactor = BigNum::new()?;
        group.cofactor(&mut cofactor, &mut ctx)?;
        let name = nid.short_name()?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut ctx)?;
        let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
        group
            .generator_opt()
            .ok_or_else(|| Error::unsupported(format!("curve '{name}'")))?
            .affine_coordinates(&group, &mut x, &mut y, &mut ctx)?;
        let oid = Asn1Object::from_str(name)?.as_slice().to_vec();
        Ok(Curve {
            nid,
            order,
            generator: (x, y),
            name,
            oid_text: super::oid_text(&[&[6, oid.len() as u8], oid.as_slice()].concat()),
            oid,
            cofactor_1: cofactor == BigNum::from_u32(1)?,
            field_len: group.degree().div_ceil(8) as usize,
            group,
        })
    }

    /// OpenSSL's short name, e.g. `prime256v1`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Contents of the DER object identifier.
    pub fn oid(&self) -> &[u8] {
        &self.oid
    }

    /// The object identifier in dotted text.
    pub fn oid_text(&self) -> &str {
        &self.oid_text
    }

    /// The size of a coordinate and of a shared secret in bytes.
    pub fn field_len(&self) -> usize {
        self.field_len
    }

    /// The size of the field in bits: twice the strength.
    pub fn bits(&self) -> u32 {
        self.group.degree()
    }

    /// Decodes a compressed or uncompressed point, which must be on the curve.
    fn decode(&self, bytes: &[u8], ctx: &mut BigNumContext) -> Result<EcPoint> {
        let len = match bytes.first() {
            Some(2 | 3) => 1 + self.field_len,
            Some(4) => 1 + 2 * self.field_len,
            // 0 is the point at infinity, with which every secret is the same; 6 and 7 are hybrid
            // forms that nobody writes.
            _ => return Err(Error::corrupt("EC point in a form that is not allowed")),
        };
        if bytes.len() != len {
            return Err(Error::corrupt(format!(
                "EC point of {} bytes where {} has {len}",
                bytes.len(),
                self.name
            )));
        }
        let off = |_| Error::corrupt(format!("point that is not on the curve {}", self.name));
        let point = EcPoint::from_bytes(&self.group, bytes, ctx).map_err(off)?;
        if !self.cofactor_1 {
            // A point of another order would give away a part of the private number.
            let mut product = EcPoint::new(&self.group)?;
            product.mul2(&self.group, &point, &self.order, ctx)?;
            if !product.is_infinity(&self.group) {
                let text = format!("point of a wrong order on the curve {}", self.name);
                return Err(Error::corrupt(text));
            }
        }
        Ok(point)
    }

    /// Overwrites a secret point's coordinates: the Rust interface to libcrypto frees points without
    /// wiping them.
    fn wipe(&self, mut point: EcPoint, ctx: &mut BigNumContext) -> Result<()> {
        let (x, y) = &self.generator;
        Ok(point.set_affine_coordinates(&self.group, x, y, ctx)?)
    }

    /// A random number within 1..order.
    fn random_scalar(&self) -> Result<BigNum> {
        let mut scalar = secret_number()?;
        for _ in 0..64 {
            self.order.rand_range(&mut scalar)?;
            if scalar.num_bits() > 0 {
                return Ok(scalar);
            }
        }
        // 64 zeros in a row, out of 2^224 numbers or more: the generator is broken.
        Err(Error::new(
            crate::error::ErrorKind::Crypto,
            "the random generator only returns zeros",
        ))
    }

    fn multiply_generator(&self, scalar: &BigNumRef, ctx: &mut BigNumContext) -> Result<EcPoint> {
        let mut point = EcPoint::new(&self.group)?;
        point.mul_generator2(&self.group, scalar, ctx)?;
        Ok(point)
    }

    /// The x coordinate of `scalar` times `point`, with its leading zeros.
    fn agree(
        &self,
        scalar: &BigNumRef,
        point: &EcPoint,
        ctx: &mut BigNumContext,
    ) -> Result<Secret> {
        let mut shared = EcPoint::new(&self.group)?;
        shared.mul2(&self.group, point, scalar, ctx)?;
        let (mut x, mut y) = (secret_number()?, secret_number()?);
        // Fails for infinity.
        shared.affine_coordinates(&self.group, &mut x, &mut y, ctx)?;
        let secret = Secret::new(x.to_vec_padded(self.field_len as i32)?);
        self.wipe(shared, ctx)?;
        Ok(secret)
    }
}

/// A number that libcrypto handles in constant time, and wipes when it is freed.
fn secret_number() -> Result<BigNum> {
    let mut n = BigNum::new_secure()?;
    n.set_const_time();
    Ok(n)
}

/// A public EC key: a point on its curve.
pub struct EcPublic {
    curve: Arc<Curve>,
    point: EcPoint,
    compressed: Vec<u8>,
}

impl EcPublic {
    /// Decodes a compressed or uncompressed point.
    ///
    /// # Errors
    /// Corrupt if it is not on the curve.
    pub fn from_bytes(curve: &Arc<Curve>, bytes: &[u8]) -> Result<Self> {
        let mut ctx = BigNumContext::new()?;
        let point = curve.decode(bytes, &mut ctx)?;
        Self::from_point(curve, point, &mut ctx)
    }

    fn from_point(curve: &Arc<Curve>, point: EcPoint, ctx: &mut BigNumContext) -> Result<Self> {
        let form = PointConversionForm::COMPRESSED;
        Ok(EcPublic {
            compressed: point.to_bytes(&curve.group, form, ctx)?,
            point,
            curve: Arc::clone(curve),
        })
    }

    /// Its curve.
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// The compressed point.
    pub fn compressed(&self) -> &[u8] {
        &self.compressed
    }

    /// The uncompressed point.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn uncompressed(&self) -> Result<Vec<u8>> {
        let mut ctx = BigNumContext::new()?;
        let form = PointConversionForm::UNCOMPRESSED;
        Ok(self.point.to_bytes(&self.curve.group, form, &mut ctx)?)
    }

    /// Agrees on a secret with the holder of the private key: returns a fresh ephemeral key's
    /// uncompressed point and the secret, both sized by the curve.
    ///
    /// # Errors
    /// As libcrypto, e.g. without random numbers.
    pub fn agree_ephemeral(&self) -> Result<(Vec<u8>, Secret)> {
        let curve = &*self.curve;
        let mut ctx = BigNumContext::new_secure()?;
        let scalar = curve.random_scalar()?;
        let ephemeral = curve.multiply_generator(&scalar, &mut ctx)?.to_bytes(
            &curve.group,
            PointConversionForm::UNCOMPRESSED,
            &mut ctx,
        )?;
        let secret = curve.agree(&scalar, &self.point, &mut ctx)?;
        Ok((ephemeral, secret))
    }
}

/// A private EC key: a number, with the point that belongs to it.
pub struct EcPrivate {
    scalar: BigNum,
    public: Arc<EcPublic>,
}

impl EcPrivate {
    /// A new random key.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn generate(curve: &Arc<Curve>) -> Result<Self> {
        Self::from_scalar(curve, curve.random_scalar()?)
    }

    /// The key with this big-endian number. Leading zeros are allowed.
    ///
    /// # Errors
    /// Corrupt if it is not within 1..order.
    pub fn from_bytes(curve: &Arc<Curve>, number: &[u8]) -> Result<Self> {
        let number = super::without_zeros(number);
        let bad = || Error::corrupt(format!("private key out of range for {}", curve.name));
        // Checked before libcrypto turns it into a number.
        if number.is_empty() || number.len() > curve.field_len + 1 {
            return Err(bad());
        }
        let mut scalar = secret_number()?;
        scalar.copy_from_slice(number)?;
        if scalar >= curve.order {
            return Err(bad());
        }
        Self::from_scalar(curve, scalar)
    }

    fn from_scalar(curve: &Arc<Curve>, scalar: BigNum) -> Result<Self> {
        let mut ctx = BigNumContext::new_secure()?;
        let point = curve.multiply_generator(&scalar, &mut ctx)?;
        let public = Arc::new(EcPublic::from_point(curve, point, &mut ctx)?);
        Ok(EcPrivate { scalar, public })
    }

    /// Its public half.
    pub fn public(&self) -> &Arc<EcPublic> {
        &self.public
    }

    /// The big-endian number, with as many bytes as the curve's order, as PKCS#8 has it.
    ///
    /// # Errors
    /// As libcrypto.
    pub fn to_bytes(&self) -> Result<Secret> {
        let len = self.public.curve.order.num_bytes();
        Ok(Secret::new(self.scalar.to_vec_padded(len)?))
    }

    /// The secret shared with the holder of `ephemeral`, a compressed or uncompressed point.
    ///
    /// # Errors
    /// Corrupt if it is not a point on this key's curve.
    pub fn agree(&self, ephemeral: &[u8]) -> Result<Secret> {
        let curve = &*self.public.curve;
        let mut ctx = BigNumContext::new_secure()?;
        let point = curve.decode(ephemeral, &mut ctx)?;
        curve.agree(&self.scalar, &point, &mut ctx)
    }
}
