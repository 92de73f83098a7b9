//! Reading one encrypted mail: verified whole, then served. One that TREES wrote is opened in [`trees`].
#![forbid(unsafe_code)]

mod trees;

use std::cell::RefCell;
use std::rc::Rc;

use super::attributes::Attributes;
use super::events::{Happened, Name, Origin};
use super::index_cache::{self, CHANGED_FIELD, CHUNK_TAGS_FIELD, CONTENT_KEY_FIELD};
use super::key_source::{FileState, KeySource, Memory, VerifiedFile, in_use};
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyType;
use crate::stream::{Body, Feed, Format, Opener, TreesOpener, Verified, Window};

/// What Dovecot's index cache has about a mail, by field.
type Entries = [Option<Vec<u8>>; CHANGED_FIELD + 1];

/// A mail, from its first ciphertext byte to its last plaintext byte.
pub struct Reader {
    keys: Rc<RefCell<dyn KeySource>>,
    file: FileState,
    /// Bytes of the file that were fed.
    fed: u64,
    /// The header's hash, once the header is known.
    header: [u8; 32],
    /// The index cache's entries for this mail, if any.
    cached: Entries,
    /// The entries that the index cache should get.
    cacheable: Entries,
    /// Seals entries once the mail is verified.
    sealing: Option<Secret>,
    /// The session already remembers the content key.
    remembered: bool,
    /// Finding the content key took public-key cryptography, which an index cache entry saves.
    expensive: bool,
    /// The mail was open before in this session, so it is read piece by piece.
    reopened: bool,
    /// The whole file was verified just now.
    is_new: bool,
    /// Which key for it isn't there.
    missing: Missing,
    /// For whoever counts.
    origin: Origin,
    format: Option<Format>,
    error: Option<ErrorKind>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum Missing {
    None,
    Key,
    /// That of all of the user's mail of TREES.
    TreesKey,
}

enum State {
    Opening(Box<Opener>),
    OpeningTrees(Box<TreesOpener>),
    Small(Secret),
    Large(Rc<Verified>, Window),
    /// Keeps what was lent: Dovecot's streams keep their buffer when a read fails.
    Failed(Secret, Window),
}

impl State {
    fn failed(self) -> Self {
        let (plain, window) = match self {
            State::Opening(_) | State::OpeningTrees(_) => (Secret::default(), Window::default()),
            State::Small(plain) => (plain, Window::default()),
            State::Large(_, window) => (Secret::default(), window),
            State::Failed(plain, window) => (plain, window),
        };
        State::Failed(plain, window)
    }
}

/// What a stream gets next.
pub enum Served<'a> {
    /// First the file's bytes are needed: the offset, and how many.
    Needs(u64, usize),
    /// The plaintext from what is to be kept on, at the same address as before.
    InPlace(&'a [u8]),
    /// The same, at another address.
    Moved(&'a [u8]),
}

fn not_open() -> Error {
    Error::internal("the mail is not open")
}

fn no_field() -> Error {
    Error::internal("no such cache field")
}

/// Has the opener, now unlocked, take what it was fed before.
fn go_on(opener: &mut Opener) -> Result<bool> {
    match opener.feed(&[])? {
        Feed::More => Ok(false),
        Feed::NeedKey(_) => Err(not_open()),
    }
}

impl Reader {
    /// A reader for `file`.
    pub fn new(keys: Rc<RefCell<dyn KeySource>>, file: FileState) -> Self {
        Self::opening(keys, file, State::Opening(Box::default()))
    }

    /// A reader for `file`, which TREES wrote.
    pub fn trees(keys: Rc<RefCell<dyn KeySource>>, file: FileState) -> Self {
        Self::opening(keys, file, State::OpeningTrees(Box::default()))
    }

    fn opening(keys: Rc<RefCell<dyn KeySource>>, file: FileState, state: State) -> Self {
        let origin = keys.try_borrow().map(|keys| keys.origin());
        Reader {
            origin: origin.unwrap_or_default(),
            format: None,
            error: None,
            keys,
            file,
            fed: 0,
            header: [0; 32],
            cached: Entries::default(),
            cacheable: Entries::default(),
            sealing: None,
            remembered: false,
            expensive: false,
            reopened: false,
            is_new: false,
            missing: Missing::None,
            state,
        }
    }

    fn take_state(&mut self) -> State {
        let failed = State::Failed(Secret::default(), Window::default());
        std::mem::replace(&mut self.state, failed)
    }

    /// Hands over what the index cache has about the mail in `field`, before the first byte of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] where there is no such field.
    pub fn set_cached(&mut self, field: usize, entry: &[u8]) -> Result<()> {
        *self.cached.get_mut(field).ok_or_else(no_field)? = Some(entry.to_vec());
        Ok(())
    }

    /// What the index cache should get in `field`, once the mail is open.
    ///
    /// # Errors
    /// As [`Reader::set_cached`].
    pub fn cacheable(&self, field: usize) -> Result<Option<&[u8]>> {
        let entry = self.cacheable.get(field).ok_or_else(no_field)?;
        Ok(entry.as_deref())
    }

    /// Whether the whole file was verified to open the mail.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The mail, though open, isn't to be served: what was learned from it is forgotten.
    pub fn refuse(&mut self) {
        let refused = Error::new(ErrorKind::Unsupported, "not to be served");
        let _ = self.failing::<()>(|_| Err(refused));
    }

    /// After an error nothing more is served.
    fn failing<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let result = f(self);
        if let Err(e) = &result {
            self.error = self.error.or(Some(e.kind()));
            let state = self.take_state();
            // Whoever opens the file again has all of it verified, and finds the damage then.
            if let (State::Large(..), Ok(mut keys)) = (&state, self.keys.try_borrow_mut()) {
                let memory = keys.memory();
                memory.verified.remove(&self.header);
                memory.chunks.of(&self.header).clear();
                memory.changed.insert(self.header, self.file);
            }
            self.state = state.failed();
        }
        result
    }

    /// Takes the next bytes of the file; the keys of `folder` are looked up once the header is complete.
    /// Returns whether the mail is open: the rest of the file, if any, isn't needed.
    ///
    /// # Errors
    /// The mail can't be read, and nothing of it is served.
    pub fn feed(&mut self, data: &[u8], folder: Option<&mut dyn Attributes>) -> Result<bool> {
        self.failing(|reader| {
            if reader.take(data, folder)? {
                return Ok(true);
            }
            reader.fed += data.len() as u64;
            if reader.fed < reader.file.size {
                return Ok(false);
            }
            // This is its end: looking for it would cost a read that finds nothing.
            reader.verify()?;
            Ok(true)
        })
    }

    /// The file has ended: checks the mail.
    ///
    /// # Errors
    /// As [`Reader::feed`].
    pub fn finish(&mut self) -> Result<()> {
        self.failing(Self::verify)
    }

    /// Returns whether the mail is known already.
    fn take(&mut self, data: &[u8], folder: Option<&mut dyn Attributes>) -> Result<bool> {
        let opener = match &mut self.state {
            State::Opening(opener) => opener,
            State::OpeningTrees(_) => return self.take_trees(data),
            _ => return Err(not_open()),
        };
        let Feed::NeedKey(ids) = opener.feed(data)? else {
            return Ok(false);
        };
        self.format = opener.format();
        let mut keys = self.keys.try_borrow_mut().map_err(|_| in_use())?;
        let header = opener.header_hash()?;
        self.header = header;
        let memory = keys.memory();
        if let Some(verified) = memory.verified.get(&header) {
            if verified.state == self.file {
                self.state = State::Large(Rc::clone(&verified.content), Window::default());
                self.reopened = true;
                return Ok(true);
            }
        }
        let [known_key, mut known_tags, changed] = std::mem::take(&mut self.cached);
        let is_changed = changed.is_some_and(|state| state == self.file.to_bytes());
        if is_changed || memory.changed.get(&header).is_some() {
            known_tags = None;
        }
        if let (None, Some(block)) = (&known_tags, memory.content_keys.get(&header)) {
            if opener.unlock_with_block(block).is_ok() {
                self.remembered = true;
                return go_on(opener);
            }
        }
        self.missing = Missing::Key;
        let key = keys.private_key(&ids, folder)?;
        self.missing = Missing::None;
        let secret = keys.cache_secret(&key)?;
        let known = known_key.zip(secret.as_ref());
        let block = known.and_then(|(e, with)| index_cache::open_content_key(with, &header, &e));
        // A stale entry only costs the time that it would have saved.
        if block.is_none_or(|block| opener.unlock_with_block(&block).is_err()) {
            let secrets = &mut keys.memory().secrets;
            let known = secrets.misses();
            opener.unlock(&key, secrets)?;
            self.expensive = secrets.misses() != known || key.key_type() == KeyType::Rsa;
        }
        let known = known_tags.zip(secret.as_ref()).and_then(|(entry, with)| {
            index_cache::open_chunk_tags(with, &header, self.file, opener, &entry)
        });
        if let Some(verified) = known {
            let content = remember(keys.memory(), header, self.file, verified);
            self.state = State::Large(content, Window::default());
            return Ok(true);
        }
        self.sealing = secret;
        go_on(opener)
    }

    fn verify(&mut self) -> Result<()> {
        let opener = match self.take_state() {
            State::Opening(opener) => opener,
            State::OpeningTrees(opener) => return self.verify_trees(*opener),
            _ => return Err(not_open()),
        };
        let header = self.header;
        let sealing = self.sealing.take();
        let mut keys = self.keys.try_borrow_mut().map_err(|_| in_use())?;
        let memory = keys.memory();
        // What is remembered already need not be remembered again.
        let block = opener.content_key().filter(|_| !self.remembered).cloned();
        self.state = match opener.finish()? {
            Body::Small(plain) => State::Small(plain),
            Body::Large(verified) => {
                memory.changed.remove(&header);
                let content = remember(memory, header, self.file, *verified);
                if let Some(secret) = &sealing {
                    let entry = index_cache::seal_chunk_tags(secret, &header, self.file, &content);
                    self.cacheable[CHUNK_TAGS_FIELD] = entry.unwrap_or_default();
                }
                State::Large(content, Window::default())
            }
        };
        self.is_new = true;
        let Some(block) = block else {
            return Ok(());
        };
        if let Some(secret) = sealing.filter(|_| self.expensive) {
            self.cacheable[CONTENT_KEY_FIELD] =
                index_cache::seal_content_key(&secret, &header, &block).ok();
        }
        memory.content_keys.insert(header, block);
        Ok(())
    }
}

/// Told at the end: what was read first may be refused, or found changed, later.
impl Drop for Reader {
    fn drop(&mut self) {
        let size = self.size().ok();
        if size.is_none() && self.error.is_none() {
            return;
        }
        let Origin { source, events } = &self.origin;
        events.emit(Happened::file(
            Name::Decrypt,
            *source,
            self.format,
            size,
            self.error,
        ));
    }
}

impl Reader {
    /// Whether the mail, which couldn't be read, is itself at fault: the key that new mail, or all mail of TREES, needs
    /// opens.
    pub fn failed_alone(&self) -> bool {
        if !matches!(self.state, State::Failed(..)) {
            return false;
        }
        let keys = self.keys.try_borrow_mut();
        match self.missing {
            Missing::None => true,
            Missing::Key => keys.is_ok_and(|mut keys| keys.opens_own()),
            Missing::TreesKey => false,
        }
    }

