//! Guests wait for windows, in parallel strands, and so does an embedder.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tombolo::{GRANULE, Region, RegionError, RegionHost, Rights};
use tombolo_app::{App, ChannelSpec, CommandExit, GuestSpec, ScopeSpec};

use tombolo_test_util::run::{run, threads};

use scenarios::WaitsPart;

tombolo_tests::guests!(waits);
tombolo_tests::scenarios!(waits);

fn node(name: &str, part: impl Display) -> GuestSpec {
    GuestSpec {
        inherit_stdio: true,
        args: vec![part.to_string()],
        ..GuestSpec::new(name, std::fs::read(guests::WAITS_NODE).unwrap())
    }
}

fn scope(members: &[&str]) -> ScopeSpec {
    ScopeSpec {
        name: "s".into(),
        members: members
            .iter()
            .map(|name| ((*name).to_owned(), Rights::ALL))
            .collect(),
    }
}

// rule 11
#[test]
fn overlapping_readers_do_not_starve_a_writer() {
    let outcome = run(App::builder()
        .guest(node("writer", WaitsPart::Write))
        .guest(node("one", WaitsPart::Read))
        .guest(node("two", WaitsPart::Read))
        .scope(scope(&["writer", "one", "two"])));
    assert_eq!(outcome.failures, [""; 0]);
    assert_eq!(outcome.end, CommandExit::Exit(0));
}

// rule 11
#[test]
fn dead_waiter_blocks_no_other() {
    let outcome = run(App::builder()
        .guest(node("writer", WaitsPart::WriteAfter))
        .guest(node("one", WaitsPart::Read))
        .guest(node("mortal", WaitsPart::Die))
        .scope(scope(&["writer", "one", "mortal"]))
        .channel(ChannelSpec {
            name: "signs".into(),
            from: vec!["mortal".into()],
            to: "writer".into(),
            capacity: 1,
            message_bytes: 1,
            message_regions: 0,
        }));
    let [failure] = &outcome.failures[..] else {
        panic!("{:?}", outcome.failures)
    };
    assert!(failure.contains("mortal"), "{failure}");
}

// rule 11
#[test]
fn reservations_lapse_and_can_be_dropped() {
    let outcome = run(App::builder().guest(node("alone", WaitsPart::Alone)));
    assert_eq!(outcome.failures, [""; 0]);
}

// rule 11
#[test]
fn wait_for_own_window_is_refused() {
    let outcome = run(App::builder().guest(node("alone", WaitsPart::OwnWindow)));
    assert_eq!(outcome.failures, [""; 0]);
}

// rule 11
#[test]
fn send_to_own_full_channel_is_refused() {
    let outcome = run(App::builder()
        .guest(node("alone", WaitsPart::OwnChannel))
        .channel(ChannelSpec {
            name: "loop".into(),
            from: vec!["alone".into()],
            to: "alone".into(),
            capacity: 1,
            message_bytes: 1,
            message_regions: 1,
        }));
    assert_eq!(outcome.failures, [""; 0]);
}

// rule 11
#[test]
fn embedder_waits_in_the_same_queue() {
    threads(3).block_on(async {
        let host = RegionHost::new();
        let region = host.create("shared", GRANULE).unwrap();
        let claim = |region: &Region| region.duplicate(Rights::ALL).unwrap();
        let held = region.try_read(0..1).unwrap();
        let writer = claim(&region);
        let writes = tokio::spawn(async move {
            writer.write(0..1).await.unwrap()[0] = 7;
        });
        // A refused read shows that the writer waits.
        while region.try_read(0..1).is_ok() {
            tokio::task::yield_now().await;
        }
        drop(held);
        let read = tokio::time::timeout(Duration::from_secs(20), region.read(0..1));
        assert_eq!(read.await.unwrap().unwrap()[0], 7, "it comes after");
        writes.await.unwrap();

        // A wait can be dropped, and an empty range does not wait.
        let held = region.try_read(0..1).unwrap();
        let writer = claim(&region);
        let given_up = tokio::time::timeout(Duration::from_millis(5), writer.write(0..1));
        assert!(given_up.await.is_err());
        drop(region.try_read(0..1).unwrap());
        writer.write(0..0).await.unwrap();
        let waits = writer.write(0..1);
        let freeze = async { region.freeze().unwrap() };
        let (waits, ()) = tokio::join!(waits, freeze);
        assert!(matches!(waits, Err(RegionError::Frozen)), "{waits:?}");
        drop(held);
    });
}

/// With many claims on many threads, each waiter is woken, or the test does not end.
// rule 11
#[test]
fn no_waiter_misses_its_turn() {
    let runtime = threads(3);
    let host = RegionHost::new();
    let region = host.create("counter", 2 * GRANULE).unwrap();
    let region = Arc::new(region);
    const TASKS: u64 = 6;
    const ROUNDS: u64 = 200;
    let all = (0..TASKS).map(|task| {
        let claim = region.duplicate(Rights::ALL).unwrap();
        runtime.spawn(async move {
            for round in 0..ROUNDS {
                if (task + round).is_multiple_of(3) {
                    drop(claim.read(0..2 * GRANULE).await.unwrap());
                }
                let mut guard = claim.write(0..8).await.unwrap();
                let count = u64::from_le_bytes(guard[..].try_into().unwrap());
                guard.copy_from_slice(&(count + 1).to_le_bytes());
                if round.is_multiple_of(5) {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    let all = all.collect::<Vec<_>>();
    runtime.block_on(async {
        for one in all {
            let ended = tokio::time::timeout(Duration::from_secs(60), one).await;
            ended.expect("it is woken").unwrap();
        }
    });
    let count = region.read_at(..8).unwrap();
    assert_eq!(count, (TASKS * ROUNDS).to_le_bytes());
}
