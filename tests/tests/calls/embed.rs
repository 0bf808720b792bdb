//! Stores that an embedder runs and links itself.

use tombolo::{GRANULE, GiveError, Region, RegionError, RegionHost, Rights};
use tombolo_test_util::three_guests::with;

use crate::embed_harness::{Gate, Guest, Harness, mapped};
use crate::guests;
use crate::scenarios::Scenario;

/// Creates a region of zeros.
fn region(host: &RegionHost, name: &str) -> Region {
    host.create(name, 2 * GRANULE).expect("there is room")
}

fn is_would_block<T: std::fmt::Debug>(result: Result<T, RegionError>) -> bool {
    matches!(result, Err(RegionError::WouldBlock))
}

fn is_poisoned<T: std::fmt::Debug>(result: Result<T, RegionError>) -> bool {
    matches!(result, Err(RegionError::Poisoned))
}

mod lending {
    use super::*;

    // rule 5
    #[tokio::test]
    async fn lenders_windows_are_hidden_during_the_call() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "hidden");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "write gate it"));
        harness.gate.reached(&mut call).await;
        // Only the borrower's window is mapped.
        assert_eq!(mapped("hidden"), 1);
        assert!(is_would_block(region.try_read(0..1)));
        harness.gate.open();
        assert_eq!(call.await.unwrap(), Ok("41 42".into()));
        // The lender's window is mapped again, and still writes.
        assert_eq!(mapped("hidden"), 1);
        assert!(is_would_block(region.try_read(0..1)));
        client.finish();
        drop(client);
        assert_eq!(mapped("hidden"), 0);
        assert_eq!(&region.try_read(0..2).unwrap()[..], [41, 42]);
        harness.is_well().await;
    }

    // rule 5
    #[tokio::test]
    async fn read_windows_stay_while_the_borrower_reads() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "kept");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::READ | Rights::SHARE).await;
        let mut call = client.say(with(Scenario::LendKept, "read gate-reading it"));
        harness.gate.reached(&mut call).await;
        assert_eq!(mapped("kept"), 2);
        assert_eq!(&region.try_read(0..2).unwrap()[..], [0, 0]);
        harness.gate.open();
        assert_eq!(call.await.unwrap(), Ok("0 0".into()));
        harness.is_well().await;
    }

    // rule 5
    #[tokio::test]
    async fn read_windows_are_hidden_from_a_writer() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "could");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "read gate-reading it"));
        harness.gate.reached(&mut call).await;
        assert_eq!(mapped("could"), 1);
        harness.gate.open();
        assert_eq!(call.await.unwrap(), Ok("0 0".into()));
        assert_eq!(mapped("could"), 1);
    }

    // rule 5
    #[tokio::test]
    async fn embedder_can_keep_windows_mapped() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "vouched");
        let mut client = harness.client_that_keeps_windows_mapped().await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "write gate it"));
        harness.gate.reached(&mut call).await;
        assert_eq!(mapped("vouched"), 2);
        harness.gate.open();
        assert_eq!(call.await.unwrap(), Ok("41 42".into()));
        assert_eq!(mapped("vouched"), 1);
    }

    // rule 5
    #[tokio::test]
    async fn lender_cannot_continue_during_the_lend() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "hasty");
        let mut client = harness.client_that_ends_its_lends_at_once().await;
        client.give(&region, Rights::ALL).await;
        let error = client
            .say(with(Scenario::LendKept, "write gate it"))
            .await
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("only when the lend is over"), "{error}");
        // The lender trapped with its window, and the region holds no byte of the borrower.
        drop(client);
        assert!(region.is_poisoned());
        region.clear_poison().unwrap();
        assert_eq!(&region.try_read(0..2).unwrap()[..], [0, 0]);
        harness.is_well().await;
    }

    // rule 5
    #[tokio::test]
    async fn list_of_borrows_is_lent_one_by_one() {
        let harness = Harness::new().await;
        harness.gather(guests::CALLS_GATHERER).await;
        assert_eq!(harness.host().counts().regions_freed, 2);
    }

    // rule 5
    #[tokio::test]
    async fn kept_lent_handle_is_useless() {
        let host = RegionHost::new();
        let region = region(&host, "kept");
        let mut guest = Guest::bare(&host, guests::CALLS_KEEPER, "keeper").await;
        let lent = guest.lend(&region, Rights::ALL).unwrap();
        let returned = guest.keep(&lent).await;
        let error = lent.end(&mut guest.store, returned).unwrap_err();
        assert!(format!("{error:#}").contains("borrow"), "{error:#}");
        region.try_write(0..1).unwrap()[0] = 1;
        // The handle can be moved, so no lend of the claim remains.
        let mut other = Guest::bare(&host, guests::CALLS_KEEPER, "other").await;
        assert!(region.give(&mut other.store).is_ok());
    }

    // rules 2, 5
    #[tokio::test]
    async fn guard_is_not_set_aside() {
        let host = RegionHost::new();
        let region = region(&host, "guarded");
        let mut guest = Guest::bare(&host, guests::CALLS_CLIENT, "client").await;
        let guard = region.try_read(0..1).unwrap();
        assert!(is_would_block(guest.lend(&region, Rights::READ)));
        drop(guard);
        let lent = guest.lend(&region, Rights::READ).unwrap();
        lent.end(&mut guest.store, Ok(())).unwrap();
        let guard = region.try_write(GRANULE..GRANULE + 1).unwrap();
        assert!(is_would_block(guest.lend(&region, Rights::READ)));
        let GiveError { region, reason, .. } = region.give(&mut guest.store).unwrap_err();
        assert!(matches!(reason, RegionError::WouldBlock), "{reason}");
        drop(guard);
        assert!(region.give(&mut guest.store).is_ok());
    }

    /// A guard on another claim blocks no lend. It conflicts with the borrower's windows.
    // rules 2, 5
    #[tokio::test]
    async fn guard_conflicts_with_a_borrowers_window() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "conflict");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let guard = region.try_read(0..1).unwrap();
        assert_eq!(
            client
                .say(with(Scenario::LendPlain, "fill 1"))
                .await
                .unwrap(),
            Err("would-block".into())
        );
        assert_eq!(
            client.say(with(Scenario::LendPlain, "see")).await.unwrap(),
            Ok("0".into())
        );
        assert_eq!(guard[0], 0);
        drop(guard);
        assert_eq!(
            client
                .say(with(Scenario::LendPlain, "fill 1"))
                .await
                .unwrap(),
            Ok("done".into())
        );
        assert_eq!(region.try_read(0..1).unwrap()[0], 1);
    }
}