    /// Size of the plaintext in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] where the mail isn't open.
    pub fn size(&self) -> Result<u64> {
        match &self.state {
            State::Small(plain) => Ok(plain.len() as u64),
            State::Large(verified, _) => Ok(verified.plain_size()),
            State::Opening(_) | State::OpeningTrees(_) | State::Failed(..) => Err(not_open()),
        }
    }

    /// What there is of the plaintext from `offset` on; `keep` (at most `offset`) is where what a stream's
    /// reader hasn't consumed begins.
    ///
    /// # Errors
    /// As [`Reader::size`].
    pub fn want(&mut self, keep: u64, offset: u64) -> Result<Served<'_>> {
        match &mut self.state {
            State::Small(plain) => {
                let rest = usize::try_from(keep).ok().and_then(|o| plain.get(o..));
                rest.map(Served::InPlace).ok_or_else(not_open)
            }
            State::Large(verified, window) => {
                let mut keys = self.keys.try_borrow_mut();
                if let (true, Ok(keys)) = (self.reopened, &mut keys) {
                    let chunks = keys.memory().chunks.of(&self.header);
                    if window.serve_cached(verified, chunks, keep, offset) {
                        return Ok(Served::Moved(window.plain()));
                    }
                }
                let (from, size) = window.wants(verified, offset);
                Ok(Served::Needs(from, size))
            }
            State::Opening(_) | State::OpeningTrees(_) | State::Failed(..) => Err(not_open()),
        }
    }

