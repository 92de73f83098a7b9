//! Keys as text: key strings, PEM, base64, JSON Web Keys.

use mail_crypt_core::ErrorKind;
use mail_crypt_core::format::keystring::{self, Encryption, Kdf, KeyString};
use mail_crypt_core::key::{PrivateKey, Protect, Protection, PublicKey, StoredKey};

use super::{Input, test_keys, vectors};

/// More rounds than this are honoured too, but take a fuzzer's time.
const FAST_ROUNDS: u32 = 4096;
const PASSWORD: &[u8] = "sw0rdfish k\u{e4}se".as_bytes();

/// Any text as a key, of any kind.
pub(crate) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let public = PublicKey::parse(text);
    if let Ok(key) = &public {
        public_survives(key);
    }
    let stored = StoredKey::parse(text);
    assert!(
        public.is_err() || stored.is_err(),
        "both public and private"
    );
    for error in [public.err(), stored.as_ref().err().cloned()]
        .into_iter()
        .flatten()
    {
        assert!(error.to_string().len() < 1000);
        assert_ne!(error.kind(), ErrorKind::WrongPassword);
    }
    if let Ok(stored) = stored {
        private(text, &stored);
    }
}

fn public_survives(key: &PublicKey) {
    assert!(key.matches(&key.id()));
    for text in [key.to_dovecot(), key.to_pem().unwrap()] {
        let again = PublicKey::parse(&text).expect("what we wrote");
        assert_eq!(again.id(), key.id());
        assert_eq!(again.old_id(), key.old_id());
        assert_eq!(again.to_dovecot(), key.to_dovecot());
    }
}

fn private(text: &str, stored: &StoredKey) {
    match stored.protection() {
        Protection::None => {
            if let Ok(key) = stored.unlock() {
                assert!(stored.id().is_some_and(|id| key.matches(&id)));
                private_survives(&key);
            }
        }
        Protection::Password => {
            assert!(stored.unlock().is_err());
            if is_fast(text) {
                is_what_it_says(stored, stored.unlock_with_password(PASSWORD));
            }
        }
        Protection::Key(by) => {
            assert!(stored.unlock().is_err());
            for key in test_keys() {
                let result = stored.unlock_with_key(&key);
                assert!(key.matches(&by) || result.is_err());
                is_what_it_says(stored, result);
            }
        }
    }
}

fn is_what_it_says(stored: &StoredKey, unlocked: mail_crypt_core::Result<PrivateKey>) {
    if let (Ok(key), Some(id)) = (unlocked, stored.id()) {
        assert!(key.matches(&id));
    }
}

fn private_survives(key: &PrivateKey) {
    assert!(key.matches(&key.id()));
    assert_eq!(key.public().id(), key.id());
    public_survives(&key.public());
    let texts = [
        key.to_dovecot(Protect::None).unwrap(),
        key.to_pem(None).unwrap(),
    ];
    for text in texts {
        let again = PrivateKey::parse_setting(&text, None).expect("what we wrote");
        assert_eq!(again.id(), key.id());
        let [once, twice] = [&again, key].map(|k| k.to_dovecot(Protect::None).unwrap());
        assert_eq!(once, twice);
    }
}

/// Whether the password is stretched in no time. What isn't plainly so counts as slow.
fn is_fast(text: &str) -> bool {
    let Ok(KeyString::Private(string)) = keystring::parse(text.trim()) else {
        return false;
    };
    match string.encryption {
        Encryption::None => true,
        Encryption::Password(kdf) | Encryption::Key { kdf, .. } => match kdf {
            Kdf::V1 { .. } => true,
            Kdf::V2 { rounds, .. } => rounds <= FAST_ROUNDS,
        },
    }
}

const STORED: [&[u8]; 17] = vectors![
    "keys/p256.plain",
    "keys/p256.password",
    "keys/p256.password-aes-256-cbc",
    "keys/p256.password-chacha20",
    "keys/p256.under-p256",
    "keys/p256.under-rsa",
    "keys/p256.under-x25519",
    "keys/p256.under-x448",
    "keys/p256.pem",
    "keys/p256.jwk",
    "keys/p521.plain",
    "keys/rsa.plain",
    "keys/rsa.pem",
    "keys/x25519.plain",
    "keys/v1-p256.plain",
    "keys/v1-p256.password",
    "keys/v1-p256.under-p256",
];

/// A stored key, damaged in a few bytes: it is refused, or still the key that it says it is.
pub(crate) fn damage(data: &[u8]) {
    let mut input = Input(data);
    let mut bytes = input.pick(&STORED).to_vec();
    while !input.is_empty() {
        let (kind, at) = (input.byte(), input.below(bytes.len()));
        match kind % 4 {
            0 if !bytes.is_empty() => bytes[at] = input.byte() & 0x7f,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, input.byte() & 0x7f),
        }
    }
    text(&bytes);
}
