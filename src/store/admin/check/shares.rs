//! Whether those with whom a folder is shared have its keys, and nobody else.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::line::{Level as Bad, Line, many};
use crate::error::Result;
use crate::hex;
use crate::key::KeyId;
use crate::store::acl::Readers;
use crate::store::attributes::{Attributes, Level, Scope};

/// What sets copies right.
const SET_AGAIN: &str = "Set the right again with doveadm acl set, which shares the keys";

/// The copies of a folder's keys.
#[derive(Default)]
struct Copies {
    /// By user.
    users: BTreeMap<String, BTreeSet<KeyId>>,
    /// Those that are not encrypted.
    open: BTreeSet<KeyId>,
    /// Of a name that can't be read.
    others: u64,
}

impl Copies {
    fn read(folder: &mut dyn Attributes) -> Result<Self> {
        let mut copies = Copies::default();
        for name in folder.list(Scope::Shared, &Level::Folder.private_prefix())? {
            let (user, id) = name.rsplit_once('/').unwrap_or(("", &name));
            let user = hex::decode(user)
                .ok()
                .and_then(|user| String::from_utf8(user.to_vec()).ok());
            match (user, id.parse::<KeyId>()) {
                (Some(user), Ok(id)) if user.is_empty() => drop(copies.open.insert(id)),
                (Some(user), Ok(id)) => drop(copies.users.entry(user).or_default().insert(id)),
                _ => copies.others += 1,
            }
        }
        Ok(copies)
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.open.is_empty() && self.others == 0
    }
}

/// Compares the copies with the `readers`, who are `None` where the ACL can't be asked. `keys` are the folder's.
///
/// # Errors
/// [`crate::ErrorKind::Store`].
pub(super) fn check(
    folder: &mut dyn Attributes,
    owner: &str,
    readers: Option<&Readers>,
    keys: &[KeyId],
) -> Result<Vec<Line>> {
    let copies = Copies::read(folder)?;
    let mailbox = folder.mailbox();
    let line =
        |level, what: String, advice: &str| Line::new(level, "share", &mailbox, what, advice);
    let Some(readers) = readers else {
        if copies.is_empty() {
            return Ok(Vec::new());
        }
        let what = "its keys are shared, but who may read it can't be told here".to_owned();
        let advice = "Load the plugins acl and mail_crypt_acl for doveadm, too";
        return Ok(vec![line(Bad::Note, what, advice)]);
    };
    let mut lines = Vec::new();
    let is = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let mut lacking = false;
    for user in readers.users.iter().filter(|user| !is(user, owner)) {
        let has = copies.users.iter().find(|(name, _)| is(name, user));
        let missing = keys
            .iter()
            .filter(|id| !has.is_some_and(|(_, ids)| ids.contains(id)));
        let (open, none): (Vec<&KeyId>, Vec<&KeyId>) =
            missing.partition(|id| copies.open.contains(id));
        lacking |= !open.is_empty();
        if !none.is_empty() {
            let what = format!(
                "user {user} may read it, and lacks {} of it",
                many(none.len() as u64, "key")
            );
            lines.push(line(Bad::Problem, what, SET_AGAIN));
        }
    }
    for user in copies.users.keys() {
        if !readers.users.iter().any(|reader| is(reader, user)) {
            let what = format!("user {user} has its keys, and may not read it");
            let advice = "Give the user the right with doveadm acl set, and take it away with doveadm acl delete";
            lines.push(line(Bad::Problem, what, advice));
        }
    }
    let unshared = keys.iter().filter(|id| !copies.open.contains(id)).count() as u64;
    if readers.others && unshared > 0 {
        let what = format!(
            "others than users may read it, and lack {} of it",
            many(unshared, "key")
        );
        lines.push(line(Bad::Problem, what, SET_AGAIN));
    }
    if !readers.others && !lacking && !copies.open.is_empty() {
        let what = "its keys are stored unencrypted, and nobody needs them so".to_owned();
        lines.push(line(Bad::Problem, what, SET_AGAIN));
    }
    if copies.others > 0 {
        let what = format!(
            "of its keys, {} a name that can't be read",
            if copies.others == 1 {
                "1 copy has".to_owned()
            } else {
                format!("{} copies have", copies.others)
            }
        );
        lines.push(line(Bad::Note, what, ""));
    }
    Ok(lines)
}
