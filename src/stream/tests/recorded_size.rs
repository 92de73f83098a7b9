//! What is taken for a size that Dovecot has noted of a ciphertext.

use super::*;

/// What Dovecot counts when it mends a file: a CR for each bare LF.
fn counted(data: &[u8]) -> u64 {
    let bare = (0..data.len()).filter(|&i| data[i] == b'\n' && (i == 0 || data[i - 1] != b'\r'));
    (data.len() + bare.count()) as u64
}

#[test]
fn size_of_a_ciphertext_is_known_for_what_it_is() {
    let key = key();
    for len in [0, 1, 100, 4096, 70_000, 3_000_000] {
        for _ in 0..20 {
            let file = seal(&key, &plain(len));
            assert!(
                may_be_ciphertext_size(counted(&file), file.len() as u64),
                "{len}"
            );
        }
    }
}

#[test]
fn size_of_a_text_is_not_taken_for_its_ciphertext() {
    let key = key();
    // Lines as mail has them, and base64.
    for line in [
        &b"a line of a mail, and not the longest one\n"[..],
        &[b'A'; 76],
    ] {
        for lines in [1000, 50_000] {
            let text = [line, b"\n"].concat().repeat(lines);
            let file = seal(&key, &text);
            assert!(!may_be_ciphertext_size(counted(&text), file.len() as u64));
        }
    }
}

#[test]
fn no_size_is_too_large_to_be_asked_about() {
    assert!(!may_be_ciphertext_size(0, u64::MAX));
    assert!(!may_be_ciphertext_size(u64::MAX, 0));
    assert!(may_be_ciphertext_size(u64::MAX, u64::MAX));
}
