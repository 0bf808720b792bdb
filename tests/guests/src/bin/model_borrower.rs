//! A guest that does what random calls ask for, several at a time.
#![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/model.wit"],
        world: "test:model/borrower",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Borrower);
    pub(crate) struct Borrower;
}

use bindings::exports::test::model::sink::Guest;
use bindings::wasi::clocks::monotonic_clock::wait_for;
use tombolo_guest::{Error, Region};

async fn wait(milliseconds: u32) {
    wait_for(u64::from(milliseconds) * 1_000_000).await;
}

impl Guest for bindings::Borrower {
    async fn put(it: &Region, byte: u8, milliseconds: u32) -> Result<u8, String> {
        // The lender may look at it in this moment, after it has cancelled the call.
        let mut window = loop {
            match it.try_write(..) {
                Ok(window) => break window,
                Err(Error::WouldBlock) => wait(1).await,
                Err(error) => return Err(error.to_string()),
            }
        };
        let before = window[0];
        wait(milliseconds).await;
        window[0] = byte;
        Ok(before)
    }

    async fn see(it: &Region, milliseconds: u32) -> Result<u8, String> {
        let window = it.try_read(..).map_err(|error| error.to_string())?;
        let first = window[0];
        wait(milliseconds).await;
        assert_eq!(window[0], first, "it changed under a window to read");
        Ok(first)
    }

    async fn pass(it: Region, byte: u8, milliseconds: u32) -> Result<Region, String> {
        let mut window = it.try_write(..).map_err(|error| error.to_string())?;
        wait(milliseconds).await;
        window[0] = byte;
        drop(window);
        Ok(it)
    }

    async fn die() -> Result<(), String> {
        panic!("as it was told")
    }
}

fn main() {}
