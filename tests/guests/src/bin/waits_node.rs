//! A guest that waits for windows, and plays the part that its first argument
//! names. What it finds wrong it panics about.

use std::time::{Duration, Instant};

use tombolo_guest::channels::{Receiver, Sender};
use tombolo_guest::{Error, Event, GRANULE, Region, Rights, scopes};

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
            signs.next().unwrap().expect("it came before the death");
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
    while table.write_window(..).is_ok() {
        assert!(Instant::now() < until, "nobody comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write(table: &Region) {
    until_held(table);
    // Who only tries does not get it.
    for _ in 0..50 {
        assert_eq!(table.write_window(..).unwrap_err(), Error::WouldBlock);
        std::thread::sleep(Duration::from_millis(1));
    }
    table.write_window_waiting(..).unwrap()[0] = 1;
    println!("written");
}

/// Reads until something is written, always through some window: the next is there
/// before the last one goes, if it may.
fn read() {
    let table = scopes::open_waiting("s", "table").unwrap();
    let mut window = table.read_window_waiting(..).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while window[0] == 0 {
        assert!(Instant::now() < until, "the writer starves");
        window = match table.read_window(..) {
            Ok(next) => next,
            Err(Error::WouldBlock) => {
                drop(window);
                table.read_window_waiting(..).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Waits, and dies before its turn.
fn die() {
    let table = scopes::open_waiting("s", "table").unwrap();
    until_held(&table);
    let _turn = table.when_writable(..).unwrap();
    Sender::open("signs").unwrap().send(b"", vec![]).unwrap();
    panic!("as it was told");
}

/// What one guest sees of its own two claims.
fn alone() {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let other = table.duplicate(Rights::READ | Rights::WRITE).unwrap();
    let window = table.write_window(..).unwrap();
    let turn = other.when_readable(..GRANULE).unwrap();
    assert!(!turn.is_ready());
    drop(window);
    assert_eq!(Event::first(&[&turn]), [0]);
    // It is reserved, for one window, for a moment.
    assert_eq!(table.write_window(..).unwrap_err(), Error::WouldBlock);
    assert_eq!(table.write_at(0, &[1]).unwrap_err(), Error::WouldBlock);
    table.write_window(GRANULE..).unwrap();
    let reading = other.read_window(..GRANULE).unwrap();
    assert!(turn.is_ready(), "it has what it waited for");
    drop(reading);
    table.write_window(..).unwrap();

    // A turn that is let go by, and one that is given up.
    let turn = other.when_writable(..).unwrap();
    assert!(turn.is_ready());
    let begun = Instant::now();
    let window = table.write_window_waiting(..).unwrap();
    assert!(
        begun.elapsed() >= Duration::from_millis(50),
        "it was reserved"
    );
    assert!(!turn.is_ready());
    let next = table.restrict(Rights::READ).unwrap();
    drop(window);
    assert!(turn.is_ready());
    drop(turn);
    drop(next.read_window(..).unwrap());

    // What waiting does not cure.
    let refused = |error: Result<Event, Error>| error.unwrap_err();
    assert_eq!(refused(next.when_writable(..)), Error::NotPermitted);
    assert!(matches!(
        refused(next.when_readable(1..)),
        Error::Misaligned(_)
    ));
    let window = table.read_window(..).unwrap();
    let turn = other.when_writable(..).unwrap();
    assert!(!turn.is_ready());
    drop(next);
    table.freeze().unwrap();
    assert!(turn.is_ready());
    assert_eq!(other.write_window(..).unwrap_err(), Error::Frozen);
    assert_eq!(refused(other.when_writable(..)), Error::Frozen);
    drop(window);
}
