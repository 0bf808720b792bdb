//! Passes a region to `hostile` and has it act. Then checks the region and the guest
//! `friend`. It panics if an expectation fails.
//!
//! `<act> fails <text>`, `<act> answers <number>`, or an act of its own: `spin`,
//! `sleep`, `recurse`, `wait <milliseconds>`.
#![allow(unsafe_code, missing_docs)] // Generated.

use std::hint::black_box;
use std::time::Duration;

use tombolo_guest::{Region, Rights};

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/faults.wit"],
        world: "test:faults/command",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
}

use bindings::test::faults::{acts, friend};

const SIZE: u64 = 4 * 65536;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(|it| &**it).collect();
    match arguments[..] {
        ["spin"] => loop {
            black_box(0);
        },
        ["sleep"] => std::thread::sleep(Duration::from_secs(3600)),
        ["recurse"] => assert_eq!(recurse(1), 0),
        ["wait", milliseconds] => {
            friend::sleep(milliseconds.parse().expect("a number")).expect("the friend sleeps");
        }
        [ref names @ .., expected, what] => act(names, expected, what),
        _ => panic!("what to do?"),
    }
}

/// Runs the acts in turn. Only the last one has the expected result.
fn act(names: &[&str], expected: &str, what: &str) {
    let region = Region::create("music", SIZE).expect("there is room");
    let mut window = region.try_write(..).expect("nobody else has it");
    for (index, byte) in window.iter_mut().enumerate() {
        *byte = pattern(index);
    }
    drop(window);
    let sum = (0..SIZE as usize)
        .map(|index| u64::from(pattern(index)))
        .sum::<u64>();
    assert_eq!(friend::sum(&region), Ok(sum));

    let kept = region
        .duplicate(Rights::READ | Rights::SHARE)
        .expect("it may");
    acts::keep(kept).expect("there is room");
    let mut result = Err("nothing to do".into());
    for name in names {
        result = acts::act(name);
    }
    match (expected, &result) {
        ("fails", Err(text)) => assert!(text.contains(what), "it failed otherwise: {text}"),
        ("answers", Ok(number)) => assert_eq!(number.to_string(), what),
        _ => panic!("expected that it {expected} {what}, and it was {result:?}"),
    }

    // The region is unchanged, and usable.
    let window = region.try_read(..).expect("nobody writes");
    let changed = window
        .iter()
        .enumerate()
        .find(|(index, byte)| **byte != pattern(*index));
    assert_eq!(changed, None, "the region has changed");
    drop(window);
    assert_eq!(friend::sum(&region), Ok(sum));
    if expected == "fails" {
        // The other guest's windows are gone.
        region
            .try_write(..)
            .expect("nobody has a window any more")
            .fill(3);
        assert_eq!(friend::sum(&region), Ok(3 * SIZE));
    }
}

fn pattern(index: usize) -> u8 {
    (index / 7 + index / 4096) as u8
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth) + 1)) + depth
}