mod cancelling {
    use super::*;

    /// Checks that after the end of its caller, the callee finishes unharmed and its writes
    /// remain.
    async fn goes_on(harness: &Harness, region: &Region, lender_wrote: bool) {
        assert_eq!(mapped(region.name()), 1, "the borrower's window stays");
        let held = region.try_read(0..1);
        assert!(held.is_err(), "the borrower's lock stays: {held:?}");
        harness.gate.open();
        harness.until("near is done").await;
        assert_eq!(mapped(region.name()), 0);
        assert_eq!(region.is_poisoned(), lender_wrote);
        if lender_wrote {
            region.clear_poison().unwrap();
        }
        assert_eq!(&region.try_read(0..2).unwrap()[..], [41, 42]);
        // The callee serves the next caller.
        let mut other = harness.client("other").await;
        other.give(region, Rights::ALL).await;
        assert_eq!(
            other.say(with(Scenario::LendPlain, "see")).await.unwrap(),
            Ok("41".into())
        );
    }

    // rules 5, 11
    #[tokio::test]
    async fn dropped_call_of_a_reader_leaves_the_callee() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "dropped reading");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "read gate it"));
        harness.gate.reached(&mut call).await;
        drop(call);
        goes_on(&harness, &region, false).await;
    }

    // rule 6
    #[tokio::test]
    async fn dropped_call_of_a_writer_poisons() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "dropped writing");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "write gate it"));
        harness.gate.reached(&mut call).await;
        drop(call);
        goes_on(&harness, &region, true).await;
    }

    // rules 4, 5
    #[tokio::test]
    async fn cancelled_lenders_windows_become_zero_pages() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "cancelled");
        let mut client = harness.client_that_keeps_windows_mapped().await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "read gate it"));
        harness.gate.reached(&mut call).await;
        assert_eq!(mapped("cancelled"), 2);
        drop(call);
        // This comes before any other use of the lender's store.
        goes_on(&harness, &region, false).await;
        drop(client);
        assert!(!region.is_poisoned());
    }

    // rule 5
    #[tokio::test]
    async fn cancelled_lenders_store_can_be_dropped() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "gone");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "read gate it"));
        harness.gate.reached(&mut call).await;
        drop(call);
        drop(client);
        goes_on(&harness, &region, false).await;
    }

    // rule 5
    #[tokio::test]
    async fn forgotten_call_shows_no_bytes_of_the_borrower() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "forgotten");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "read gate it"));
        harness.gate.reached(&mut call).await;
        std::mem::forget(call);
        // The test can still use the store. The lender must see no bytes of the borrower.
        let said = client.say(with(Scenario::Kept, "see")).await;
        assert!(!matches!(said, Ok(Ok(_))), "{said:?}");
        assert_eq!(mapped("forgotten"), 1);
        drop(client);
        goes_on(&harness, &region, false).await;
    }

    // rule 6
    #[tokio::test]
    async fn results_for_a_dead_caller_are_freed() {
        let harness = Harness::new().await;
        let mut client = harness.client("client").await;
        let mut call = client.say(with(Scenario::Make, "gate it"));
        harness.gate.reached(&mut call).await;
        drop(call);
        assert_eq!(harness.host().counts().regions_created, 0);
        harness.gate.open();
        harness.until("near is done").await;
        let counts = harness.host().counts();
        assert_eq!((counts.regions_created, counts.regions_freed), (1, 1));
        harness.is_well().await;
    }

    /// `client` lends to `near`, which re-lends to `far` and ends before `far` returns.
    // rule 5
    #[tokio::test]
    async fn lender_waits_for_regions_lent_on() {
        let harness = Harness::new().await;
        let region = region(harness.host(), "on");
        let mut client = harness.client("client").await;
        client.give(&region, Rights::ALL).await;
        let mut call = client.say(with(Scenario::LendKept, "write on-reading gate it"));
        harness.gate.reached(&mut call).await;
        harness.end_near().await;
        harness
            .until("client hears of near")
            .await_while(&mut call)
            .await;
        // `far` still writes, so `client` waits.
        assert_eq!(mapped("on"), 1);
        assert!(!harness.has_happened("client goes on"));
        harness.gate.open();
        let answer = call.await.unwrap();
        assert_eq!(answer, Err("near is gone".into()));
        harness.happened_in_order(&["client hears of near", "far is done", "client goes on"]);
        client.finish();
        drop(client);
        assert_eq!(&region.try_read(0..2).unwrap()[..], [41, 42]);
    }
}

