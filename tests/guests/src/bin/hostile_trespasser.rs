//! Two guests, by their first argument.
//!
//! `attack` has two large windows that only read, grows its memory until that is
//! refused, and writes to both windows by `memory.fill`. It is ended at its next host
//! call. Its second argument is the size of the region in granules.
//!
//! `work` is innocent: it makes, fills, checks and drops regions, for as many rounds as
//! its second argument says. The attack waits for the end of the first one, after which
//! it needs no more memory than it has; `attack-at-once` waits for nothing.
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
            let _ready = scopes::open(SCOPE, "ready").expect("we are a member");
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
    println!("trespasser: its memory is full");
    for window in &windows {
        let start = window.as_ptr().cast_mut();
        // SAFETY: none; that it may not write there is the attack. The length is not
        // known to the compiler, which makes it `memory.fill`.
        unsafe { start.write_bytes(7, black_box(1 << 16)) };
    }
    println!("trespasser: nobody stopped it");
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
