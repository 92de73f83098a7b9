#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

/// A line with its checksum.
fn line(body: &str) -> String {
    format!("{body} {}", sum(body).unwrap())
}

fn slot() -> Slot {
    Slot {
        name: "paper".to_owned(),
        slot_type: SlotType::Recovery,
        created: 1_700_000_000,
        label: "in the säfe".to_owned(),
        stretch: Stretch::None,
        public: "2:aa:bb".to_owned(),
        private: Some(Zeroizing::new("2:cc:dd".to_owned())),
        seals: vec![Seal {
            by: [1; 32],
            seal: [2; 32],
        }],
    }
}

fn all() -> Slots {
    let escrow = Slot {
        name: "escrow".to_owned(),
        slot_type: SlotType::Escrow,
        label: String::new(),
        private: None,
        ..slot()
    };
    let password = Slot {
        name: "spouse".to_owned(),
        slot_type: SlotType::Password,
        stretch: Stretch::Argon2id {
            memory: 19456,
            passes: 2,
            lanes: 1,
            salt: vec![7; 16],
        },
        ..slot()
    };
    let app = Slot {
        name: "app".to_owned(),
        slot_type: SlotType::App,
        stretch: Stretch::Pbkdf2 {
            rounds: 5,
            salt: vec![8; 16],
        },
        ..slot()
    };
    let mut app = app;
    app.seals.push(Seal {
        by: [3; 32],
        seal: [4; 32],
    });
    let mut records: Vec<_> = [slot(), escrow, password, app].map(Record::Slot).into();
    records.push(Record::Key(SlotKey {
        slot: "paper".to_owned(),
        text: Zeroizing::new("2:ee:ff".to_owned()),
    }));
    records.push(Record::Undo(Replaced {
        time: 5,
        id: [3; 32],
        by: [4; 32],
        text: Zeroizing::new("1\told\n".to_owned()),
    }));
    records.push(Record::Locked([5; 32]));
    Slots { serial: 7, records }
}

#[test]
fn what_is_written_is_read() {
    let text = all().write().unwrap();
    let read = Slots::parse(&text).unwrap();
    assert_eq!(*read.write().unwrap(), *text);
    assert_eq!(read.serial, 7);
    assert!(
        !read
            .records
            .iter()
            .any(|r| matches!(r, Record::Unread { .. }))
    );
    let paper = read.slots().next().unwrap();
    assert_eq!(
        (paper.name.as_str(), paper.label.as_str()),
        ("paper", "in the säfe")
    );
    assert_eq!(paper.sealed(), slot().sealed());
    assert_eq!(read.keys_of("paper").count(), 1);
    assert_eq!(read.keys_of("escrow").count(), 0);
    assert!(read.is_locked(&[5; 32]) && !read.is_locked(&[3; 32]));
    match &read.records[5] {
        Record::Undo(old) => assert_eq!(old.text.as_str(), "1\told\n"),
        _ => unreachable!("an undo record"),
    }
}

#[test]
fn a_damaged_line_concerns_its_slot_only_and_is_kept() {
    let text = all().write().unwrap();
    for (at, _) in text.char_indices().filter(|(at, _)| *at > 4) {
        let mut damaged = text.to_string().into_bytes();
        if damaged[at] == b'\n' {
            continue;
        }
        damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
        let Ok(damaged) = String::from_utf8(damaged) else {
            continue;
        };
        let read = Slots::parse(&damaged).unwrap();
        let unread = |r: &&Record| matches!(r, Record::Unread { .. });
        assert_eq!(read.records.iter().filter(unread).count(), 1, "{at}");
        assert_eq!(*read.write().unwrap(), damaged);
    }
}

#[test]
fn a_record_of_a_later_version_is_kept() {
    let text = format!("1 3\n{}", line("token some thing"));
    let read = Slots::parse(&text).unwrap();
    assert_eq!(*read.write().unwrap(), text);
    match &read.records[0] {
        Record::Unread { why, .. } => assert_eq!(why.kind(), crate::ErrorKind::Unsupported),
        _ => unreachable!("nobody knows it"),
    }
}

#[test]
fn another_version_is_refused_as_a_whole() {
    for (text, kind) in [
        ("2 3", crate::ErrorKind::Unsupported),
        ("", crate::ErrorKind::Corrupt),
        ("1", crate::ErrorKind::Corrupt),
        ("1 x", crate::ErrorKind::Corrupt),
        ("1 03", crate::ErrorKind::Corrupt),
        ("1 3\n\n", crate::ErrorKind::Corrupt),
    ] {
        assert_eq!(Slots::parse(text).err().unwrap().kind(), kind, "{text:?}");
    }
    let long = format!("1 3\n{}", "x".repeat(MAX_TEXT));
    assert!(Slots::parse(&long).is_err());
}

#[test]
fn what_breaks_a_rule_is_not_used() {
    let good = format!(
        "{} 2:cc:dd {} {}",
        slot().open_fields(),
        "01".repeat(32),
        "02".repeat(32)
    );
    let read = |body: &str| {
        let text = format!("1 3\n{}", line(&format!("slot {body}")));
        let slots = Slots::parse(&text).unwrap();
        slots.slots().count()
    };
    assert_eq!(read(&good), 1);
    let name = "a".repeat(MAX_NAME + 1);
    let label = hex::encode("x".repeat(MAX_LABEL + 1).as_bytes());
    for (from, to) in [
        ("paper", "Paper"),
        ("paper", "-"),
        ("paper", ""),
        ("paper", &name),
        ("recovery", "paper"),
        ("1700000000", "-1"),
        ("1700000000", "18446744073709551616"),
        ("696e2074686520", "0a"),
        ("696e2074686520", &label),
        (" - ", " pbkdf2:0:00 "),
        (" - ", " pbkdf2:2000001:00 "),
        (" - ", " pbkdf2:1: "),
        (" - ", " argon2id:1048577:1:1:0000000000000000 "),
        (" - ", " argon2id:7:1:1:0000000000000000 "),
        (" - ", " argon2id:19456:17:1:0000000000000000 "),
        (" - ", " argon2id:19456:1:17:0000000000000000 "),
        (" - ", " argon2id:19456:1:1:00000000000000 "),
        (" - ", " scrypt:1:1:00 "),
        (" 2:cc:dd ", " - "),
        ("recovery", "escrow"),
        ("01010101", "0101010"),
    ] {
        assert!(good.contains(from), "{from}");
        assert_eq!(read(&good.replacen(from, to, 1)), 0, "{from} -> {to}");
    }
}

#[test]
fn there_is_an_end_to_what_is_stored() {
    let many = |count: usize| Slots {
        serial: 1,
        records: vec![Record::Slot(slot()); count],
    };
    assert!(many(MAX_SLOTS).write().is_ok());
    assert!(many(MAX_SLOTS + 1).write().is_err());
    let keys = vec![
        Record::Key(SlotKey {
            slot: "paper".to_owned(),
            text: Zeroizing::new("x".repeat(1024)),
        });
        64
    ];
    assert!(
        Slots {
            serial: 1,
            records: keys
        }
        .write()
        .is_err()
    );
}

#[test]
fn errors_show_no_secret() {
    let text = all().write().unwrap().replace("2:cc:dd", "2:cc:de");
    for record in Slots::parse(&text).unwrap().records {
        if let Record::Unread { why, .. } = record {
            assert!(!why.to_string().contains("cc"), "{why}");
            assert!(why.to_string().starts_with("slot "), "{why}");
        }
    }
}