mod poison {
    use super::*;

    fn refuses_all(region: &Region) {
        assert!(region.is_poisoned());
        assert!(is_poisoned(region.try_read(0..1)));
        assert!(is_poisoned(region.try_write(0..1)));
        assert!(is_poisoned(region.read_at(..1)));
        assert!(is_poisoned(region.write_at(0, &[1])));
        assert!(is_poisoned(region.freeze()));
        region.clear_poison().unwrap();
        assert!(region.try_read(0..1).is_ok());
        region.freeze().unwrap();
    }

    // rule 6
    #[tokio::test]
    async fn trapping_writer_poisons_the_hosts_region() {
        let host = RegionHost::new();
        let region = region(&host, "trap");
        let mut guest = Guest::bare(&host, guests::CALLS_CLIENT, "client").await;
        guest.give(&region, Rights::ALL).await;
        assert_eq!(
            guest.say(Scenario::KeptWindow).await.unwrap(),
            Ok("done".into())
        );
        assert!(!region.is_poisoned());
        assert!(guest.say(Scenario::Trap).await.is_err());
        assert!(
            is_would_block(region.try_read(0..1)),
            "until its memory goes"
        );
        drop(guest);
        refuses_all(&region);
        assert_eq!(region.try_read(0..1).unwrap()[0], 5);
    }

    // rule 6
    #[tokio::test]
    async fn dropped_store_poisons_unless_finished() {
        let host = RegionHost::new();
        for finish in [false, true] {
            let region = region(&host, "dropped");
            let mut guest = Guest::bare(&host, guests::CALLS_CLIENT, "client").await;
            guest.give(&region, Rights::ALL).await;
            assert_eq!(
                guest.say(Scenario::KeptWindow).await.unwrap(),
                Ok("done".into())
            );
            if finish {
                guest.finish();
            }
            drop(guest);
            if finish {
                assert_eq!(region.try_read(0..1).unwrap()[0], 5);
            } else {
                refuses_all(&region);
            }
        }
    }

