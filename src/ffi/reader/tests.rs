use super::*;
use crate::crypto::Secret;
use crate::error::Result;
use crate::key::{KeyId, PrivateKey};
use crate::store::{KeySource, Memory, index_cache};
use crate::stream::{Algorithm, Encryptor, Sender, Version};

struct OneKey(PrivateKey, Memory);

impl KeySource for OneKey {
    fn private_key(&mut self, _: &[KeyId], _: Option<&mut dyn Attributes>) -> Result<PrivateKey> {
        Ok(self.0.clone())
    }

    fn memory(&mut self) -> &mut Memory {
        &mut self.1
    }

    fn cache_secret(&mut self, key: &PrivateKey) -> Result<Option<Secret>> {
        index_cache::derive(key).map(Some)
    }
}

/// A mail of several chunks: its key, its file, and its plaintext.
fn mail() -> (PrivateKey, Vec<u8>, Vec<u8>) {
    let key = PrivateKey::generate("prime256v1").unwrap();
    let plain: Vec<u8> = (0..400_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut sender = Sender::new(key.public());
    let mut encryptor = Encryptor::new(&Algorithm::default(), Version::V2, &mut sender).unwrap();
    let mut file = Vec::new();
    encryptor.update(&plain, &mut file).unwrap();
    encryptor.finish(&mut file).unwrap();
    (key, file, plain)
}

/// The same, opened.
fn large() -> (Reader, Vec<u8>, Vec<u8>) {
    let (key, file, plain) = mail();
    let keys = Rc::new(RefCell::new(OneKey(key, Memory::new(1))));
    let state = FileState {
        size: file.len() as u64,
        changed: 1,
        inode: 1,
    };
    let mut reader = Reader::new(keys, state);
    assert!(reader.feed(&file, None).unwrap());
    (reader, file, plain)
}

/// Has `handle` serve the chunk at `offset`: what the export answers, and what is lent.
///
/// # Safety
/// `handle` is live.
unsafe fn serve<'a>(handle: *mut mcrs_reader, offset: u64, file: &[u8]) -> (c_int, &'a [u8]) {
    let (mut data, mut size, mut from) = (std::ptr::null(), 0, 0);
    let none = std::ptr::null_mut();
    let keep = offset.saturating_sub(100);
    // SAFETY: a live handle and valid out-pointers.
    unsafe {
        let want = mcrs_reader_want(
            handle,
            keep,
            offset,
            &raw mut data,
            &raw mut from,
            &raw mut size,
            none,
        );
        assert_eq!(want, 0);
        let part = &file[from as usize..from as usize + size];
        let ret = mcrs_reader_serve(
            handle,
            keep,
            offset,
            part.as_ptr(),
            part.len(),
            &raw mut data,
            &raw mut size,
            none,
        );
        (ret, if ret > 0 { bytes(data, size) } else { &[] })
    }
}

#[test]
fn a_stream_may_look_at_what_it_was_lent_after_the_next_part_was_refused() {
    let (reader, mut file, plain) = large();
    let mut handle = mcrs_reader::give(reader);
    // SAFETY: live until it is freed below; what is lent is looked at before.
    unsafe {
        let (ret, lent) = serve(handle, 0, &file);
        assert_eq!(ret, 1);
        let end = lent.len() as u64;
        file.iter_mut().for_each(|byte| *byte ^= 1);
        assert_eq!(serve(handle, end, &file).0, -1);
        // Dovecot's streams keep their buffer when a read fails.
        assert_eq!(lent, &plain[..end as usize]);
        let mut size = 0;
        let none = std::ptr::null_mut();
        assert_eq!(mcrs_reader_size(handle, &raw mut size, none), -1);
        free(&raw mut handle);
    }
}

#[test]
fn a_damaged_mail_alone_is_at_fault() {
    let (key, mut file, _) = mail();
    let keys = Rc::new(RefCell::new(OneKey(key, Memory::new(1))));
    let state = FileState {
        size: u64::MAX,
        changed: 0,
        inode: 0,
    };
    let mut handle = mcrs_reader::give(Reader::new(keys, state));
    file.truncate(file.len() / 2);
    let mut error = std::mem::MaybeUninit::uninit();
    // SAFETY: live until it is freed below; the error is read once it was filled.
    unsafe {
        let none = std::ptr::null_mut();
        let error_r = error.as_mut_ptr();
        assert_eq!(
            mcrs_reader_feed(handle, none, file.as_ptr(), file.len(), error_r),
            0
        );
        assert_eq!(mcrs_reader_finish(handle, error_r), -1);
        let error: mcrs_error = error.assume_init();
        assert!(error.only_this_mail && !error.temporary);
        free(&raw mut handle);
    }
}
