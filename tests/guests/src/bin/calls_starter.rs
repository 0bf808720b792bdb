//! Makes the first guest play the scenario of its own name, and fails if that fails.

mod bindings {
    #![allow(unsafe_code, missing_docs)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/calls.wit"],
        world: "test:calls/starter",
        generate_all,
    });
}
use bindings::test::calls::home;

fn main() {
    let scenario = std::env::args().next().expect("a guest has its name");
    home::say(&scenario).expect("it plays");
}
