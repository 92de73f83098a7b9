//! Memory for keys, passwords and plaintext.
#![forbid(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::ct_eq;

/// Bytes that are wiped when they go out of scope: keys, shared secrets, plaintext.
pub type Secret = SecretVec<u8>;

/// A list that is wiped when it goes out of scope.
///
/// It leaves no copies behind: when it grows, its old memory is wiped too. That is why it lends a
/// slice and never the `Vec`.
#[derive(Clone)]
pub struct SecretVec<T: Zeroize>(Vec<T>);

impl<T: Zeroize> SecretVec<T> {
    /// Takes over `list` and its memory.
    pub fn new(list: Vec<T>) -> Self {
        SecretVec(list)
    }

    /// An empty list, with room for `capacity` items before it has to move.
    pub fn with_capacity(capacity: usize) -> Self {
        SecretVec(Vec::with_capacity(capacity))
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Shortens it to `len` items. What was behind them is wiped with the rest.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Wipes everything, and empties it.
    pub fn wipe(&mut self) {
        // A Vec's items are wiped one by one, what lies beyond its length in one go.
        self.0.clear();
        self.0.zeroize();
    }
}

impl<T: Zeroize + Copy> SecretVec<T> {
    /// Appends one item.
    pub fn push(&mut self, item: T) {
        self.extend_from_slice(&[item]);
    }

    /// Appends `items`.
    pub fn extend_from_slice(&mut self, items: &[T]) {
        let len = self.len() + items.len();
        if len > self.capacity() {
            self.move_to(len.next_power_of_two());
        }
        self.0.extend_from_slice(items);
    }

    /// Drops the first `count` items.
    pub fn drop_front(&mut self, count: usize) {
        let count = count.min(self.len());
        self.0.copy_within(count.., 0);
        let len = self.len() - count;
        self.0[len..].iter_mut().zeroize();
        self.0.truncate(len);
    }

    /// Gives memory back that isn't needed any more.
    pub fn shrink(&mut self) {
        if self.len() < self.capacity() {
            self.move_to(self.len());
        }
    }

    fn move_to(&mut self, capacity: usize) {
        let mut moved = Vec::with_capacity(capacity);
        moved.extend_from_slice(&self.0);
        self.wipe();
        self.0 = moved;
    }
}

impl Secret {
    /// `len` zero bytes, to be filled.
    pub fn zeroed(len: usize) -> Self {
        SecretVec(vec![0; len])
    }

    /// The bytes as text. `None`, with the bytes wiped, if they aren't UTF-8.
    pub fn into_text(mut self) -> Option<Zeroizing<String>> {
        match String::from_utf8(std::mem::take(&mut self.0)) {
            Ok(text) => Some(Zeroizing::new(text)),
            Err(error) => {
                self.0 = error.into_bytes();
                None
            }
        }
    }
}

impl<T: Zeroize> Drop for SecretVec<T> {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl<T: Zeroize> Zeroize for SecretVec<T> {
    fn zeroize(&mut self) {
        self.wipe();
    }
}

impl<T: Zeroize> ZeroizeOnDrop for SecretVec<T> {}

impl<T: Zeroize> Default for SecretVec<T> {
    fn default() -> Self {
        SecretVec(Vec::new())
    }
}

impl<T: Zeroize> Deref for SecretVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Zeroize> DerefMut for SecretVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Zeroize> AsRef<[T]> for SecretVec<T> {
    fn as_ref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Zeroize + Copy> FromIterator<T> for SecretVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items = items.into_iter();
        let mut list = SecretVec::with_capacity(items.size_hint().0);
        items.for_each(|item| list.push(item));
        list
    }
}

/// Compares in a time that depends on the lengths only.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        ct_eq(self, other)
    }
}

impl Eq for Secret {}

impl io::Write for Secret {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Builds a secret text. Leaves no copies behind when it grows.
#[derive(Default)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// An empty text, with room for `capacity` bytes before it has to move.
    pub fn with_capacity(capacity: usize) -> Self {
        SecretText(Zeroizing::new(String::with_capacity(capacity)))
    }

    /// Appends `text`.
    pub fn push_str(&mut self, text: &str) {
        let len = self.0.len() + text.len();
        if len > self.0.capacity() {
            let mut moved = Zeroizing::new(String::with_capacity(len.next_power_of_two()));
            moved.push_str(&self.0);
            self.0 = moved;
        }
        self.0.push_str(text);
    }

    /// Appends a character.
    pub fn push(&mut self, c: char) {
        self.push_str(c.encode_utf8(&mut [0; 4]));
    }

    /// The text.
    pub fn finish(self) -> Zeroizing<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_what_it_was_given_however_it_grows() {
        let mut blocks: SecretVec<[u8; 16]> = (0..100).map(|n| [n; 16]).collect();
        let expected: Vec<[u8; 16]> = (0..100).map(|n| [n; 16]).collect();
        assert_eq!(*blocks, expected);
        blocks.shrink();
        assert_eq!((blocks.len(), blocks.capacity()), (100, 100));
        blocks.push([1; 16]);
        assert_eq!(blocks.last(), Some(&[1; 16]));
        blocks.drop_front(99);
        assert_eq!(*blocks, [[99; 16], [1; 16]]);
        blocks.drop_front(3);
        assert!(blocks.is_empty());
    }

    #[test]
    fn a_text_keeps_what_it_was_given_however_it_grows() {
        let mut text = SecretText::with_capacity(3);
        for _ in 0..100 {
            text.push('ä');
            text.push_str("bc");
        }
        assert_eq!(*text.finish(), "äbc".repeat(100));
    }
}
