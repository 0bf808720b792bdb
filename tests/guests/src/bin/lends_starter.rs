//! Makes a composed component play a script, and checks the answer. The arguments are the script and
//! the answer.

mod bindings {
    #![allow(unsafe_code, missing_docs)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/lends.wit"],
        world: "test:lends/starter",
        generate_all,
    });
}
use bindings::test::lends::front;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, script, expected] = &arguments[..] else {
        panic!("{arguments:?}");
    };
    let answer = front::start(script).unwrap_or_else(|error| error);
    assert!(answer.contains(expected), "{answer}");
}
