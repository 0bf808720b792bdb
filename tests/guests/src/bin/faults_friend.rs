//! Keeps working, whatever happens to other guests.
#![allow(unsafe_code, missing_docs)] // Generated.

use std::time::Duration;

use tombolo_guest::Region;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/faults.wit"],
        world: "test:faults/friendly",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
}

struct Friend;

fn add(region: &Region) -> Result<u64, tombolo_guest::Error> {
    let window = region.try_read(..)?;
    Ok(window.iter().map(|byte| u64::from(*byte)).sum())
}

impl bindings::exports::test::faults::friend::Guest for Friend {
    fn sum(region: &Region) -> Result<u64, String> {
        add(region).map_err(|error| error.to_string())
    }

    fn sleep(milliseconds: u64) -> Result<(), String> {
        std::thread::sleep(Duration::from_millis(milliseconds));
        Ok(())
    }
}

bindings::export!(Friend with_types_in bindings);

/// As a command: works for a second, with pauses.
fn main() {
    for round in 1..=20u8 {
        let region = Region::create("friend's", 100_000).expect("there is room");
        let mut window = region.try_write(..).expect("nobody else has it");
        window.fill(round);
        drop(window);
        assert_eq!(
            add(&region).expect("nobody writes"),
            100_000 * u64::from(round)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
