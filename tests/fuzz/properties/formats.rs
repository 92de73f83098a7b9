//! DER, PEM, base64, hexadecimal, JSON Web Keys, stream headers, slots and codes: what is read is written the same.

use mail_crypt_core::crypto::SecretText;
use mail_crypt_core::format::slots::{Record, Slots};
use mail_crypt_core::format::stream::{Header, header_len};
use mail_crypt_core::format::{base64, code, der, jwk, keyinfo, keystring, pem};
use mail_crypt_core::hex;
use zeroize::Zeroizing;

/// Any bytes as anything.
pub(crate) fn any(data: &[u8]) {
    header(data);
    elements(der::DerReader::new(data), 0);
    key_infos(data);
    digits(data);
    if let Ok(text) = std::str::from_utf8(data) {
        texts(text);
    }
}

fn header(data: &[u8]) {
    let Ok(Some(len)) = header_len(data) else {
        return;
    };
    let Some(Ok(header)) = data.get(..len).map(Header::parse) else {
        return;
    };
    // Version 1 has two ways to end; we write one.
    if let Ok(again) = header.write() {
        assert_eq!(Header::parse(&again).unwrap(), header);
    }
}

fn elements(mut reader: der::DerReader<'_>, depth: usize) {
    while let Some(tag) = reader.peek() {
        let Ok(contents) = reader.read(tag) else {
            return;
        };
        let written = der::element(tag, &[contents]);
        let read = der::DerReader::new(&written).read(tag).unwrap().to_vec();
        assert_eq!(read, contents);
        if let Ok(number) = der::DerReader::new(&written).small_integer() {
            let again = der::small_integer(number);
            assert_eq!(der::DerReader::new(&again).small_integer().unwrap(), number);
        }
        if depth < 8 && tag & 0x20 != 0 {
            elements(der::DerReader::new(contents), depth + 1);
        }
    }
    reader.end().unwrap();
}

fn key_infos(data: &[u8]) {
    if let Ok((algorithm, key)) = keyinfo::read_spki(data) {
        let written = keyinfo::write_spki(&algorithm, key);
        assert_eq!(keyinfo::read_spki(&written).unwrap(), (algorithm, key));
    }
    for parts in [
        keyinfo::read_pkcs8(data),
        keyinfo::read_sec1(data, None),
        keyinfo::read_sec1(data, Some(b"\x2a\x86\x48\xce\x3d\x03\x01\x07")),
    ]
    .into_iter()
    .flatten()
    {
        let written = keyinfo::write_pkcs8(&parts);
        let again = keyinfo::read_pkcs8(&written).unwrap();
        assert_eq!(again.algorithm, parts.algorithm);
        assert_eq!(again.key, parts.key);
    }
    let _ = keyinfo::kdf_rounds(data);
}

fn digits(data: &[u8]) {
    assert_eq!(*hex::decode(&hex::encode(data)).unwrap(), *data);
    assert_eq!(*hex::decode(&hex::encode_upper(data)).unwrap(), *data);
    assert_eq!(*base64::decode(&base64_text(data)).unwrap(), *data);
    let block = pem::write("ANY DATA", data);
    let read = pem::first(&block, &[]).unwrap();
    assert_eq!((read.label, &*read.data), ("ANY DATA", data));
}

fn base64_text(data: &[u8]) -> Zeroizing<String> {
    let mut text = SecretText::default();
    base64::push_lines(&mut text, data);
    text.finish()
}

fn texts(text: &str) {
    if let Ok(bytes) = hex::decode(text) {
        assert!(hex::encode(&bytes).eq_ignore_ascii_case(text));
    }
    if let Ok(bytes) = base64::decode(text) {
        let again = base64_text(&bytes);
        let digits = |t: &str| {
            t.chars()
                .filter(|c| !c.is_ascii_whitespace())
                .collect::<String>()
        };
        assert_eq!(digits(&again), digits(text));
    }
    slots(text);
    if let Ok(Some(secret)) = code::read(text.as_bytes()) {
        let again = code::write(&secret).unwrap();
        assert!(code::read(again.as_bytes()).unwrap() == Some(secret));
    }
    let _ = base64::decode_url(text);
    let _ = keystring::parse(text);
    if let Ok(block) = pem::first(text, &["EC PARAMETERS"]) {
        assert_ne!(block.label, "EC PARAMETERS");
        let again = pem::write(block.label, &block.data);
        assert!(pem::first(&again, &[]).unwrap().data == block.data);
    }
    if let Ok(key) = jwk::Jwk::parse(text) {
        for name in ["kty", "crv", "x", "y", "d", "n", "e", "p", "q"] {
            assert!(key.bytes(name).is_err() || key.get(name).is_some());
        }
    }
}

/// Damaged lines are kept, the others are what they were.
fn slots(text: &str) {
    let Ok(found) = Slots::parse(text) else {
        return;
    };
    let Ok(written) = found.write() else {
        return;
    };
    let again = Slots::parse(&written).unwrap();
    assert!(*again.write().unwrap() == *written && again.serial == found.serial);
    let unread = |slots: &Slots| {
        let is_unread = |record: &&Record| matches!(record, Record::Unread { .. });
        slots.records.iter().filter(is_unread).count()
    };
    assert_eq!(unread(&again), unread(&found));
    for slot in found.slots() {
        let _ = slot.public_key();
        // Whatever it says, it takes no long time.
        let _ = slot.open(&b"any secret".iter().copied().collect());
        for key in found.keys_of(&slot.name) {
            let _ = key.id();
        }
    }
}
