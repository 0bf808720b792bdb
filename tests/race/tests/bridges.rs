//! The two ends of a stream between guests on racing strands, under many schedules.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::try_schedules;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use tombolo_exchange::{BridgeItem, LEAST_BYTES, MOST_BYTES, OVERHEAD_BYTES, bridge};
use tombolo_region::{Account, ChargeKind, Quota};

mod common;

/// The number of items that a writer has.
const ITEMS: u64 = 6;

/// An item with its number and its size.
struct Item(u64, u64);

impl BridgeItem for Item {
    fn bytes(&self) -> u64 {
        self.1
    }
}

/// The outcomes over all schedules.
#[derive(Debug, Default)]
struct Seen {
    all: AtomicU64,
    writer_waited: AtomicU64,
    reader_waited: AtomicU64,
    writer_left: AtomicU64,
    reader_left: AtomicU64,
    reader_gone: AtomicU64,
}

fn note(of: &AtomicU64) {
    of.fetch_add(1, SeqCst);
}

fn run(host_memory: u64, known: bool, seen: &Arc<Seen>) {
    let quota = Quota {
        regions: 0,
        claimed_bytes: 0,
        handles: 0,
        windows: 0,
        unpinned_spans: 0,
        host_memory,
    };
    let account = Account::new("guest `a`", quota);
    let (mut writer, mut reader) = bridge(&account).expect("the account has the least");
    let (write_most, read_most) = {
        let some = || thread_rng().gen_range(0..2 * ITEMS);
        (some(), some())
    };
    let notes = seen.clone();
    let writing = thread::spawn(move || {
        for number in 0..ITEMS {
            if number >= write_most {
                note(&notes.writer_left);
                return;
            }
            let wanted = known.then_some(LEAST_BYTES);
            let mut waited = false;
            let room = block_on(poll_fn(|context| {
                let polled = writer.poll_room(context, wanted);
                waited |= polled.is_pending();
                polled
            }));
            if waited {
                note(&notes.writer_waited);
            }
            let Some(room) = room else {
                note(&notes.reader_gone);
                return;
            };
            let bytes = match known {
                true => room.min(LEAST_BYTES / 2),
                false => LEAST_BYTES / 2,
            };
            let pushed = writer.push(|items| items.push_back(Item(number, bytes)));
            pushed.expect("there was room");
        }
    });
    let notes = seen.clone();
    let reading = thread::spawn(move || {
        for number in 0.. {
            if number >= read_most {
                note(&notes.reader_left);
                return;
            }
            let mut waited = false;
            let items = block_on(poll_fn(|context| {
                let polled = reader.poll_items(context);
                waited |= polled.is_pending();
                polled
            }));
            if waited {
                note(&notes.reader_waited);
            }
            if items.is_none() {
                assert_eq!(number, write_most.min(ITEMS));
                note(&notes.all);
                return;
            }
            let item = reader.take(1, |items, _| items.pop_front());
            assert_eq!(item.expect("there is one").0, number);
        }
    });
    writing.join().expect("the writer does not fail");
    reading.join().expect("the reader does not fail");
    assert_eq!(account.used(ChargeKind::HostMemory), 0);
}

// rule 10
#[test]
fn ends_never_miss_each_other() {
    let seen = Arc::new(Seen::default());
    let least = LEAST_BYTES + OVERHEAD_BYTES;
    for (host_memory, known) in [
        (least, true),
        (least, false),
        (least + LEAST_BYTES, true),
        (MOST_BYTES + OVERHEAD_BYTES, false),
    ] {
        let all = seen.clone();
        try_schedules(4_000, move || run(host_memory, known, &all));
    }
    // Each of these happened, or the test shows little.
    for of in [
        &seen.all,
        &seen.writer_waited,
        &seen.reader_waited,
        &seen.writer_left,
        &seen.reader_left,
        &seen.reader_gone,
    ] {
        assert!(of.load(SeqCst) > 100, "{seen:?}");
    }
}
