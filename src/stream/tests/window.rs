use super::*;

fn verified(key: &PrivateKey, file: &[u8]) -> Verified {
    let mut opener = Opener::new(LARGE);
    opener.feed(file).unwrap();
    opener.unlock(key, &mut SecretCache::default()).unwrap();
    match opener.finish().unwrap() {
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
        if window.serve(mail, None, keep, offset, data)? {
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

/// As a client that fetches pieces: each is gone through once more before the next.
#[test]
fn what_was_served_last_needs_no_ciphertext() {
    let (key, data) = (key(), plain(3000));
    let file = seal(&key, &data);
    let mail = verified(&key, &file);
    let mut cache = ChunkCache::default();
    let mut fetch = |window: &mut Window, offset: u64, file: Option<&[u8]>| {
        let end = (offset / 64 * 64 + 64).min(3000) as usize;
        let known = window.serve_cached(&mail, &cache, offset, offset);
        if !known {
            let (at, size) = window.wants(&mail, offset);
            let part = &file.expect("it isn't known")[at as usize..at as usize + size];
            window
                .serve(&mail, Some(&mut cache), offset, offset, part)
                .unwrap();
        }
        assert_eq!(window.plain(), &data[offset as usize..end], "{offset}");
        known
    };
    // 10 chunks are kept.
    let mut window = Window::default();
    assert!(!(0..10).any(|n| fetch(&mut window, n * 64, Some(&file))));
    let mut other = Window::default();
    assert!((0..10).all(|n| fetch(&mut other, n * 64 + n, None)));
    // The oldest goes, but not what is looked at.
    fetch(&mut other, 0, None);
    assert!(!fetch(&mut window, 10 * 64, Some(&file)));
    assert_eq!(other.plain(), &data[..64]);
    assert!(!fetch(&mut window, 0, Some(&file)));
    // To the mail's end, whose chunk is shorter, and back.
    assert!(!(20..47).any(|n| fetch(&mut window, n * 64, Some(&file))));
    assert!((37..47).all(|n| fetch(&mut other, n * 64 + 5, None)));
    assert!(!fetch(&mut window, 64, Some(&file)));
}

#[test]
fn a_stream_keeps_what_it_has_not_consumed_whatever_was_served_last() {
    let (key, data) = (key(), plain(1000));
    let file = seal(&key, &data);
    let mail = verified(&key, &file);
    let mut cache = ChunkCache::default();
    let mut window = Window::default();
    let part = |number: u64| {
        let (at, size) = mail.ciphertext_range(number as usize);
        &file[at as usize..at as usize + size]
    };
    let mut serve = |keep: u64, number: u64| {
        let offset = number * 64;
        assert!(keep == offset || !window.serve_cached(&mail, &cache, keep, offset));
        window
            .serve(&mail, Some(&mut cache), keep, offset, part(number))
            .unwrap();
        let end = (offset + 64) as usize;
        assert_eq!(window.plain(), &data[keep as usize..end], "{keep}");
    };
    serve(0, 0);
    serve(64, 1);
    serve(127, 2);
    serve(150, 3);
    serve(256, 4);
    serve(300, 5);
}

#[test]
fn chunks_of_one_mail_are_never_another_s() {
    let (key, data) = (key(), plain(1000));
    let file = seal(&key, &data);
    let mail = verified(&key, &file);
    let mut cache = ChunkCache::default();
    let (at, size) = mail.ciphertext_range(0);
    let part = &file[at as usize..at as usize + size];
    let mut window = Window::default();
    let kept = cache.of(&[1; 32]);
    window.serve(&mail, Some(kept), 0, 0, part).unwrap();
    assert!(window.serve_cached(&mail, cache.of(&[1; 32]), 0, 0));
    assert!(!window.serve_cached(&mail, cache.of(&[2; 32]), 0, 0));
    assert!(!window.serve_cached(&mail, cache.of(&[1; 32]), 0, 0));
}
