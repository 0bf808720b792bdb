//! A second caller. Passes its own name to the near guest. It fails if that fails, or if
//! callers do not take turns.

mod bindings {
    #![allow(unsafe_code, missing_docs)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/calls.wit"],
        world: "test:calls/second",
        generate_all,
    });
}
use bindings::test::calls::near;

fn say(script: &str) -> String {
    near::say(script).expect("the near guest does it")
}

fn main() {
    let name = std::env::args().next().expect("a guest has its name");
    match name.strip_prefix("log ") {
        // The last caller receives the log of all calls.
        Some(own) => {
            (0..5).for_each(|_| drop(say(&name)));
            let logged = say("logged");
            let said: Vec<&str> = logged.split(' ').collect();
            assert_eq!(said.iter().filter(|it| **it == own).count(), 5);
            // No caller has a second turn before all other waiting callers had one.
            let round = &said[..3];
            for next in said.chunks_exact(3).take(4) {
                assert_eq!(next, round, "{logged}");
            }
        }
        // The near guest answers "later" until it has a region to read.
        None => {
            let begun = std::time::Instant::now();
            while say(&name) == "later" {
                assert!(begun.elapsed().as_secs() < 60, "nothing to look at");
            }
        }
    }
}
