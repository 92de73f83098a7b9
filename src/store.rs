//! The key store's rules: which keys a user and a folder have, where they live in the mailbox
//! attributes, how they are made and unlocked. Knows nothing of Dovecot but the two traits in
//! [`attributes`].
#![forbid(unsafe_code)]

pub mod acl;
pub mod admin;
pub mod attributes;
pub mod carry;
pub mod convert;
pub mod copy;
pub mod events;
pub mod filing;
pub mod fs_keys;
pub mod fs_params;
pub mod index_cache;
pub mod key_source;
pub mod keyring;
pub mod names;
pub mod reader;
pub mod saved;
pub mod senders;
pub mod settings;
pub mod sharing;
pub mod slots;
pub mod state;
pub mod writer;

#[cfg(test)]
pub mod testing;

pub use attributes::{Access, Attributes, BY_ID, Change, Guid, Host, Level, Scope};
pub use events::{Events, Happened, Origin};
pub use key_source::{FileState, KeySource, Memory, VerifiedFile, in_use};
pub use keyring::Keyring;
pub use names::{Line, Setting};
pub use reader::Reader;
pub use settings::{Password, SaveVersion, Settings};
pub use sharing::{Sharee, Sharing};
pub use writer::Writer;
