//! Argon2id (RFC 9106), for passwords, and Argon2i, for those of TREES.
#![forbid(unsafe_code)]

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use super::Secret;
use crate::error::{Error, ErrorKind, Result};

/// 32 bytes from `password`: `memory` in KiB, `passes` over it, in `lanes`.
///
/// # Errors
/// Internal for parameters that Argon2 doesn't allow; the caller has checked them. [`ErrorKind::Crypto`] where the
/// process may not have that much memory.
pub fn argon2id(password: &[u8], salt: &[u8], params: (u32, u32, u32)) -> Result<Secret> {
    stretch(Algorithm::Argon2id, password, salt, params)
}

/// The same with Argon2i.
///
/// # Errors
/// As [`argon2id`].
pub fn argon2i(password: &[u8], salt: &[u8], params: (u32, u32, u32)) -> Result<Secret> {
    stretch(Algorithm::Argon2i, password, salt, params)
}

fn stretch(
    algorithm: Algorithm,
    password: &[u8],
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
) -> Result<Secret> {
    let name = match algorithm {
        Algorithm::Argon2i => "Argon2i",
        _ => "Argon2id",
    };
    let refused = |e: argon2::Error| Error::internal(format_args!("{name}: {e}"));
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(refused)?;
    let mut blocks = blocks(params.block_count(), name)?;
    let mut out = Secret::zeroed(32);
    Argon2::new(algorithm, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut out, blocks.as_mut_slice())
        .map_err(refused)?;
    Ok(out)
}

/// Memory of its own, since Argon2's own way aborts the process where there isn't enough.
fn blocks(count: usize, name: &str) -> Result<Zeroizing<Vec<Block>>> {
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(count).map_err(|_| {
        Error::new(
            ErrorKind::Crypto,
            format!(
                "no {} MiB of memory for {name}: give this service a higher vsz_limit",
                count / 1024
            ),
        )
    })?;
    blocks.resize(count, Block::default());
    Ok(Zeroizing::new(blocks))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn what_the_reference_implementation_makes_is_made() {
        // argon2 -id of the reference implementation: password "password", salt "somesalt".
        let key = argon2id(b"password", b"somesalt", (65536, 2, 1)).unwrap();
        assert_eq!(
            hex::encode(&key),
            "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"
        );
    }

    #[test]
    fn what_libsodium_makes_is_made() {
        // crypto_pwhash of libsodium 1.0.18: opslimit 3 and 2, memlimit 65536.
        let key = argon2i(b"password", b"somesaltsomesalt", (64, 3, 1)).unwrap();
        assert_eq!(
            hex::encode(&key),
            "a7bf2ceb5c1df3fa7e7c2403e08bd1399e3bc8c7d9dcb4f65e90adb3f7b3c86e"
        );
        let key = argon2id(b"password", b"somesaltsomesalt", (64, 2, 1)).unwrap();
        assert_eq!(
            hex::encode(&key),
            "1a98fba8e6394425c9bdc333a9c750aaf811df070f5fb4a5788e1cf4db5793a1"
        );
    }

    #[test]
    fn memory_that_isnt_there_is_an_error() {
        assert!(blocks(usize::MAX / 1024, "Argon2id").is_err());
    }

    #[test]
    fn parameters_that_argon2_refuses_are_an_error() {
        for params in [(7, 1, 1), (8, 0, 1), (8, 1, 0)] {
            assert!(argon2id(b"password", b"somesalt", params).is_err());
        }
        assert!(argon2id(b"password", b"short", (8, 1, 1)).is_err());
    }
}
