//! A guest that awaits the guest that calls it.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/tasks.wit"],
        world: "test:tasks/hopper",
        generate_all,
    });
    export!(Hopper);
    pub(crate) struct Hopper;
}

use bindings::exports::test::tasks::hop::Guest;
use bindings::test::tasks::back;

impl Guest for bindings::Hopper {
    async fn over(script: String) -> Result<String, String> {
        back::say(script).await
    }
}

fn main() {}
