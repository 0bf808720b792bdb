//! A callee that does as little as possible.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/costs.wit"],
        world: "test:costs/far-peer",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });
    export!(Far);
    pub(crate) struct Far;
}

use bindings::Far;
use bindings::exports::test::costs::far::Guest;
use tombolo_guest::Region;
use tombolo_test_guests::kernels;

impl Guest for Far {
    fn nothing() {}

    fn lend(_: &Region) {}

    fn look(it: &Region) -> u64 {
        kernels::touch(&it.try_read(..).expect("nobody else has one"))
    }
}

fn main() {}
