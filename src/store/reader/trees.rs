//! Opens a mail that TREES wrote. What the session remembers of it lives as long as the session: the index cache gets nothing.
#![forbid(unsafe_code)]

use std::rc::Rc;

use super::{Missing, Reader, State, in_use, not_open, remember};
use crate::error::Result;
use crate::stream::{Body, TreesFeed, TreesOpener, Window};

impl Reader {
    /// Takes the file's next bytes. Returns whether the mail is known already.
    pub(super) fn take_trees(&mut self, data: &[u8]) -> Result<bool> {
        let State::OpeningTrees(opener) = &mut self.state else {
            return Err(not_open());
        };
        if opener.feed(data)? == TreesFeed::More {
            return Ok(false);
        }
        self.header = opener.id()?;
        let mut keys = self.keys.try_borrow_mut().map_err(|_| in_use())?;
        if let Some(verified) = keys.memory().verified.get(&self.header) {
            if verified.state == self.file {
                self.state = State::Large(Rc::clone(&verified.content), Window::default());
                self.reopened = true;
                return Ok(true);
            }
        }
        self.missing = Missing::TreesKey;
        let key = keys.trees_key()?;
        self.missing = Missing::None;
        opener.unlock(key)?;
        Ok(false)
    }

    pub(super) fn verify_trees(&mut self, opener: TreesOpener) -> Result<()> {
        let mut keys = self.keys.try_borrow_mut().map_err(|_| in_use())?;
        self.state = match opener.finish()? {
            Body::Small(plain) => State::Small(plain),
            Body::Large(verified) => {
                let memory = keys.memory();
                let content = remember(memory, self.header, self.file, *verified);
                State::Large(content, Window::default())
            }
        };
        self.is_new = true;
        Ok(())
    }
}

#[cfg(all(test, feature = "trees"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::cell::RefCell;

    use super::super::Served;
    use super::*;
    use crate::crypto::Secret;
    use crate::error::{Error, ErrorKind};
    use crate::key::trees::TreesKey;
    use crate::key::{KeyId, PrivateKey};
    use crate::store::{Attributes, FileState, KeySource, Memory};
    use crate::stream::trees_tests::{file, key};

    struct Keys {
        trees: Option<TreesKey>,
        asked: usize,
        memory: Memory,
    }

    impl KeySource for Keys {
        fn private_key(
            &mut self,
            _: &[KeyId],
            _: Option<&mut dyn Attributes>,
        ) -> Result<PrivateKey> {
            panic!("no mail of ours")
        }

        fn trees_key(&mut self) -> Result<TreesKey> {
            self.asked += 1;
            let none = || Error::new(ErrorKind::WrongPassword, "another one");
            self.trees.clone().ok_or_else(none)
        }

        fn opens_own(&mut self) -> bool {
            true
        }

        fn memory(&mut self) -> &mut Memory {
            &mut self.memory
        }

        fn cache_secret(&mut self, _: &PrivateKey) -> Result<Option<Secret>> {
            panic!("nothing goes into the index cache")
        }
    }

    fn keys(trees: Option<TreesKey>) -> Rc<RefCell<Keys>> {
        Rc::new(RefCell::new(Keys {
            trees,
            asked: 0,
            memory: Memory::new(1),
        }))
    }

    fn reader(keys: &Rc<RefCell<Keys>>, file: &[u8]) -> Reader {
        let state = FileState {
            size: file.len() as u64,
            changed: 1,
            inode: 1,
        };
        Reader::trees(Rc::<RefCell<Keys>>::clone(keys), state)
    }

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 251 + i) as u8).collect()
    }

    #[test]
    fn a_small_mail_is_served_at_once() {
        let keys = keys(Some(key()));
        let plain = text(20_000);
        let file = file(&plain);
        let mut reader = reader(&keys, &file);
        let mut pieces = file.chunks(7000);
        assert!(!reader.feed(pieces.next().unwrap(), None).unwrap());
        let opened: Vec<bool> = pieces.map(|p| reader.feed(p, None).unwrap()).collect();
        assert_eq!(opened.last(), Some(&true));
        assert_eq!(reader.size().unwrap(), plain.len() as u64);
        let Served::InPlace(served) = reader.want(0, 0).unwrap() else {
            panic!("a small mail is in memory");
        };
        assert_eq!(served, plain);
        assert!(reader.is_new() && reader.cacheable(0).unwrap().is_none());
    }

    #[test]
    fn a_large_mail_is_verified_once_a_session_and_served_from_any_offset() {
        let keys = keys(Some(key()));
        let plain = text(500_000);
        let file = file(&plain);
        for again in [false, true] {
            let mut reader = reader(&keys, &file);
            let start = if again { 9000 } else { file.len() };
            assert!(reader.feed(&file[..start], None).unwrap());
            assert_eq!(reader.is_new(), !again);
            for offset in [400_000u64, 0, 131_071, 131_072, 499_999] {
                let Served::Needs(from, size) = reader.want(offset, offset).unwrap() else {
                    panic!("nothing is kept");
                };
                let (from, at) = (from as usize, offset as usize);
                let part = &file[from..from + size];
                let served = reader.serve(offset, offset, part).unwrap().unwrap();
                assert_eq!(*served, plain[at..at + served.len()]);
                assert!(!served.is_empty());
            }
        }
        assert_eq!(keys.borrow().asked, 1);
    }

    #[test]
    fn without_the_key_no_mail_of_trees_can_be_read() {
        let file = file(b"text");
        let keys = keys(None);
        let mut reader = reader(&keys, &file);
        let e = reader.feed(&file, None).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::WrongPassword);
        assert!(!reader.failed_alone());
    }

    #[test]
    fn a_damaged_mail_is_itself_at_fault() {
        let mut file = file(&text(9000));
        file[8300] ^= 1;
        let keys = keys(Some(key()));
        let mut reader = reader(&keys, &file);
        let e = reader.feed(&file, None).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Tampered);
        assert!(reader.failed_alone() && reader.want(0, 0).is_err());
    }
}
