//! Counts and changes bodies in place, in regions that it is lent.

mod bindings {
    // Generated code, which calls the ABI of the component model.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "../wit",
        world: "filtering",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });

    export!(Filter);

    pub(crate) struct Filter;
}

use bindings::exports::tombolo_examples::proxy::filter::Guest;
use tombolo_guest::{Error, Region};

impl Guest for bindings::Filter {
    fn count(body: &Region, length: u64) -> Result<String, String> {
        count(body, length).map_err(|error| error.to_string())
    }

    fn capitals(body: &Region, length: u64) -> Result<(), String> {
        capitals(body, length).map_err(|error| error.to_string())
    }
}

fn count(body: &Region, length: u64) -> Result<String, Error> {
    let (mut words, mut lines, mut in_word) = (0_u64, 0_u64, false);
    if length > 0 {
        for byte in body.try_read(..length)?.iter() {
            let is_word = !byte.is_ascii_whitespace();
            words += u64::from(is_word && !in_word);
            lines += u64::from(*byte == b'\n');
            in_word = is_word;
        }
    }
    Ok(format!("{length} bytes, {words} words, {lines} lines"))
}

fn capitals(body: &Region, length: u64) -> Result<(), Error> {
    if length > 0 {
        body.try_write(..length)?.make_ascii_uppercase();
    }
    Ok(())
}

fn main() {}
