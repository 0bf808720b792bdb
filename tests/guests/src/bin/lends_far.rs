//! Another guest, to which a part of a component lends on.
#![allow(unsafe_code, missing_docs)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/lends.wit"],
        world: "test:lends/far",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Far);
    pub(crate) struct Far;
}

use bindings::exports::test::lends::parts::Guest;
use tombolo_guest::Region;

impl Guest for bindings::Far {
    fn start(_: String) -> Result<String, String> {
        Err("it has no region".into())
    }

    fn play(script: String, it: &Region) -> Result<String, String> {
        tombolo_test_guests::parts::play(&script, it)
    }
}

fn main() {}
