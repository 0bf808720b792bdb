//! Calls another guest with a list of flags, which are all set. Its argument is the length
//! of the list.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: "../wit/letters.wit",
        world: "test:letters/caller",
        generate_all,
    });
}

use bindings::test::letters::sink::{Letters, take};

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("a number of flags");
    println!("taken: {:?}", take(&vec![Letters::all(); count]));
}
