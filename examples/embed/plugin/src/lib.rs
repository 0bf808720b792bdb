//! Answers requests. Bodies come as lists, or in regions that the server lends. An answer may be
//! written over the body.
//!
//! | path | answer |
//! |---|---|
//! | `/count` | the bytes, words and lines of the body, and its CRC-32 |
//! | `/sum` | the sum of the body's words of 64 bits |
//! | `/echo` | the body |
//! | `/translate` | the body, with each byte replaced by its entry in the table |
//! | `/trap`, `/hang` | none: they show how a server handles a broken plugin |

mod bytes;

use std::cell::RefCell;

use bindings::exports::tombolo_examples::embed::handler;
use handler::{Answer, AnswerBody, Body, Failure, MovedBody};
use tombolo_guest::{Error, Region, Rights};

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
    fn handle(path: String, body: Body<'_>) -> Result<Answer, Failure> {
        match path.as_str() {
            "/count" => count(&body),
            "/sum" => sum(&body),
            "/echo" => Ok(echo(body)),
            "/translate" => translate(body),
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
}

fn count(body: &Body<'_>) -> Result<Answer, Failure> {
    let (mut words, mut lines) = (0_u64, 0_u64);
    let mut crc = crc32fast::Hasher::new();
    let mut in_word = false;
    let seen = bytes::read(body, |part| {
        crc.update(part);
        for byte in part {
            let is_word = !byte.is_ascii_whitespace();
            words += u64::from(is_word && !in_word);
            lines += u64::from(*byte == b'\n');
            in_word = is_word;
        }
    })?;
    Ok(text(format!(
        "{} bytes, {words} words, {lines} lines, CRC-32 {:08x}, seen {seen}\n",
        bytes::length(body),
        crc.finalize()
    )))
}

fn sum(body: &Body<'_>) -> Result<Answer, Failure> {
    let mut sum = 0_u64;
    bytes::read(body, |part| {
        for word in part.as_chunks::<8>().0 {
            sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    })?;
    let length = bytes::length(body);
    Ok(text(format!("{length} bytes, sum {sum:016x}\n")))
}

fn echo(body: Body<'_>) -> Answer {
    binary(match body {
        Body::Bytes(bytes) => AnswerBody::Bytes(bytes),
        Body::Region(lent) => AnswerBody::InPlace(lent.length),
    })
}

fn translate(body: Body<'_>) -> Result<Answer, Failure> {
    let table = table()?;
    let translate = |bytes: &mut [u8]| {
        for byte in bytes {
            *byte = table[usize::from(*byte)];
        }
    };
    Ok(binary(match body {
        Body::Bytes(mut bytes) => {
            translate(&mut bytes);
            AnswerBody::Bytes(bytes)
        }
        Body::Region(lent) if lent.region.rights().contains(Rights::WRITE) => {
            bytes::change(lent.region, lent.length, translate)?;
            AnswerBody::InPlace(lent.length)
        }
        Body::Region(lent) => {
            // A region has at least one byte.
            let region = Region::create("translation", lent.length.max(1))?;
            bytes::copy(lent.region, &region, lent.length)?;
            bytes::change(&region, lent.length, translate)?;
            AnswerBody::Region(MovedBody {
                region,
                length: lent.length,
            })
        }
    }))
}

fn text(text: String) -> Answer {
    Answer {
        content_type: "text/plain".into(),
        body: AnswerBody::Bytes(text.into_bytes()),
    }
}

fn binary(body: AnswerBody) -> Answer {
    Answer {
        content_type: "application/octet-stream".into(),
        body,
    }
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
