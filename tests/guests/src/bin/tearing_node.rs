//! Reads or writes a region that another guest uses at the same time, in another strand or
//! in turns. It passes strings and lists that lie in these bytes to the host.
//!
//! The region repeats one character, `a` or `é`. A mixture of both is not UTF-8, so a host
//! that lifted one would kill this guest. Two bytes that are written by one instruction are
//! both old or both new. So a live window that is written two bytes at a time is valid
//! UTF-8 at any moment.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)] // To pass on what may be no UTF-8.

use tombolo_guest::channels::{Receiver, Sender};
use tombolo_guest::scopes::{self, ScopeError};
use tombolo_guest::{Error, GRANULE, Region, Rights};
use tombolo_test_guests::scenarios::TearingPart;

/// The number of bytes in use. It is small, so that both sides often meet.
const LENGTH: usize = 4096;
/// The number of lifts for each window.
const LIFTS: u32 = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (part, rest) = arguments.split_first().expect("the name of a part");
    match (part.parse().expect("the part exists"), rest) {
        (TearingPart::Read, [access, times, how]) => read(access, times.parse().unwrap(), how),
        (TearingPart::Write, [how]) => write(how),
        (TearingPart::Read | TearingPart::Write, _) => panic!("{arguments:?}"),
    }
}

fn pattern(odd: bool) -> Vec<u8> {
    let character = if odd { "é" } else { "a" };
    let count = LENGTH / character.len();
    character.repeat(count).into_bytes()
}

/// Lifts this many times, and until the writer has changed the bytes often. If both windows
/// are live, also until a partial change was seen often.
fn read(access: &str, times: u32, how: &str) {
    let region = Region::create("torn", GRANULE).unwrap();
    region.write_at(0, &pattern(false)).unwrap();
    let rights = Rights::READ | Rights::WRITE;
    let _published = scopes::publish("s", "torn", &region, rights).unwrap();
    let (echo, echoed) = (
        Sender::open("echo").unwrap(),
        Receiver::open("echo").unwrap(),
    );
    let (mut lifted, mut changes, mut blocked, mut before) = (0, 0u32, 0u32, None);
    let mut halves = 0u32;
    while lifted < times || changes < 20 || how == "live" && halves < 20 {
        let is_live = access.starts_with("live");
        let mut look = |bytes: &[u8]| {
            let first = bytes[0];
            for _ in 0..LIFTS {
                // The host checks that the name is UTF-8. It is not published.
                let text = unsafe { std::str::from_utf8_unchecked(bytes) };
                let opened = scopes::try_open("s", text);
                assert!(matches!(opened, Err(ScopeError::Absent)), "{opened:?}");
                // The host copies the bytes, there and back.
                echo.try_send(bytes, vec![]).unwrap();
                let message = echoed.try_receive().unwrap();
                lifted += 2;
                if is_live {
                    halves += u32::from(at_one_moment(&message.bytes));
                    continue;
                }
                whole(&message.bytes, first);
                whole(bytes, first);
            }
            if before.replace(first) != Some(first) {
                changes += 1;
            }
        };
        let done = match access {
            "read" => region.try_read(..).map(|window| look(&window[..LENGTH])),
            "write" => region.try_write(..).map(|window| look(&window[..LENGTH])),
            "copy" => region.read_at(0, LENGTH as u64).map(|bytes| look(&bytes)),
            // The bytes are passed on, and not read here.
            "live-read" => region
                .try_live_read(..)
                .map(|window| look(unsafe { std::slice::from_raw_parts(window.as_ptr(), LENGTH) })),
            "live-write" => region
                .try_live_write(..)
                .map(|window| look(unsafe { std::slice::from_raw_parts(window.as_ptr(), LENGTH) })),
            _ => panic!("{access}"),
        };
        match done {
            Ok(()) => {}
            Err(Error::WouldBlock) => blocked += 1,
            Err(error) => panic!("{error}"),
        }
        // Lets the writer run.
        match how {
            "apart" => std::thread::yield_now(),
            _ => pause(),
        }
    }
    println!(
        "{access}: {lifted} lifted, {halves} of them half-way, {changes} changes, {blocked} blocked"
    );
}

/// Yields to the guests of the same strand.
fn pause() {
    std::thread::sleep(std::time::Duration::from_micros(1));
}

/// Checks that the bytes existed at one moment: one character up to some point, and the
/// other after it. Returns whether there are both.
fn at_one_moment(bytes: &[u8]) -> bool {
    let (pairs, rest) = bytes.as_chunks::<2>();
    assert!(rest.is_empty());
    let known = pairs
        .iter()
        .all(|pair| pair == b"aa" || *pair == [0xC3, 0xA9]);
    assert!(known, "{bytes:x?}");
    let changes = pairs
        .windows(2)
        .filter(|pairs| pairs[0] != pairs[1])
        .count();
    assert!(changes <= 1, "{changes} changes: {bytes:x?}");
    changes == 1
}

/// Checks that the bytes repeat one character.
fn whole(bytes: &[u8], first: u8) {
    assert!(first == b'a' || first == 0xC3, "{first:#x}");
    assert_eq!(bytes, pattern(first != b'a'));
}

/// Changes the bytes until the region is no longer published.
fn write(how: &str) {
    let region = scopes::open("s", "torn").unwrap();
    let (even, odd) = (pattern(false), pattern(true));
    for time in 0u32.. {
        let bytes = match time % 2 {
            0 => &even,
            _ => &odd,
        };
        let done = match how {
            // Byte by byte, so that intermediate states are not UTF-8.
            "write" => region.try_write(..).map(|mut window| {
                for (to, from) in window.iter_mut().zip(bytes) {
                    unsafe { std::ptr::from_mut(to).write_volatile(*from) };
                }
            }),
            // Two bytes at a time, with turns of other guests in between.
            "live-write" => region.try_live_write(..).map(|window| {
                let cells = window.cells_of::<u16>();
                for (at, pair) in bytes.as_chunks::<2>().0.iter().enumerate() {
                    cells.set(at, u16::from_le_bytes(*pair));
                    if at % 700 == 699 {
                        pause();
                    }
                }
            }),
            "copy" => region.write_at(0, bytes),
            _ => panic!("{how}"),
        };
        match done {
            Ok(()) | Err(Error::WouldBlock) => {}
            Err(error) => panic!("{error}"),
        }
        if how == "live-write" {
            // Without a window.
            pause();
        }
        if time % 64 == 0 && scopes::try_open("s", "torn").is_err() {
            return;
        }
    }
}
