//! A guest that makes the queue of a region as long as its limits allow, and polls it over
//! and over. Its first argument names the part that it plays.

use tombolo_guest::{GRANULE, Pollable, ReadWindow, Region, Rights, scopes};

/// The default limit of windows, minus a few.
const WINDOWS: usize = 4000;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("alone") => alone(),
        Some("publisher") => publisher(),
        Some("member") => member(),
        part => panic!("no such part: {part:?}"),
    }
}

fn windows(region: &Region, granule: impl Fn(u64) -> u64) -> Vec<ReadWindow<'_>> {
    let one = |at| {
        let first = granule(at) * GRANULE;
        region
            .try_read(first..first + GRANULE)
            .expect("nobody writes there")
    };
    (0..WINDOWS as u64).map(one).collect()
}

/// Returns a pollable that is always ready, so that a poll checks all pollables once and
/// returns.
fn ready(region: &Region) -> Pollable {
    let first = region.readable(..).expect("it may read");
    // A claim has one wait at a time, so the second one makes the first one ready.
    drop(region.readable(..).expect("it may read"));
    first
}

/// Polls for a while, reports that, and continues for good.
fn poll(waiters: &[Pollable], ready: &Pollable) -> ! {
    let all: Vec<&Pollable> = waiters.iter().chain([ready]).collect();
    for _ in 0..100 {
        assert!(Pollable::first(&all).contains(&waiters.len()));
    }
    println!("crowd: it has asked");
    loop {
        let _ = Pollable::first(&all);
    }
}

/// Opens many windows on the first granule. Many claims wait for that granule, many for the
/// next one, and one for both.
fn alone() {
    let region = Region::create("crowded", 3 * GRANULE).expect("it is small");
    let _windows = windows(&region, |_| 0);
    let claims: Vec<Region> = (0..110)
        .map(|_| {
            region
                .duplicate(Rights::READ | Rights::WRITE)
                .expect("it may")
        })
        .collect();
    let waiters: Vec<Pollable> = claims
        .iter()
        .enumerate()
        .map(|(at, claim)| {
            let waiting = match at {
                0..54 => claim.writable(..GRANULE),
                54 => claim.writable(..2 * GRANULE),
                _ => claim.writable(GRANULE..2 * GRANULE),
            };
            waiting.expect("it may write")
        })
        .collect();
    let other = Region::create("other", 1).expect("it is small");
    poll(&waiters, &ready(&other));
}

/// Shares a region. It always has a window on one part, and opens a window on another part
/// over and over.
fn publisher() {
    let region = Region::create("crowded", 8 * GRANULE).expect("it is small");
    let _held = region.try_write(..GRANULE).expect("nobody else has it");
    let _published = scopes::publish("s", "crowded", &region, Rights::READ).expect("it may");
    // From here on, the crowd has all of its windows.
    let _crowd = scopes::open("s", "ready").expect("it may wait for the name");
    for round in 0..2000_u64 {
        let mut window = region
            .try_write(GRANULE..2 * GRANULE)
            .expect("nobody else wants it");
        window[0] = u8::try_from(round % 251).expect("it is below 251");
    }
    println!("publisher: all windows were had");
}

/// Opens a region very often, with the right to read only. Waits with each claim, and keeps
/// many windows elsewhere on it.
fn member() {
    let region = scopes::open("s", "crowded").expect("it is published");
    let _windows = windows(&region, |at| 2 + at % 6);
    let claims: Vec<Region> = (0..450)
        .map(|_| scopes::try_open("s", "crowded").expect("it is published"))
        .collect();
    let waiters: Vec<Pollable> = claims
        .iter()
        .map(|claim| claim.readable(..GRANULE).expect("it may read"))
        .collect();
    let other = Region::create("other", 1).expect("it is small");
    let ready_event = ready(&other);
    let _published = scopes::publish("s", "ready", &other, Rights::READ).expect("it may");
    poll(&waiters, &ready_event);
}
