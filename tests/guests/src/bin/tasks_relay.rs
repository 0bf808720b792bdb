//! A guest without async functions, which calls one that has some.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/tasks.wit"],
        world: "test:tasks/relayer",
        generate_all,
    });
    export!(Relay);
    pub(crate) struct Relay;
}

use bindings::exports::test::tasks::relay::Guest;
use bindings::test::tasks::back;

impl Guest for bindings::Relay {
    fn forth(script: String) -> Result<String, String> {
        back::say_plain(&script)
    }
}

fn main() {}
