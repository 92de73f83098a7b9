//! `mail-crypt slots`: what opens a user's keys besides the password, as a dict file has it.
#![forbid(unsafe_code)]

use mail_crypt_core::error::Error;
use mail_crypt_core::store::admin::{Row, Verb, columns, list_slots};
use serde_json::{Map, Value};

use crate::args::Options;
use crate::{Failure, Result, decrypt, secret};

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.attributes.is_empty() || options.file.is_some() {
        let text = "slots are in a dict: --attributes DICTFILE";
        return Err(Failure::Usage(text.into()));
    }
    let mut keys = decrypt::key_source(options)?;
    let mut rows = Vec::new();
    for mut dict in keys.dict.each() {
        keys.ring.forget();
        rows.extend(list_slots(&mut keys.ring, &mut dict)?);
    }
    if options.json {
        let all: Vec<Value> = rows.iter().map(|row| facts(row).into()).collect();
        secret::say(&format!("{:#}\n", Value::from(all)))?;
    } else {
        let all: Vec<String> = rows.iter().map(lines).collect();
        secret::say(&all.join("\n"))?;
    }
    // Those that nothing is wrong with have been told.
    let wrong: Vec<&str> = rows.iter().filter_map(|row| row.error.as_deref()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::corrupt(wrong.join("; ")).into())
}

/// What is known of a slot, by the names that doveadm has for it.
fn facts(row: &Row) -> Map<String, Value> {
    let (_, columns) = columns(Verb::SlotList);
    let names = columns.iter().map(|c| c.key.to_string_lossy().into_owned());
    let values = row.cells.iter().map(|cell| cell.as_str().into());
    names.zip(values).collect()
}

fn lines(row: &Row) -> String {
    let facts = facts(row);
    let told = facts
        .iter()
        .filter_map(|(name, value)| match value.as_str() {
            None | Some("") => None,
            Some(text) => Some(format!("{name}: {text}\n")),
        });
    told.collect()
}
