//! Reads or writes a region that another guest, in another strand, uses at the same
//! time, and passes what it reads to the host: strings and lists that lie in the
//! very bytes.
//!
//! The region holds one character over and over, `a` or `é`. A mixture of both is no
//! UTF-8: a host that lifted one would end this guest.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)] // To pass on what may be no UTF-8.

use tombolo_guest::channels::{Receiver, Sender};
use tombolo_guest::scopes::{self, ScopeError};
use tombolo_guest::{Error, GRANULE, Region, Rights};

/// The bytes that are used: few, so that both sides meet often.
const LENGTH: usize = 4096;
/// What is lifted under one window.
const LIFTS: u32 = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["read", how, times] => read(how, times.parse().unwrap()),
        ["write", how] => write(how),
        _ => panic!("{arguments:?}"),
    }
}

fn pattern(odd: bool) -> Vec<u8> {
    let character = if odd { "é" } else { "a" };
    let count = LENGTH / character.len();
    character.repeat(count).into_bytes()
}

/// Lifts so many times, and until the writer changed the bytes often.
fn read(how: &str, times: u32) {
    let region = Region::create("torn", GRANULE).unwrap();
    region.write_at(0, &pattern(false)).unwrap();
    let rights = Rights::READ | Rights::WRITE;
    let _published = scopes::publish("s", "torn", &region, rights).unwrap();
    let (echo, echoed) = (
        Sender::open("echo").unwrap(),
        Receiver::open("echo").unwrap(),
    );
    let (mut lifted, mut changes, mut blocked, mut before) = (0, 0u32, 0u32, None);
    while lifted < times || changes < 20 {
        let mut look = |bytes: &[u8]| {
            let first = bytes[0];
            for _ in 0..LIFTS {
                // By the host, which looks whether it is UTF-8: nobody's name.
                let text = unsafe { std::str::from_utf8_unchecked(bytes) };
                let opened = scopes::open("s", text);
                assert!(matches!(opened, Err(ScopeError::Absent)), "{opened:?}");
                // By the host, which copies it: and back.
                echo.send(bytes, vec![]).unwrap();
                let message = echoed.receive().unwrap();
                whole(&message.bytes, first);
                whole(bytes, first);
                lifted += 2;
            }
            if before.replace(first) != Some(first) {
                changes += 1;
            }
        };
        let done = match how {
            "read" => region.read_window(..).map(|window| look(&window[..LENGTH])),
            "write" => region
                .write_window(..)
                .map(|window| look(&window[..LENGTH])),
            "copy" => region.read_at(0, LENGTH as u64).map(|bytes| look(&bytes)),
            _ => panic!("{how}"),
        };
        match done {
            Ok(()) => {}
            Err(Error::WouldBlock) => blocked += 1,
            Err(error) => panic!("{error}"),
        }
        // The writer gets its chance, too.
        std::thread::yield_now();
    }
    println!("{how}: {lifted} lifted, {changes} changes, {blocked} blocked");
}

/// All of it is the one character.
fn whole(bytes: &[u8], first: u8) {
    assert!(first == b'a' || first == 0xC3, "{first:#x}");
    assert_eq!(bytes, pattern(first != b'a'));
}

/// Changes the bytes until nobody publishes them any more.
fn write(how: &str) {
    let region = scopes::open_waiting("s", "torn").unwrap();
    let (even, odd) = (pattern(false), pattern(true));
    for time in 0u32.. {
        let bytes = match time % 2 {
            0 => &even,
            _ => &odd,
        };
        let done = match how {
            // Byte by byte: what is between is no UTF-8.
            "write" => region.write_window(..).map(|mut window| {
                for (to, from) in window.iter_mut().zip(bytes) {
                    unsafe { std::ptr::from_mut(to).write_volatile(*from) };
                }
            }),
            "copy" => region.write_at(0, bytes),
            _ => panic!("{how}"),
        };
        match done {
            Ok(()) | Err(Error::WouldBlock) => {}
            Err(error) => panic!("{error}"),
        }
        if time % 64 == 0 && scopes::open("s", "torn").is_err() {
            return;
        }
    }
}
