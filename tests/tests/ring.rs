//! A thousand guests in one app, each with regions and windows.

use std::sync::Arc;
use std::time::Instant;

use tombolo_app::{ChannelSpec, CommandExit, GuestSpec};
use tombolo_test_util::process::Process;
use tombolo_test_util::run::{builder, threads};

tombolo_tests::guests!(ring);

/// The number of guests.
const GUESTS: usize = 1000;
/// The number of regions that each guest sends.
const ROUNDS: usize = 5;

// rule 6
#[test]
fn thousand_guests_exchange_regions() {
    let wasm: Arc<[u8]> = std::fs::read(guests::RING_MEMBER).unwrap().into();
    let mut app = builder();
    for guest in 0..GUESTS {
        let from = (guest + GUESTS - 1) % GUESTS;
        app = app
            .guest(GuestSpec {
                args: vec![format!("c{guest}"), format!("c{from}"), ROUNDS.to_string()],
                ..GuestSpec::new(format!("g{guest}"), wasm.clone())
            })
            .channel(ChannelSpec {
                name: format!("c{guest}"),
                from: vec![format!("g{guest}")],
                to: format!("g{}", (guest + 1) % GUESTS),
                capacity: 1,
                message_bytes: 16,
                message_regions: 4,
            });
    }
    let runtime = threads(2);
    let process = Process::current();
    let count = || {
        let resident = process.resident_memory().unwrap();
        (process.mappings().unwrap().len(), resident)
    };
    let before = count();
    let outcome = runtime.block_on(async {
        let begun = Instant::now();
        let app = app.start().await.unwrap();
        let during = count();
        println!(
            "{GUESTS} guests started in {:?}; mappings {} -> {}, resident {} -> {} bytes",
            begun.elapsed(),
            before.0,
            during.0,
            before.1,
            during.1,
        );
        let begun = Instant::now();
        let outcome = app.run().await;
        println!("exchanged and ended in {:?}", begun.elapsed());
        outcome
    });
    assert_eq!(outcome.failures, [""; 0]);
    assert_eq!(outcome.end, CommandExit::Exit(0));
    let report = &outcome.report;
    assert_eq!(report.regions_created, (GUESTS * ROUNDS) as u64);
    assert_eq!(report.regions_freed, report.regions_created);
    let sent: u64 = report.channels.iter().map(|channel| channel.sent).sum();
    assert_eq!(sent, report.regions_created);
    drop(runtime);
    let after = process.mappings().unwrap();
    assert!(after.iter().all(|mapping| mapping.memfd().is_none()));
}
