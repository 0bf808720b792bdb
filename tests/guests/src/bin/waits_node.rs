//! Waits for windows on a region that other guests, in other strands, want as well.

use tombolo_guest::scopes;
use tombolo_guest::{Event, GRANULE, Region, Rights};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["publish-and-write", times] => write(times.parse().unwrap()),
        ["read-always"] => read_always(),
        ["subscribe-and-die"] => subscribe_and_die(),
        _ => panic!("{arguments:?}"),
    }
}

/// Writes so many times, whoever reads.
fn write(times: u32) {
    let region = Region::create("r", GRANULE).unwrap();
    let rights = Rights::READ | Rights::WRITE;
    let _published = scopes::publish("s", "r", &region, rights).unwrap();
    for time in 0..times {
        region.write_window_waiting(..).unwrap()[0] = time as u8;
    }
}

/// Reads over and over, as does another guest, until the name goes. (To wait for one
/// window while one has another on the same bytes would be to wait for oneself: a
/// writer in between waits for the first.)
fn read_always() {
    let region = scopes::open_waiting("s", "r").unwrap();
    let mut seen = 0;
    while scopes::open("s", "r").is_ok() {
        let window = region.read_window_waiting(..).unwrap();
        for _ in 0..100 {
            seen = window[0].max(seen);
        }
    }
    println!("saw {seen}");
}

/// Waits for what it never takes, and dies: nobody is held up for long.
fn subscribe_and_die() {
    let region = scopes::open_waiting("s", "r").unwrap();
    let event = region.when_writable(..).unwrap();
    let _ = Event::first(&[&event]);
    panic!("as it was told");
}
