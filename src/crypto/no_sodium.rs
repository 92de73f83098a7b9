//! In a build without TREES: see `sodium.rs`.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use super::Secret;
use crate::error::{Error, Result};

fn absent() -> Error {
    Error::unsupported("this plugin was built without TREES (cargo's feature `trees`)")
}

/// There is none.
#[derive(Clone)]
pub struct SealKey(Infallible);

impl SealKey {
    /// From the key's bytes.
    ///
    /// # Errors
    /// Unsupported.
    pub fn new(_: &[u8; 32]) -> Result<Self> {
        Err(absent())
    }

    /// Its public half.
    pub fn public(&self) -> [u8; 32] {
        match self.0 {}
    }

    /// The content of a box.
    pub fn open(&self, _: &[u8]) -> Option<Secret> {
        match self.0 {}
    }
}

/// The content of a secret box.
///
/// # Errors
/// Unsupported.
pub fn open_secretbox(_: &[u8; 32], _: &[u8; 24], _: &[u8]) -> Result<Option<Secret>> {
    Err(absent())
}
