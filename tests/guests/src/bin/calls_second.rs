//! A second caller: says its own name to the near guest, and fails if that
//! does, or if callers do not take turns.

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
        // Whoever asks last has all that was said before.
        Some(own) => {
            (0..5).for_each(|_| drop(say(&name)));
            let logged = say("logged");
            let said: Vec<&str> = logged.split(' ').collect();
            assert_eq!(said.iter().filter(|it| **it == own).count(), 5);
            // Nobody comes twice before everybody else who waits has come.
            let round = &said[..3];
            for next in said.chunks_exact(3).take(4) {
                assert_eq!(next, round, "{logged}");
            }
        }
        // It says "later" as long as it has nothing to look at.
        None => {
            let begun = std::time::Instant::now();
            while say(&name) == "later" {
                assert!(begun.elapsed().as_secs() < 60, "nothing to look at");
            }
        }
    }
}
