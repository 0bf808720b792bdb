//! The last guest of a chain of calls.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/calls.wit"],
        world: "test:calls/far-node",
        with: {
            "tombolo:memory/regions@0.1.0": tombolo_test_guests::raw::regions,
            "tombolo:memory/windows@0.1.0": tombolo_test_guests::raw::windows,
        },
        generate_all,
    });
    export!(Far);
    pub(crate) struct Far;
}

use bindings::exports::test::calls::far::{Guest, Region};
use bindings::test::calls::home;
use tombolo_test_guests::node;
use tombolo_test_guests::raw::windows::Access;

impl Guest for bindings::Far {
    fn say(script: String) -> Result<String, String> {
        match script.strip_prefix("home ") {
            Some(rest) => home::say(rest),
            None => node::say(&script),
        }
    }

    fn lend(script: String, it: &Region) -> Result<String, String> {
        // Writes, calls the first guest, and writes again.
        if let Some(name) = script.strip_prefix("gate ") {
            let page = node::Page::map(it, 0, Access::Write).map_err(node::word)?;
            page.set(0, 41);
            let answer = home::say(name);
            page.set(1, 42);
            return answer;
        }
        // Writes until its lender has died as a writer. Then calls the first guest, and
        // writes the answer into the region, where the owner reads it.
        if script == "outlive" {
            let page = node::Page::map(it, 0, Access::Write).map_err(node::word)?;
            while node::outcome(it.read_at(node::GRANULE, 1)) != "poisoned" {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            // Lets the waiters that learn of the death run.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let heard = home::say("ping").unwrap_or_else(|refused| refused);
            for (at, byte) in heard.bytes().enumerate() {
                page.set(at, byte);
            }
            return Ok("done".into());
        }
        node::with(&script, it)
    }

    fn move_(script: String, it: Region) -> Result<String, String> {
        node::with(&script, &it)
    }
}

fn main() {}
