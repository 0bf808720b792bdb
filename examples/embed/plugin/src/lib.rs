//! Answers requests. The server lends it the bodies, and it answers with regions of its
//! own.
//!
//! | path | answer |
//! |---|---|
//! | `/count` | the bytes, words and lines of the body, and its CRC-32 |
//! | `/translate` | the body, with each byte replaced by its entry in the table |
//! | `/trap`, `/hang` | none: they show how a server handles a broken plugin |

mod bytes;

use std::cell::RefCell;

use bindings::exports::tombolo_examples::embed::handler;
use bytes::{Seen, fill, parts};
use handler::{Answer, Failure};
use tombolo_guest::{Error, Region};

mod bindings {
    // Generated code, which calls the ABI of the component model.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });

    export!(Plugin);

    pub(crate) struct Plugin;
}

/// A replacement for each byte.
type Table = [u8; 256];

thread_local! {
    static TABLE: RefCell<Option<Region>> = const { RefCell::new(None) };
}

impl handler::Guest for bindings::Plugin {
    fn handle(path: String, body: &Region, length: u64) -> Result<Answer, Failure> {
        match path.as_str() {
            "/count" => count(body, length),
            "/translate" => translate(body, length),
            "/trap" => panic!("this plugin is broken"),
            "/hang" => loop {
                std::hint::spin_loop();
            },
            _ => Err(Failure::NotFound),
        }
    }

    fn set_table(table: Region) -> Result<(), Failure> {
        if table.size() != size_of::<Table>() as u64 {
            return Err(Failure::Failed(format!(
                "a table has {} bytes, not {}",
                size_of::<Table>(),
                table.size()
            )));
        }
        TABLE.set(Some(table));
        Ok(())
    }

    fn touch(body: &Region) -> Result<(), Failure> {
        drop(body.try_read(..)?);
        Ok(())
    }
}

fn count(body: &Region, length: u64) -> Result<Answer, Failure> {
    let (mut words, mut lines) = (0_u64, 0_u64);
    let mut crc = crc32fast::Hasher::new();
    let mut in_word = false;
    let mut seen = "not at all";
    for range in parts(length) {
        let part = Seen::new(body, range)?;
        seen = part.how();
        crc.update(&part);
        for byte in part.iter() {
            let is_word = !byte.is_ascii_whitespace();
            words += u64::from(is_word && !in_word);
            lines += u64::from(*byte == b'\n');
            in_word = is_word;
        }
    }
    let text = format!(
        "{length} bytes, {words} words, {lines} lines, CRC-32 {:08x}, seen {seen}\n",
        crc.finalize()
    );
    let answer = Region::create("count", text.len() as u64)?;
    answer.write_at(0, text.as_bytes())?;
    Ok(Answer {
        content_type: "text/plain".into(),
        body: answer,
        length: text.len() as u64,
    })
}

fn translate(body: &Region, length: u64) -> Result<Answer, Failure> {
    let table = table()?;
    // A region has at least one byte.
    let answer = Region::create("translation", length.max(1))?;
    for range in parts(length) {
        let from = Seen::new(body, range.clone())?;
        fill(&answer, range, |to| {
            for (to, from) in to.iter_mut().zip(from.iter()) {
                *to = table[usize::from(*from)];
            }
        })?;
    }
    Ok(Answer {
        content_type: "application/octet-stream".into(),
        body: answer,
        length,
    })
}

/// Returns the table of the server, or the default.
fn table() -> Result<Table, Error> {
    let given = TABLE.with_borrow(|given| match given {
        Some(region) => region.read_at(0, size_of::<Table>() as u64).map(Some),
        None => Ok(None),
    })?;
    Ok(std::array::from_fn(|byte| match &given {
        Some(given) => given[byte],
        None => (byte as u8).to_ascii_uppercase(),
    }))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}
