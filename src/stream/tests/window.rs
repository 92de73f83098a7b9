use super::*;

fn verified(key: &PrivateKey, file: &[u8]) -> Verified {
    let mut opener = Opener::new(LARGE);
    opener.feed(file).unwrap();
    opener.unlock(key, &mut SecretCache::default()).unwrap();
    match opener.finish().unwrap().body {
        Body::Large(mail) => *mail,
        Body::Small(_) => panic!("this mail is large"),
    }
}

/// Has the window serve `offset`, with ciphertext in pieces of at most `piece` bytes.
fn serve(
    window: &mut Window,
    mail: &Verified,
    (keep, offset): (u64, u64),
    piece: usize,
    file: &[u8],
) -> Result<()> {
    loop {
        let (at, size) = window.wants(mail, offset);
        let rest = file.get(at as usize..).unwrap_or_default();
        let data = &rest[..rest.len().min(size).min(piece)];
        if window.serve(mail, keep, offset, data)? {
            return Ok(());
        }
    }
}

#[test]
fn a_stream_gets_what_it_has_not_consumed_and_the_next_chunk() {
    let (key, data) = (key(), plain(1000));
    let file = seal(&key, &data);
    let mail = verified(&key, &file);
    for piece in [1, 7, 64, 1000] {
        let mut window = Window::default();
        // On, on, a seek back into a chunk's middle, on to the end, and to the beginning.
        for (keep, offset, end) in [
            (0, 0, 64),
            (10, 64, 128),
            (100, 128, 192),
            (130, 130, 192),
            (130, 192, 256),
            (999, 999, 1000),
            (0, 0, 64),
        ] {
            serve(&mut window, &mail, (keep, offset), piece, &file).unwrap();
            assert_eq!(window.plain(), &data[keep as usize..end], "{keep} {offset}");
        }
    }
}

#[test]
fn what_was_lent_stays_in_its_place_when_the_next_chunk_is_refused() {
    let (key, data) = (key(), plain(1000));
    let file = seal(&key, &data);
    let mail = verified(&key, &file);
    let mut changed = file.clone();
    let (at, _) = mail.ciphertext_range(1);
    changed[at as usize] ^= 1;
    for (file, refused) in [
        (&changed[..], ErrorKind::Tampered),
        (&file[..at as usize + 9], ErrorKind::Truncated),
    ] {
        for piece in [5, 64] {
            let mut window = Window::default();
            serve(&mut window, &mail, (0, 0), piece, file).unwrap();
            let place = window.plain().as_ptr();
            // A stream's reader that has consumed 10 bytes asks for more.
            let result = serve(&mut window, &mail, (10, 64), piece, file);
            assert_eq!(kind(result), refused);
            assert_eq!(window.plain().as_ptr(), place);
            assert_eq!(window.plain(), &data[..64]);
        }
    }
}
