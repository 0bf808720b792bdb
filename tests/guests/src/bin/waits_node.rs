//! A guest that waits for windows. Its arguments name the part that it plays. It panics if
//! an expectation fails.

use std::time::{Duration, Instant};

use tombolo_guest::channels::{ChannelError, Receiver, Sender};
use tombolo_guest::{Error, GRANULE, Pinned, Pollable, Region, Rights, scopes};
use tombolo_test_guests::scenarios::WaitsPart;

fn main() {
    let part = std::env::args().nth(1).expect("the name of a part");
    match part.parse().expect("the part exists") {
        WaitsPart::Write => {
            let (table, _published) = create();
            write(&table);
        }
        WaitsPart::WriteAfter => {
            let (table, _published) = create();
            let signs = Receiver::open("signs").unwrap();
            signs
                .receive()
                .unwrap()
                .expect("it was sent before the death");
            write(&table);
        }
        WaitsPart::Read => read(),
        WaitsPart::Die => die(),
        WaitsPart::Alone => alone(),
        WaitsPart::OwnWindow => own_window(),
        WaitsPart::OwnChannel => own_channel(),
    }
}

fn create() -> (Region, scopes::Publication) {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let rights = Rights::READ | Rights::WRITE;
    let published = scopes::publish("s", "table", &table, rights).unwrap();
    (table, published)
}

/// Waits until other guests have windows.
fn until_held(table: &Region) {
    let until = Instant::now() + Duration::from_secs(20);
    while table.try_write(..).is_ok() {
        assert!(Instant::now() < until, "no other guest opens a window");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write(table: &Region) {
    until_held(table);
    // Trying does not succeed while the readers overlap.
    for _ in 0..50 {
        assert_eq!(table.try_write(..).unwrap_err(), Error::WouldBlock);
        std::thread::sleep(Duration::from_millis(1));
    }
    table.write(..).unwrap()[0] = 1;
    println!("written");
}

/// Reads until the writer has written. Each window is opened before the last one closes, as
/// far as the lock allows it.
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

/// Joins the queue, and dies before its turn.
fn die() {
    let table = scopes::open("s", "table").unwrap();
    until_held(&table);
    let _turn = table.writable(..).unwrap();
    Sender::open("signs")
        .unwrap()
        .try_send(b"", vec![])
        .unwrap();
    panic!("this guest is to die");
}

/// Waits with one of two claims while the other has windows.
fn alone() {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let other = table.duplicate(Rights::READ | Rights::WRITE).unwrap();
    let window = table.try_write(..).unwrap();
    let turn = other.readable(..GRANULE).unwrap();
    assert!(!turn.is_ready());
    drop(window);
    assert_eq!(Pollable::first(&[&turn]), [0]);
    // The bytes are reserved for one window, for 100 ms.
    assert_eq!(table.try_write(..).unwrap_err(), Error::WouldBlock);
    assert_eq!(table.write_at(0, &[1]).unwrap_err(), Error::WouldBlock);
    table.try_write(GRANULE..).unwrap();
    let reading = other.try_read(..GRANULE).unwrap();
    assert!(turn.is_ready(), "the wait is over");
    drop(reading);
    table.try_write(..).unwrap();

    // A turn that expires, and one that is dropped.
    let turn = other.writable(..).unwrap();
    assert!(turn.is_ready());
    let begun = Instant::now();
    let window = table.write(..).unwrap();
    assert!(
        begun.elapsed() >= Duration::from_millis(50),
        "the bytes were reserved"
    );
    assert!(!turn.is_ready());
    let next = table.restrict(Rights::READ).unwrap();
    drop(window);
    assert!(turn.is_ready());
    drop(turn);
    drop(next.try_read(..).unwrap());

    // Errors that waiting does not cure.
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

/// Waits for bytes that this guest itself has windows on.
fn own_window() {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let other = table.duplicate(Rights::READ | Rights::WRITE).unwrap();
    let weak = table.restrict(Rights::READ).unwrap();
    let refused = |error: Error| match error {
        Error::Deadlock(text) => text,
        error => panic!("{error}"),
    };

    let window = table.write(..GRANULE).unwrap();
    for text in [
        refused(table.read(..).unwrap_err()),
        refused(other.read(..1).unwrap_err()),
        refused(weak.read(..1).unwrap_err()),
        refused(other.write(..).unwrap_err()),
    ] {
        let named = "`write` window on bytes 0..65536 of region `table`";
        assert!(text.contains(named), "{text}");
    }
    assert_eq!(other.try_read(..).unwrap_err(), Error::WouldBlock);
    drop(other.write(GRANULE..).unwrap());

    // An unpinned window keeps its lock.
    let window = window.unpin().unwrap();
    let text = refused(other.read(..1).unwrap_err());
    assert!(text.contains("unpinned `write` window"), "{text}");
    let Pinned::Intact(window) = window.pin().unwrap() else {
        panic!("there is no memory pressure")
    };

    let window = window.into_read().unwrap();
    drop(other.read(..).unwrap());
    refused(other.write(..).unwrap_err());
    drop(window);
    drop(other.write(..).unwrap());
}

/// Sends to a full channel that this guest itself receives from.
fn own_channel() {
    let receiver = Receiver::open("loop").unwrap();
    let sender = Sender::open("loop").unwrap();
    sender.send(b"1", vec![]).unwrap();
    let region = Region::create("parcel", GRANULE).unwrap();
    let unsent = sender.send(b"2", vec![region]).unwrap_err();
    let ChannelError::Deadlock(text) = &unsent.why else {
        panic!("{}", unsent.why)
    };
    assert!(text.contains("channel `loop` is full"), "{text}");
    let unsent = sender.try_send(b"2", unsent.regions).unwrap_err();
    assert_eq!(unsent.why, ChannelError::WouldBlock);

    assert_eq!(receiver.receive().unwrap().unwrap().bytes, b"1");
    sender.send(b"2", unsent.regions).unwrap();
    let message = receiver.receive().unwrap().unwrap();
    assert_eq!((&message.bytes[..], message.regions.len()), (&b"2"[..], 1));
}
