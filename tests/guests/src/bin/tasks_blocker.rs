//! A guest that takes one call at a time, and has no async functions.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/tasks.wit"],
        world: "test:tasks/blocker",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Blocker);
    pub(crate) struct Blocker;
}

use bindings::exports::test::tasks::slow::Guest;
use tombolo_guest::Region;

impl Guest for bindings::Blocker {
    fn hold(it: &Region, milliseconds: u32) -> Result<u8, String> {
        let mut window = it.try_write(..).map_err(|error| error.to_string())?;
        window[0] = window[0].wrapping_add(1);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds.into()));
        Ok(window[0])
    }
}

fn main() {}
