//! Two guests, selected by the first argument.
//!
//! `attack` opens two large windows to read, grows its memory until that is refused, and
//! writes to both windows with `memory.fill`. It is terminated at its next host call. Its
//! second argument is the size of the region in granules.
//!
//! `work` is innocent. It creates, fills, checks and drops regions; its second argument is
//! the number of rounds. The attack waits for the first round, after which `work` needs no
//! more memory. `attack-at-once` does not wait.
#![allow(unsafe_code)]

use std::hint::black_box;

use tombolo_guest::{GRANULE, Region, Rights, scopes};

const SCOPE: &str = "pool";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, number] = &arguments[..] else {
        panic!("a role and a number: {arguments:?}")
    };
    let number: u64 = number.parse().expect("a number");
    match &**role {
        "attack" => {
            let _ready = scopes::open(SCOPE, "ready").expect("this guest is a member");
            attack(number);
        }
        "attack-at-once" => attack(number),
        "work" => work(number),
        role => panic!("no such role: {role}"),
    }
}

fn attack(granules: u64) {
    let region = Region::create("bait", granules * GRANULE).expect("there is room");
    let windows = [(); 2].map(|()| region.try_read(..).expect("nobody writes"));
    for step in [256, 16, 1] {
        while core::arch::wasm32::memory_grow::<0>(step) != usize::MAX {}
    }
    println!("violator: its memory is full");
    for window in &windows {
        let start = window.as_ptr().cast_mut();
        // SAFETY: there is none. This write is the attack. The compiler does not know the
        // length, which makes the write a `memory.fill`.
        unsafe { start.write_bytes(7, black_box(1 << 16)) };
    }
    println!("violator: nobody stopped it");
}

fn work(rounds: u64) {
    round_of_work(0);
    let ready = Region::create("ready", 1).expect("it is small");
    let _published = scopes::publish(SCOPE, "ready", &ready, Rights::READ).expect("we may");
    (1..rounds).for_each(round_of_work);
    println!("innocent: all rounds came out right");
}

fn round_of_work(round: u64) {
    let fill = u8::try_from(round % 251 + 1).expect("it is below 252");
    let region = Region::create("innocent", 2 * GRANULE).expect("it is small");
    region.try_write(..).expect("nobody else has it").fill(fill);
    let window = region.try_read(..).expect("the writer is gone");
    assert!(window.iter().all(|byte| *byte == fill), "round {round}");
}
