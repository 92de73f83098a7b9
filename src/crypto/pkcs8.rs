//! PKCS#8 private keys under a password.
#![forbid(unsafe_code)]

use openssl::error::ErrorStack;
use openssl::pkey::PKey;

use super::{Secret, reasons};
use crate::error::{Error, ErrorKind, Result};

/// The longest password that libcrypto takes, in bytes.
pub const MAX_PASSWORD: usize = 1024;

/// Decrypts an EncryptedPrivateKeyInfo, by any scheme that libcrypto knows, to a PrivateKeyInfo.
/// The caller has limited the work that it asks for.
///
/// # Errors
/// WrongPassword if it doesn't decrypt to a key. Damage looks the same.
pub fn decrypt(encrypted: &[u8], password: &[u8]) -> Result<Secret> {
    if password.len() > MAX_PASSWORD {
        return Err(Error::new(
            ErrorKind::WrongPassword,
            format!("password of more than {MAX_PASSWORD} bytes"),
        ));
    }
    // Without a callback libcrypto would ask on the terminal.
    let callback = |buf: &mut [u8]| match buf.get_mut(..password.len()) {
        Some(room) => {
            room.copy_from_slice(password);
            Ok(password.len())
        }
        None => Err(ErrorStack::get()),
    };
    let wrong = |why: ErrorStack| {
        let text = format!("wrong password for the key{}", reasons(&why));
        Error::new(ErrorKind::WrongPassword, text)
    };
    let key = PKey::private_key_from_pkcs8_callback(encrypted, callback).map_err(wrong)?;
    Ok(Secret::new(key.private_key_to_pkcs8()?))
}
