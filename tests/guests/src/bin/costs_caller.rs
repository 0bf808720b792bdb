//! Calls another guest a thousand times, with what its argument says, and does
//! nothing else.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit", "../wit/costs.wit"],
        world: "test:costs/caller",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });
}

use bindings::test::costs::near;
use tombolo_guest::Region;

fn main() {
    let region = Region::create("buffer", 65536).expect("there is room");
    let call = std::env::args().nth(1);
    for _ in 0..1000 {
        match call.as_deref() {
            Some("nothing") => near::nothing(),
            Some("lend") => near::lend(&region),
            other => panic!("{other:?}?"),
        }
    }
}