    /// Takes what was needed, or its first part. Returns the plaintext from `keep` on, if it is enough.
    ///
    /// # Errors
    /// The file was changed since it was verified.
    pub fn serve(&mut self, keep: u64, offset: u64, data: &[u8]) -> Result<Option<&[u8]>> {
        if !self.failing(|reader| reader.decrypt(keep, offset, data))? {
            return Ok(None);
        }
        match &self.state {
            State::Large(_, window) => Ok(Some(window.plain())),
            _ => Err(not_open()),
        }
    }

    fn decrypt(&mut self, keep: u64, offset: u64, data: &[u8]) -> Result<bool> {
        let State::Large(verified, window) = &mut self.state else {
            return Err(not_open());
        };
        let mut keys = self.keys.try_borrow_mut();
        let chunks = match &mut keys {
            Ok(keys) if self.reopened => Some(keys.memory().chunks.of(&self.header)),
            _ => None,
        };
        window.serve(verified, chunks, keep, offset, data)
    }
}

/// For the next reader of the file.
fn remember(
    memory: &mut Memory,
    header: [u8; 32],
    state: FileState,
    verified: Verified,
) -> Rc<Verified> {
    let content = Rc::new(verified);
    let file = VerifiedFile {
        state,
        content: Rc::clone(&content),
    };
    memory.verified.insert(header, file);
    content
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
