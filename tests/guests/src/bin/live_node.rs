//! A guest with live windows. Its first argument names the part that it plays. It panics if
//! an expectation fails.

use std::time::{Duration, Instant};

use tombolo_guest::scopes::{self, Publication};
use tombolo_guest::{Error, GRANULE, Region, Rights};
use tombolo_test_guests::scenarios::LivePart;

fn main() {
    let part = std::env::args().nth(1).expect("the name of a part");
    match part.parse().expect("the part exists") {
        LivePart::Ping => ping(),
        LivePart::Pong => pong(),
        LivePart::Hold => hold(),
        LivePart::IsRefused => is_refused(),
        LivePart::Alone => alone(),
        LivePart::WriteThenShare => write_then_share(),
        LivePart::Wait => wait(),
        LivePart::Keep => keep(),
        LivePart::Die => die(),
    }
}

fn create() -> (Region, Publication) {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let published = publish(&table);
    (table, published)
}

fn publish(table: &Region) -> Publication {
    scopes::publish("s", "table", table, Rights::READ | Rights::WRITE).unwrap()
}

fn open() -> Region {
    scopes::open("s", "table").unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The number of times that each guest waits for the other.
const ROUNDS: u32 = 20;
/// The counters of the first and the second guest.
const PING: usize = 0;
const PONG: usize = 1;

fn ping() {
    let (table, _published) = create();
    let window = table.try_live_write(..).unwrap();
    let counts = window.cells_of::<u32>();
    for round in 1..=ROUNDS {
        counts.set(PING, round);
        // Without a call to the host.
        while counts.get(PONG) != round {}
    }
}

fn pong() {
    let table = open();
    let window = table.try_live_write(..).unwrap();
    let counts = window.cells_of::<u32>();
    for round in 1..=ROUNDS {
        while counts.get(PING) != round {}
        counts.set(PONG, round);
    }
}

/// Holds a live window until the other guest has finished its part.
fn hold() {
    let (table, _published) = create();
    let window = table.try_live_write(..GRANULE).unwrap();
    until("no other guest opens a window", || {
        // The second granule holds the progress of the other guest.
        matches!(table.read_at(GRANULE, 1).as_deref(), Ok([1]))
    });
    drop(window);
    until("no other guest continues", || {
        matches!(table.read_at(GRANULE, 1).as_deref(), Ok([2]))
    });
}

fn is_refused() {
    let table = open();
    let mut refused = Err(Error::WouldBlock);
    until("nothing is held", || {
        refused = table.try_live_read(..GRANULE).map(drop);
        refused.is_err()
    });
    let reason = |refused: Result<(), Error>| match refused {
        Err(Error::Unsupported(text)) => assert!(text.contains("another strand"), "{text}"),
        other => panic!("{other:?}"),
    };
    reason(refused);
    reason(table.try_live_write(..GRANULE).map(drop));
    // This does not wait for a window that another strand may never close.
    reason(table.live_read(..GRANULE).map(drop));
    assert_eq!(table.try_read(..GRANULE).map(drop), Err(Error::WouldBlock));
    table.write_at(GRANULE, &[1]).unwrap();
    until("the bytes are never free", || {
        table.try_live_write(..GRANULE).is_ok()
    });
    table.write_at(GRANULE, &[2]).unwrap();
}

/// Opens several windows from one guest.
fn alone() {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let other = table.duplicate(Rights::READ | Rights::WRITE).unwrap();
    let window = table.try_live_write(..GRANULE).unwrap();
    let again = other.try_live_read(..GRANULE).map(drop);
    assert_eq!(again, Err(Error::WouldBlock));
    let cells = window.cells();
    assert_eq!(cells.len() as u64, GRANULE);
    cells.copy_from(1, b"live");
    let mut bytes = [0; 6];
    cells.copy_to(0, &mut bytes);
    assert_eq!(&bytes, b"\0live\0");
    assert_eq!(window.cells_of::<u32>().range(1..2).get(0), u32::from(b'e'));
    assert_eq!(
        table.unpin(..GRANULE),
        Err(Error::WouldBlock),
        "it is shown"
    );

    // Changes the access.
    let window = window.into_read().unwrap();
    assert_eq!(window.cells().get(2), b'i');
    let window = window.into_write().unwrap();
    window.cells().set(0, 7);
    let window = window.into_window().unwrap();
    assert_eq!(&window[..6], b"\x07live\0");
    let window = window.into_read().unwrap().into_live().unwrap();
    let refused = window.into_write().unwrap().into_read().unwrap();
    let reads = other.try_read(GRANULE..).unwrap();
    let window = refused.into_window().unwrap();
    let beside = other.try_read(..GRANULE).unwrap();
    let refused = window.into_live().unwrap_err();
    assert_eq!(*refused.error(), Error::WouldBlock);
    assert_eq!(&refused.into_window()[1..5], b"live");
    drop((reads, beside));

    // A frozen region has no live windows.
    let weak = table.restrict(Rights::READ).unwrap();
    assert_eq!(weak.try_live_write(..).map(drop), Err(Error::NotPermitted));
    table.freeze().unwrap();
    assert_eq!(weak.try_live_read(..).map(drop), Err(Error::Frozen));
}

fn write_then_share() {
    let (table, _published) = create();
    let mut window = table.try_write(..).unwrap();
    // The other guest waits by now, or waits later. Both are fine.
    std::thread::sleep(Duration::from_millis(30));
    window[0] = 1;
    let window = window.into_live().unwrap();
    let cells = window.cells();
    until("nobody gets it", || cells.get(1) == 1);
    cells.set(0, 2);
}

fn wait() {
    let table = open();
    let window = table.live_write(..).unwrap();
    let cells = window.cells();
    assert_eq!(cells.get(0), 1);
    cells.set(1, 1);
    until("it does not see it", || cells.get(0) == 2);
}

fn keep() {
    let table = Region::create("table", 2 * GRANULE).unwrap();
    let window = table.try_live_read(..).unwrap();
    let _published = publish(&table);
    let cells = window.cells();
    until("it does not die", || cells.get(0) == 1);
    until("it does not come back", || cells.get(1) == 1);
}

fn die() {
    let table = open();
    match table.try_live_write(..) {
        Err(Error::Poisoned) => {
            table.clear_poison().unwrap();
            let window = table.try_live_write(..).unwrap();
            assert_eq!(window.cells().get(0), 1);
            window.cells().set(1, 1);
        }
        window => {
            // The window is still open when this guest dies.
            let window = window.unwrap();
            window.cells().set(0, 1);
            panic!("on purpose");
        }
    }
}
