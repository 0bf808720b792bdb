//! Regions of the host program in synchronous stores.

mod plugin;

use std::process::Command;

use plugin::{Answer, AnswerBody, Body, LentBody, plugin};
use tombolo::{GiveError, LentRegion, Region, RegionError, RegionHost, RegionView, Rights};
use tombolo_test_util::store::State;
use tombolo_tests::artifacts::EMBED_PLUGIN;
use wasmtime::Store;

/// Returns the argument for a body in a lent region.
fn body_in(lent: &LentRegion, length: u64) -> Body {
    Body::Region(LentBody {
        region: lent.resource(),
        length,
    })
}

/// Takes the region of an answer that the plugin moves.
fn moved(store: &mut Store<State>, answer: Answer) -> Region {
    let AnswerBody::Region(moved) = answer.body else {
        panic!("{answer:?}");
    };
    Region::take(store, moved.region).unwrap()
}

/// The README shows parts of this program.
#[test]
fn minimal_program_prints_the_answer() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_minimal"));
    let output = program.arg(EMBED_PLUGIN).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(output.stdout, b"HELLO, ISLAND\n");
}

// rules 5, 6
#[test]
fn frozen_region_is_lent_and_answer_read_in_place() {
    let host = RegionHost::new();
    let (mut store, plugin) = plugin(&host);
    let handler = plugin.tombolo_examples_embed_handler();

    let body = host.create("body", 100_000).unwrap();
    body.try_write(0..100_000).unwrap().fill(b'a');
    body.freeze().unwrap();
    assert!(matches!(body.try_write(0..1), Err(RegionError::Frozen)));

    let lent = body.lend(&mut store, Rights::READ).unwrap();
    let returned = handler.call_handle(&mut store, "/translate", &body_in(&lent, 100_000));
    let answer = lent.end(&mut store, returned).unwrap().unwrap();

    let taken = moved(&mut store, answer);
    assert_eq!(taken.name(), "translation");
    assert_eq!(taken.size(), 100_000);
    assert!(
        taken
            .rights()
            .contains(Rights::READ | Rights::WRITE | Rights::SHARE)
    );
    let guard = taken.try_read(..).unwrap();
    // A guard outlives the handle, and the guest.
    drop((taken, store));
    assert!(guard.iter().all(|byte| *byte == b'A'));

    drop((guard, body));
    let counts = host.counts();
    assert_eq!(counts.bytes_copied, 0);
    assert_eq!(counts.regions_created, 2);
    assert_eq!(counts.regions_freed, 2);
}

// rule 5
#[test]
fn given_region_stays_with_the_guest() {
    let host = RegionHost::new();
    let (mut store, plugin) = plugin(&host);
    let handler = plugin.tombolo_examples_embed_handler();

    let table = host.create("table", 256).unwrap();
    table.try_write(0..256).unwrap().fill(b'*');
    let guard = table.try_read(0..256).unwrap();
    // Not while the host program reads it. The error returns the region.
    let GiveError { region, reason, .. } = table.give(&mut store).unwrap_err();
    assert!(matches!(reason, RegionError::WouldBlock), "{reason}");
    drop(guard);
    let given = region.give(&mut store).unwrap();
    assert_eq!(store.data_mut().region_ctx().claimed_bytes(), 256);
    handler.call_set_table(&mut store, given).unwrap().unwrap();
    assert_eq!(host.counts().regions_freed, 0);

    let body = host.create("body", 3).unwrap();
    let lent = body.lend(&mut store, Rights::READ).unwrap();
    let returned = handler.call_handle(&mut store, "/translate", &body_in(&lent, 3));
    let answer = lent.end(&mut store, returned).unwrap().unwrap();
    let answer = moved(&mut store, answer);
    assert_eq!(&answer.try_read(0..3).unwrap()[..], b"***");

    // The guest drops a table of the wrong size, which frees it.
    let other = host.create("other", 1).unwrap();
    let given = other.give(&mut store).unwrap();
    let refused = handler.call_set_table(&mut store, given).unwrap();
    assert!(refused.is_err());
    assert_eq!(host.counts().regions_freed, 1);
    drop(store);
    assert_eq!(host.counts().regions_freed, 2);
}

// rule 2
#[test]
fn guard_keeps_guests_out() {
    let host = RegionHost::new();
    let (mut store, plugin) = plugin(&host);
    let handler = plugin.tombolo_examples_embed_handler();
    let body = host.create("body", 10).unwrap();

    let guard = body.try_write(0..10).unwrap();
    let refused = body.lend(&mut store, Rights::READ).unwrap_err();
    assert!(matches!(refused, RegionError::WouldBlock), "{refused}");
    drop(guard);

    let lent = body.lend(&mut store, Rights::READ).unwrap();
    // A lent region cannot be given away.
    let returned = handler.call_handle(&mut store, "/count", &body_in(&lent, 10));
    let GiveError { region, reason, .. } = body.give(&mut store).unwrap_err();
    assert!(matches!(reason, RegionError::WouldBlock), "{reason}");
    lent.end(&mut store, returned).unwrap().unwrap();
    region.give(&mut store).unwrap();
}

// rules 5, 6
#[test]
fn trap_ends_the_lend_with_the_store() {
    let host = RegionHost::new();
    let (mut store, plugin) = plugin(&host);
    let handler = plugin.tombolo_examples_embed_handler();
    let body = host.create("body", 10).unwrap();
    let lent = body.lend(&mut store, Rights::READ | Rights::WRITE).unwrap();
    handler
        .call_handle(&mut store, "/trap", &body_in(&lent, 10))
        .unwrap_err();
    drop((lent, store));
    // The guest had no window on it, so no value is half written.
    assert!(!body.is_poisoned());
    body.try_write(0..10).unwrap().fill(1);
}
