//! A map that forgets its oldest entries.
#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Remembers at most `limit` entries; the oldest makes room for the next.
///
/// First in, first out: what is still needed comes back with its next use, so exact LRU isn't worth
/// the bookkeeping.
pub struct Bounded<K, V> {
    limit: usize,
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    /// An empty map for at most `limit` entries; with 0 nothing is remembered.
    pub fn new(limit: usize) -> Self {
        Bounded {
            limit,
            map: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The value under `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.map.get(key)
    }

    /// Puts `value` under `key`, in place of any older one.
    pub fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.limit {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }

    /// What it remembers, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.map.values()
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &K) {
        if self.map.remove(key).is_some() {
            self.order.retain(|k| k != key);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.map.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let mut map = Bounded::new(2);
        for n in 0..3 {
            map.insert(n, n);
        }
        assert_eq!(map.get(&0), None);
        assert_eq!(map.get(&1), Some(&1));
        assert_eq!(map.get(&2), Some(&2));
    }

    #[test]
    fn a_replaced_or_removed_entry_counts_once() {
        let mut map = Bounded::new(2);
        map.insert(1, 'a');
        map.insert(1, 'b');
        map.insert(2, 'c');
        assert_eq!(map.get(&1), Some(&'b'));
        map.remove(&1);
        map.insert(3, 'd');
        assert_eq!(map.get(&2), Some(&'c'));
        assert_eq!(map.get(&3), Some(&'d'));
    }
}
