//! A list of secret blocks that grows.
#![forbid(unsafe_code)]

use std::ops::Deref;

use zeroize::Zeroizing;

/// A block of 16 bytes.
type Block = [u8; 16];

/// Chunk tags, or keystream: wiped when it is dropped, and what it leaves behind when it grows.
#[derive(Default)]
pub(super) struct Blocks(Zeroizing<Vec<Block>>);

impl Blocks {
    /// Adds a block.
    pub fn push(&mut self, block: Block) {
        if self.0.len() == self.0.capacity() {
            self.set_capacity((2 * self.0.len()).max(16));
        }
        self.0.push(block);
    }

    /// Gives memory back that isn't needed any more.
    pub fn shrink(&mut self) {
        if self.0.len() < self.0.capacity() {
            self.set_capacity(self.0.len());
        }
    }

    fn set_capacity(&mut self, capacity: usize) {
        let mut moved = Zeroizing::new(Vec::with_capacity(capacity));
        moved.extend_from_slice(&self.0);
        self.0 = moved;
    }

    /// Bytes of memory that this holds.
    pub fn mem_size(&self) -> usize {
        size_of::<Block>() * self.0.capacity()
    }
}

impl Deref for Blocks {
    type Target = [Block];

    fn deref(&self) -> &[Block] {
        &self.0
    }
}

impl FromIterator<Block> for Blocks {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Self {
        let mut found = Blocks::default();
        blocks.into_iter().for_each(|block| found.push(block));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_what_it_was_given_however_it_grows() {
        let blocks: Blocks = (0..100).map(|n| [n; 16]).collect();
        assert!(
            blocks
                .iter()
                .zip(0..100)
                .all(|(block, n)| *block == [n; 16])
        );
        assert_eq!(blocks.len(), 100);
        let mut shrunk = blocks;
        shrunk.shrink();
        assert_eq!((shrunk.len(), shrunk.mem_size()), (100, 1600));
        assert_eq!(shrunk[99], [99; 16]);
        shrunk.push([1; 16]);
        assert_eq!(shrunk[100], [1; 16]);
    }
}
