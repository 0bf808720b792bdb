//! A guest that waits for windows, and plays the part that its first argument
//! names. What it finds wrong it panics about.

use std::time::{Duration, Instant};

use tombolo_guest::channels::{Receiver, Sender};
use tombolo_guest::{Error, GRANULE, Pollable, Region, Rights, scopes};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.join(" ").as_str() {
        "write" => {
            let (table, _published) = create();
            write(&table);
        }
        "write-after" => {
            let (table, _published) = create();
            let signs = Receiver::open("signs").unwrap();
            signs.receive().unwrap().expect("it came before the death");
            write(&table);
        }
        "read" => read(),
        "die" => die(),
        "alone" => alone(),
        part => panic!("no such part: {part}"),
    }
}

fn create() -> (Region, scopes::Publication) {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let rights = Rights::READ | Rights::WRITE;
    let published = scopes::publish("s", "table", &table, rights).unwrap();
    (table, published)
}

/// Until others have windows.
fn until_held(table: &Region) {
    let until = Instant::now() + Duration::from_secs(20);
    while table.try_write(..).is_ok() {
        assert!(Instant::now() < until, "nobody comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write(table: &Region) {
    until_held(table);
    // Who only tries does not get it.
    for _ in 0..50 {
        assert_eq!(table.try_write(..).unwrap_err(), Error::WouldBlock);
        std::thread::sleep(Duration::from_millis(1));
    }
    table.write(..).unwrap()[0] = 1;
    println!("written");
}

/// Reads until something is written, always through some window: the next is there
/// before the last one goes, if it may.
fn read() {
    let table = scopes::open("s", "table").unwrap();
    let mut window = table.read(..).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while window[0] == 0 {
        assert!(Instant::now() < until, "the writer starves");
        window = match table.try_read(..) {
            Ok(next) => next,
            Err(Error::WouldBlock) => {
                drop(window);
                table.read(..).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Waits, and dies before its turn.
fn die() {
    let table = scopes::open("s", "table").unwrap();
    until_held(&table);
    let _turn = table.writable(..).unwrap();
    Sender::open("signs")
        .unwrap()
        .try_send(b"", vec![])
        .unwrap();
    panic!("as it was told");
}

/// What one guest sees of its own two claims.
fn alone() {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let other = table.duplicate(Rights::READ | Rights::WRITE).unwrap();
    let window = table.try_write(..).unwrap();
    let turn = other.readable(..GRANULE).unwrap();
    assert!(!turn.is_ready());
    drop(window);
    assert_eq!(Pollable::first(&[&turn]), [0]);
    // It is reserved, for one window, for a moment.
    assert_eq!(table.try_write(..).unwrap_err(), Error::WouldBlock);
    assert_eq!(table.write_at(0, &[1]).unwrap_err(), Error::WouldBlock);
    table.try_write(GRANULE..).unwrap();
    let reading = other.try_read(..GRANULE).unwrap();
    assert!(turn.is_ready(), "it has what it waited for");
    drop(reading);
    table.try_write(..).unwrap();

    // A turn that is let go by, and one that is given up.
    let turn = other.writable(..).unwrap();
    assert!(turn.is_ready());
    let begun = Instant::now();
    let window = table.write(..).unwrap();
    assert!(
        begun.elapsed() >= Duration::from_millis(50),
        "it was reserved"
    );
    assert!(!turn.is_ready());
    let next = table.restrict(Rights::READ).unwrap();
    drop(window);
    assert!(turn.is_ready());
    drop(turn);
    drop(next.try_read(..).unwrap());

    // What waiting does not cure.
    let refused = |error: Result<Pollable, Error>| error.unwrap_err();
    assert_eq!(refused(next.writable(..)), Error::NotPermitted);
    assert!(matches!(refused(next.readable(1..)), Error::Misaligned(_)));
    let window = table.try_read(..).unwrap();
    let turn = other.writable(..).unwrap();
    assert!(!turn.is_ready());
    drop(next);
    table.freeze().unwrap();
    assert!(turn.is_ready());
    assert_eq!(other.try_write(..).unwrap_err(), Error::Frozen);
    assert_eq!(refused(other.writable(..)), Error::Frozen);
    drop(window);
}
