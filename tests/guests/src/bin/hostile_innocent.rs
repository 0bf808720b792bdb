//! A guest that works beside a hostile one. It creates regions, fills them, checks every
//! byte and drops them, over and over. Its optional first argument is the number of rounds.

use tombolo_guest::{GRANULE, Region};

fn main() {
    let rounds: u64 = match std::env::args().nth(1) {
        Some(rounds) => rounds.parse().expect("a number of rounds"),
        None => 50,
    };
    for round in 0..rounds {
        let fill = u8::try_from(round % 251 + 1).expect("it is below 252");
        let region = Region::create("innocent", 2 * GRANULE).expect("it is small");
        region.try_write(..).expect("nobody else has it").fill(fill);
        let window = region.try_read(..).expect("the writer is gone");
        assert!(window.iter().all(|byte| *byte == fill), "round {round}");
        std::thread::yield_now();
    }
    println!("innocent: all rounds came out right");
}
