//! A guest that takes several calls at a time, and calls on.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/tasks.wit"],
        world: "test:tasks/backer",
        generate_all,
    });
    export!(Backer);
    pub(crate) struct Backer;
}

use bindings::exports::test::tasks::back::Guest;
use bindings::test::tasks::{hop, relay};

impl Guest for bindings::Backer {
    async fn say(script: String) -> Result<String, String> {
        match script.split_once(' ') {
            Some(("plain", rest)) => relay::forth(rest),
            Some(("wait", rest)) => hop::over(rest.to_owned()).await,
            _ => Ok(script),
        }
    }

    fn say_plain(script: String) -> Result<String, String> {
        Ok(script)
    }
}

fn main() {}
