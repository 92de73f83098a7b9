//! The properties that `make fuzz` looks for exceptions from, tried with the project's vectors and with
//! arbitrary bytes made from them. So the fuzz targets' sources are compiled and run with every other test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod properties;

// The tool's sources look for these at the root.
#[cfg(feature = "tool")]
use properties::tool::root::*;

use std::fs;

/// Every file in `tests/vectors`, and each with some of its bytes changed.
fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = vec![Vec::new()];
    for folder in ["keys", "slots", "streams", "trees"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/").to_owned() + folder;
        let files = fs::read_dir(folder).unwrap();
        inputs.extend(files.map(|file| fs::read(file.unwrap().path()).unwrap()));
    }
    for i in 0..inputs.len() {
        let mut numbers = properties::Pieces::of(&inputs[i]);
        let mut changed = inputs[i].clone();
        for _ in 0..3 {
            let at = numbers.number() as usize % changed.len().max(1);
            changed.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1);
        }
        inputs.push(changed);
    }
    inputs
}

fn holds(property: fn(&[u8])) {
    let inputs = inputs();
    assert!(inputs.len() > 200);
    inputs.iter().for_each(|input| property(input));
}

#[test]
fn any_file_opens_the_same_in_any_pieces() {
    holds(properties::stream::bytes);
}

#[test]
fn a_damaged_stream_opens_to_what_was_written_or_not_at_all() {
    holds(properties::stream::damage);
}

#[test]
fn what_is_written_in_any_pieces_is_read() {
    holds(properties::stream::roundtrip);
}

#[test]
fn a_key_in_any_text_survives_being_written() {
    holds(properties::keys::text);
}

#[test]
fn a_damaged_key_is_refused_or_the_key_that_it_says() {
    holds(properties::keys::damage);
}

#[test]
fn what_a_format_reads_it_writes() {
    holds(properties::formats::any);
}

#[test]
fn any_settings_are_taken_or_refused() {
    holds(properties::settings::any);
}

#[test]
fn a_spool_gives_back_what_the_source_gave() {
    holds(properties::spool::any);
}

#[cfg(feature = "tool")]
#[test]
fn mails_in_a_dbox_file_have_their_own_bytes() {
    holds(properties::tool::dbox);
}

#[cfg(feature = "tool")]
#[test]
fn a_dict_file_gives_what_it_lists() {
    holds(properties::tool::dict);
}

#[cfg(feature = "tool")]
#[test]
fn compressed_mail_comes_out_as_it_went_in() {
    holds(properties::tool::decompress);
}

#[cfg(feature = "trees")]
#[test]
fn any_file_of_trees_opens_the_same_in_any_pieces() {
    holds(properties::trees::bytes);
}

#[cfg(feature = "trees")]
#[test]
fn a_damaged_file_of_trees_opens_to_its_chunks_or_not_at_all() {
    holds(properties::trees::damage);
}

#[cfg(feature = "trees")]
#[test]
fn any_fields_of_trees_are_taken_or_refused() {
    holds(properties::trees::fields);
}
