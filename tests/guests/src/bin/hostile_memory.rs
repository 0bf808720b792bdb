//! A guest for tests of low memory. Its first argument names the part that it plays. `M` is
//! a number of mebibytes.
//!
//! | part | behaviour |
//! |---|---|
//! | `cache M` | fills regions of 1 MiB and unpins them; sends `grow` a message; waits for
//! pressure, and prints the level and the losses |
//! | `grow` | waits for `cache`, then allocates and touches memory in steps of 4 MiB until
//! that is refused, and prints how much it has |
//! | `insist` | the same, but panics when it is refused, as most programs do |
//! | `keep M` | fills regions of 1 MiB and unpins them, reports that, and waits for good |
//! | `hold M` | allocates and touches this much memory, reports that, and waits for good |
//! | `reserve M` | grows its memory by this much without touching it, and prints whether
//! that was refused |

use std::time::Duration;

use tombolo_guest::channels::{Receiver, Sender};
use tombolo_guest::pressure::{Level, Watch};
use tombolo_guest::{Pinned, Region};

const MIB: usize = 1 << 20;

/// The size of a step in bytes.
const STEP: usize = 4 * MIB;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["cache", mebibytes] => cache(mebibytes.parse().expect("a number")),
        ["grow"] => {
            begin();
            let mut blocks = Vec::new();
            while let Some(block) = take(STEP) {
                blocks.push(block);
            }
            assert!(blocks.iter().all(|block| block.iter().all(|it| *it == 7)));
            println!("grow: refused after {} MiB", blocks.len() * STEP / MIB);
        }
        ["insist"] => {
            begin();
            let mut blocks = Vec::new();
            loop {
                blocks.push(take(STEP).expect("the memory grows"));
            }
        }
        ["keep", mebibytes] => {
            let _regions = fill(mebibytes.parse().expect("a number"));
            println!("keep: {mebibytes} MiB");
            wait_for_good();
        }
        ["hold", mebibytes] => {
            let mebibytes: usize = mebibytes.parse().expect("a number");
            let blocks: Vec<_> = (0..mebibytes).map_while(|_| take(MIB)).collect();
            println!("hold: {} MiB", blocks.len());
            wait_for_good();
        }
        ["reserve", mebibytes] => {
            let mebibytes: usize = mebibytes.parse().expect("a number");
            let mut block = Vec::<u8>::new();
            match block.try_reserve_exact(mebibytes * MIB) {
                Ok(()) => println!("reserve: {mebibytes} MiB"),
                Err(_) => println!("reserve: refused"),
            }
        }
        _ => panic!("no such part: {arguments:?}"),
    }
}

/// Waits until the cache is filled.
fn begin() {
    let ready = Receiver::open("ready").expect("it is this guest's");
    let message = ready.receive().expect("nothing is refused");
    assert!(message.is_some(), "the cache says when it is filled");
}

/// Allocates memory, and touches all of it.
fn take(bytes: usize) -> Option<Vec<u8>> {
    let mut block = Vec::new();
    block.try_reserve_exact(bytes).ok()?;
    block.resize(bytes, 7);
    Some(block)
}

fn wait_for_good() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Fills regions, each with its number, and unpins them.
fn fill(mebibytes: u8) -> Vec<Region> {
    let regions = (0..mebibytes).map(|number| {
        let region = Region::create("cache", MIB as u64).expect("there is room");
        region.try_write(..).expect("it is ours").fill(number);
        region.unpin(..).expect("no window is there");
        region
    });
    regions.collect()
}

fn cache(mebibytes: u8) {
    let watch = Watch::new();
    let regions = fill(mebibytes);
    let ready = Sender::open("ready").expect("it is this guest's");
    ready
        .try_send(b"filled", Vec::new())
        .expect("there is room");
    println!("cache: filled {mebibytes} MiB");
    let level = watch.wait();
    println!("cache: heard of {level:?}");
    if level != Level::Critical {
        // Until the pressure is critical, or is over.
        while !matches!(watch.wait(), Level::Critical | Level::Normal) {}
    }
    let mut lost = 0;
    for (number, region) in regions.iter().enumerate() {
        // A region that does not fit was purged.
        match region.pin(..) {
            Ok(Pinned::Intact(())) => {
                let window = region.try_read(..).expect("it is ours");
                assert!(window.iter().all(|byte| usize::from(*byte) == number));
            }
            Ok(Pinned::Lost(())) | Err(_) => lost += 1,
        }
        let _ = region.unpin(..);
    }
    println!("cache: lost {lost} of {mebibytes}");
}
