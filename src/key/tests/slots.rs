//! The slots of tests/vectors/slots, see the README there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::format::code;
use crate::format::slots::{Record, Slot, Slots};

const CODE: &[u8] = b"WC9S-JQM6-4XS9-4817-WDYM-BH1D-SRE8";
const STABLE: &[u8] = b"hQ3v7nG0a1kZ9wY2r5t8uA==";

fn file(name: &str) -> String {
    let path = format!("{}/tests/vectors/slots/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn slot<'a>(slots: &'a Slots, name: &str) -> &'a Slot {
    slots.slots().find(|slot| slot.name == name).unwrap()
}

/// The slot's private key, by its secret or from its file.
fn open(slots: &Slots, name: &str) -> PrivateKey {
    let slot = slot(slots, name);
    let secret: Vec<u8> = match name {
        "recovery" => code::read(CODE).unwrap().unwrap().to_vec(),
        "sso" => STABLE.to_vec(),
        "spouse" => b"zweites-Passwort".to_vec(),
        "login" => b"todays-password".to_vec(),
        "login-2" => PASSWORD.to_vec(),
        _ => {
            let key = PrivateKey::parse_setting(&file(&format!("{name}.pem")), None).unwrap();
            assert!(slot.private.is_none() && key.matches(&slot.public_key().unwrap().id()));
            return key;
        }
    };
    slot.open(&slot.stretch.stretch(&secret).unwrap()).unwrap()
}

#[test]
fn slots_of_the_first_release_open_for_ever() {
    let text = file("slots");
    let slots = Slots::parse(&text).unwrap();
    assert_eq!(*slots.write().unwrap(), text);
    assert_eq!(slots.serial, 9);
    let user_key = StoredKey::parse(&file("user-key")).unwrap();
    let user_key = user_key.unlock_with_key(&open(&slots, "login-2")).unwrap();
    let mut opened = Vec::new();
    for slot in slots.slots() {
        slot.check_seal(&user_key).unwrap();
        let key = open(&slots, &slot.name);
        for wrapped in slots.keys_of(&slot.name) {
            assert!(wrapped.open(&key).unwrap().matches(&user_key.id()));
            opened.push(slot.name.as_str());
        }
    }
    assert_eq!(opened, ["recovery", "sso", "spouse", "token", "escrow"]);
    assert_eq!(slot(&slots, "recovery").label, "Käse: im Safe");
    for record in &slots.records {
        match record {
            Record::Undo(old) => {
                let old = StoredKey::parse(&old.text).unwrap();
                let old = old.unlock_with_key(&open(&slots, "login")).unwrap();
                assert!(old.matches(&user_key.id()));
            }
            Record::Unread { why, .. } => panic!("{why}"),
            Record::Slot(_) | Record::Key(_) | Record::Locked(_) => {}
        }
    }
}