    // rule 6
    #[test]
    fn write_guard_dropped_in_a_panic_poisons() {
        let host = RegionHost::new();
        let region = region(&host, "panic");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _reader = region.try_read(GRANULE..GRANULE + 1).unwrap();
            panic!("with a guard to read");
        }));
        assert!(panicked.is_err());
        assert!(!region.is_poisoned());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut writer = region.try_write(0..1).unwrap();
            writer[0] = 1;
            panic!("with a guard to write");
        }));
        assert!(panicked.is_err());
        refuses_all(&region);
    }

    // rule 6
    #[test]
    fn dropped_guard_does_not_poison() {
        let host = RegionHost::new();
        let region = region(&host, "order");
        drop(region.try_write(0..1).unwrap());
        assert!(!region.is_poisoned());
    }
}

/// Calls that do not return while the guest has a write window on a lent region.
mod half_written {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Poll;

    use super::*;

    /// Checks that the lend has ended and that the region is poisoned.
    #[track_caller]
    fn assert_half_written(region: &Region) {
        assert_eq!(mapped(region.name()), 0);
        assert!(is_poisoned(region.try_read(0..1)));
        region.clear_poison().unwrap();
        assert_eq!(region.try_read(0..1).unwrap()[0], 41);
    }

    // rule 6
    #[tokio::test]
    async fn trapping_call_poisons() {
        let host = RegionHost::new();
        let region = region(&host, "half: trap");
        let gate = Gate::new();
        let mut near = Guest::near(&host, &gate).await;
        let lent = near.lend(&region, Rights::ALL).unwrap();
        let returned = near.with_lent(&lent, "writing trap").await;
        lent.end(&mut near.store, returned).unwrap_err();
        assert!(is_poisoned(region.try_read(0..1)));
        assert_eq!(mapped("half: trap"), 0);
    }

    // rule 6
    #[tokio::test]
    async fn cancelled_call_poisons() {
        let host = RegionHost::new();
        let region = region(&host, "half: cancelled");
        let gate = Gate::new();
        let mut near = Guest::near(&host, &gate).await;
        let lent = near.lend(&region, Rights::ALL).unwrap();
        let mut call = near.with_lent(&lent, "gate it");
        gate.reached(&mut call).await;
        // The call is cancelled, as at a deadline.
        drop(call);
        let returned: wasmtime::Result<()> = Err(wasmtime::Error::msg("its time is up"));
        lent.end(&mut near.store, returned).unwrap_err();
        assert_half_written(&region);
    }

    // rule 6
    #[tokio::test]
    async fn panicking_call_poisons() {
        let host = RegionHost::new();
        let region = region(&host, "half: panic");
        let gate = Gate::new();
        let mut near = Guest::near(&host, &gate).await;
        let lent = near.lend(&region, Rights::ALL).unwrap();
        gate.destroy();
        let mut call = near.with_lent(&lent, "gate it");
        let returned = std::future::poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
            polled.unwrap_or_else(|_| Poll::Ready(Err(wasmtime::Error::msg("it panicked"))))
        });
        let returned = returned.await;
        drop(call);
        lent.end(&mut near.store, returned).unwrap_err();
        assert_half_written(&region);
    }
}

mod synchronous {
    use super::*;

    // rule 5
    #[test]
    fn synchronous_stores_lend_and_move() {
        let host = RegionHost::new();
        let region = region(&host, "sync");
        let mut pair = crate::embed_harness::sync::Pair::new(&host);
        pair.give(&region);
        assert_eq!(
            pair.say(with(Scenario::LendKept, "write writing return")),
            Ok("3 0".into())
        );
        // The kept window is hidden during the call and mapped after it.
        assert_eq!(pair.mapped_during_calls(), [0]);
        assert_eq!(mapped("sync"), 1);
        assert!(is_would_block(region.try_read(0..1)));
        pair.finish();
        drop(pair);
        assert_eq!(region.try_read(0..1).unwrap()[0], 3);
    }

    // rule 5
    #[test]
    fn trapped_borrower_is_dropped_before_the_return() {
        let host = RegionHost::new();
        let region = region(&host, "sync trap");
        let mut pair = crate::embed_harness::sync::Pair::new(&host);
        pair.give(&region);
        assert_eq!(
            pair.say(with(Scenario::LendKept, "write writing trap")),
            Err("near is gone".into())
        );
        assert_eq!(mapped("sync trap"), 1);
        assert!(region.is_poisoned());
        assert_eq!(
            pair.say(with(Scenario::Kept, "outcomes")).as_deref(),
            Ok("poisoned poisoned poisoned poisoned poisoned")
        );
    }
}
