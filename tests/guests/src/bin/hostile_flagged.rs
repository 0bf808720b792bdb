//! A callee that takes lists of flags.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: "../wit/letters.wit",
        world: "test:letters/callee",
        generate_all,
    });
    export!(Flagged);
    pub(crate) struct Flagged;
}

use bindings::exports::test::letters::sink::{Guest, Letters};

impl Guest for bindings::Flagged {
    fn take(_: Vec<Letters>) -> Result<(), String> {
        Ok(())
    }
}

fn main() {}
