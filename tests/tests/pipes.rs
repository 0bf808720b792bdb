//! Apps of guests in parallel strands: channels, scopes, restarts and the end of the app.

use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tombolo::{Limits, Rights};
use tombolo_app::{
    AppBuilder, Backoff, ChannelSpec, CommandExit, Grant, GuestEnd, GuestSpec, Outcome, Restart,
    ScopeSpec,
};

use tombolo_test_util::run::{builder, run, succeeds, threads};
use tombolo_test_util::three_guests::with;

use scenarios::PipesPart;

tombolo_tests::guests!(pipes);
tombolo_tests::scenarios!(pipes);

/// Returns a guest that plays a part.
fn node(name: &str, part: impl Display) -> GuestSpec {
    GuestSpec {
        inherit_stdio: true,
        args: part.to_string().split(' ').map(str::to_owned).collect(),
        ..GuestSpec::new(name, std::fs::read(guests::PIPES_NODE).unwrap())
    }
}

/// Returns a guest with a directory for its results.
fn writer(name: &str, part: impl Display, out: &Path) -> GuestSpec {
    GuestSpec {
        dirs: vec![Grant {
            dir: Dir::open_ambient_dir(out, ambient_authority()).unwrap(),
            host_path: out.to_owned(),
            guest_path: "/out".into(),
            read_only: false,
        }],
        ..node(name, part)
    }
}

fn channel(name: &str, from: &[&str], to: &str, capacity: u32) -> ChannelSpec {
    ChannelSpec {
        name: name.into(),
        from: from.iter().map(|name| (*name).to_owned()).collect(),
        to: to.into(),
        capacity,
        message_bytes: 64,
        message_regions: 4,
    }
}

fn often() -> Restart {
    Restart::OnFailure(Backoff {
        delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(4),
        max_restarts: 3,
        healthy_after: Duration::from_secs(60),
    })
}

/// Returns a ring of four guests: frames pass two stages, and the regions come back.
fn ring(frames: u32, second: GuestSpec, out: &Path) -> AppBuilder {
    builder()
        .guest(node("source", with(PipesPart::Produce, frames)))
        .guest(node("first", with(PipesPart::Add, "frames more")))
        .guest(second)
        .guest(writer("sink", with(PipesPart::Consume, "done 2"), out))
        .channel(channel("frames", &["source"], "first", 2))
        .channel(channel("more", &["first"], "second", 2))
        .channel(channel("done", &["second"], "sink", 2))
        .channel(channel("back", &["sink"], "source", 4))
}

// rule 5
#[test]
fn regions_move_around_a_ring_of_strands() {
    let out = tempfile::tempdir().unwrap();
    let outcome = succeeds(ring(
        200,
        node("second", with(PipesPart::Add, "more done")),
        out.path(),
    ));
    let came = std::fs::read_to_string(out.path().join("came")).unwrap();
    assert_eq!(came, format!("{:?}", (0..200).collect::<Vec<_>>()));
    assert_eq!(outcome.report.regions_created, 3);
    let frames = &outcome.report.channels[0];
    assert_eq!(
        (&*frames.name, frames.sent, frames.received),
        ("frames", 200, 200)
    );
}

// rule 9
#[test]
fn crashing_stage_loses_one_frame() {
    let out = tempfile::tempdir().unwrap();
    let second = GuestSpec {
        restart: often(),
        ..node("second", with(PipesPart::AddBut, "7 more done"))
    };
    let outcome = succeeds(ring(50, second, out.path()));
    let came = std::fs::read_to_string(out.path().join("came")).unwrap();
    let all_but_one: Vec<u32> = (0..50).filter(|frame| *frame != 7).collect();
    assert_eq!(came, format!("{all_but_one:?}"));
    // The region that was lost with the stage is replaced.
    assert_eq!(outcome.report.regions_created, 4);
    let second = &outcome.report.guests[2];
    assert_eq!(second.restarts.len(), 1);
    assert!(
        second.restarts[0].failure.contains("unreachable"),
        "{second:?}"
    );
}

#[test]
fn messages_of_a_sender_arrive_in_order() {
    let out = tempfile::tempdir().unwrap();
    succeeds(
        builder()
            .guest(writer("ear", with(PipesPart::Hear, "talk"), out.path()))
            .guest(node("a", with(PipesPart::Say, "talk 100")))
            .guest(node("b", with(PipesPart::Say, "talk 50")))
            .channel(channel("talk", &["a", "b"], "ear", 3)),
    );
    let heard = std::fs::read_to_string(out.path().join("heard")).unwrap();
    assert_eq!(heard, r#"{"a": 100, "b": 50}"#);
}

/// The queue of a receiver that ends is dropped, and senders get an error.
// rule 6
#[test]
fn channel_closes_when_its_receiver_ends() {
    for (how, failures) in [("drop", 0), ("return", 0), ("trap", 1)] {
        let outcome = run(builder()
            .guest(node("sender", with(PipesPart::SendUntilClosed, "c")))
            .guest(node(
                "receiver",
                with(PipesPart::ReceiveOne, format!("c {how}")),
            ))
            .channel(channel("c", &["sender"], "receiver", 2)));
        assert_eq!(
            outcome.failures.len(),
            failures,
            "{how}: {:?}",
            outcome.failures
        );
        assert_eq!(outcome.end, CommandExit::Exit(0), "{how}");
        let dropped = outcome.report.channels[0].dropped;
        assert!(dropped > 0, "{how}");
    }
}

#[test]
fn channel_without_senders_is_closed() {
    let out = tempfile::tempdir().unwrap();
    let outcome = run(builder()
        .guest(writer("ear", with(PipesPart::Hear, "talk"), out.path()))
        .guest(node("mute", PipesPart::Fail))
        .channel(channel("talk", &["mute"], "ear", 3)));
    assert_eq!(outcome.end, CommandExit::Exit(0));
    assert_eq!(outcome.failures.len(), 1);
}

// rule 5
#[test]
fn refused_send_returns_the_handle_and_its_windows() {
    let wasm = std::fs::read(guests::PIPES_RAW).unwrap();
    succeeds(
        builder()
            .guest(GuestSpec {
                inherit_stdio: true,
                ..GuestSpec::new("raw", wasm)
            })
            .channel(channel("c", &["raw"], "raw", 1)),
    );
}

// rule 8
#[test]
fn queued_regions_are_on_the_senders_account() {
    let mut limits = Limits::default();
    limits.regions = 3;
    let sender = GuestSpec {
        limits: Some(limits),
        ..node("sender", with(PipesPart::FillUp, "c 2"))
    };
    succeeds(
        builder()
            .guest(sender)
            .guest(node("receiver", with(PipesPart::HoldThenReceive, "c")))
            .channel(channel("c", &["sender"], "receiver", 2))
            .channel(channel("go", &["receiver"], "sender", 1)),
    );
}

fn scope() -> ScopeSpec {
    ScopeSpec {
        name: "s".into(),
        members: vec![
            ("publisher".into(), Rights::ALL),
            ("reader".into(), Rights::READ),
        ],
    }
}

// rule 1
#[test]
fn members_find_names_with_their_rights() {
    for (how, failures) in [("withdraw", 0), ("die", 1)] {
        let outcome = run(builder()
            .guest(node("reader", with(PipesPart::Open, "Rights(READ)")))
            .guest(node("publisher", with(PipesPart::Publish, how)))
            .guest(node("outsider", PipesPart::Ungranted))
            .scope(scope())
            .channel(channel("c", &["publisher"], "reader", 1))
            .channel(channel("done", &["reader"], "publisher", 1)));
        assert_eq!(
            outcome.end,
            CommandExit::Exit(0),
            "{how}: {:?}",
            outcome.failures
        );
        assert_eq!(
            outcome.failures.len(),
            failures,
            "{how}: {:?}",
            outcome.failures
        );
    }
}

#[test]
fn failing_guest_restarts_until_it_succeeds() {
    let out = tempfile::tempdir().unwrap();
    let outcome = succeeds(builder().guest(GuestSpec {
        restart: often(),
        ..writer("a", with(PipesPart::FailUntil, "tries 3"), out.path())
    }));
    assert_eq!(std::fs::read(out.path().join("tries")).unwrap(), b"....");
    let restarts = &outcome.report.guests[0].restarts;
    let delays: Vec<_> = restarts.iter().map(|it| it.delay.as_millis()).collect();
    assert_eq!(delays, [1, 2, 4]);
    assert!(
        restarts[1].failure.ends_with("exited with code 1"),
        "{restarts:?}"
    );
}

#[test]
fn always_failing_guest_is_given_up() {
    let out = tempfile::tempdir().unwrap();
    let outcome = run(builder().guest(GuestSpec {
        restart: often(),
        ..writer("a", with(PipesPart::FailUntil, "tries 9"), out.path())
    }));
    assert_eq!(std::fs::read(out.path().join("tries")).unwrap(), b"....");
    assert_eq!(outcome.end, CommandExit::Exit(1));
    assert_eq!(outcome.report.guests[0].restarts.len(), 3);
}

/// A guest ends at its run time, and another one by the operator.
#[test]
fn terminated_guest_restarts() {
    let restart = Restart::OnFailure(Backoff {
        max_restarts: 1,
        delay: Duration::from_millis(1),
        ..Backoff::default()
    });
    let mut limits = Limits::default();
    limits.run_time = Some(Duration::from_millis(50));
    let outcome = run(builder().limits(limits).guest(GuestSpec {
        restart: restart.clone(),
        ..node("a", PipesPart::Spin)
    }));
    let restarts = &outcome.report.guests[0].restarts;
    assert!(
        restarts[0].failure.contains("its time is up"),
        "{restarts:?}"
    );

    let app = builder().guest(GuestSpec {
        restart,
        ..node("a", PipesPart::Spin)
    });
    let outcome = threads(3).block_on(async {
        let app = app.start().await.unwrap();
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        // The first call ends the first incarnation, a later one the second.
        while !running.is_finished() {
            handle.end_guest("a", "enough").unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.await.unwrap()
    });
    let guest = &outcome.report.guests[0];
    assert_eq!(guest.restarts.len(), 1);
    assert!(guest.restarts[0].failure.ends_with("enough"), "{guest:?}");
    assert_eq!(guest.end, GuestEnd::Stopped("enough".into()));
}

/// A guest may call others while it is instantiated, and wait there for a failed guest to
/// restart.
#[test]
fn guests_restart_while_others_start() {
    let component = |name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("wat").join(name).with_extension("wat");
        GuestSpec::new(name, wat::parse_file(path).unwrap())
    };
    let app = builder()
        .guest(component("caller"))
        .guest(GuestSpec {
            restart: often(),
            ..component("callee")
        })
        .guest(node("command", PipesPart::Ungranted));
    let outcome = threads(3).block_on(async {
        let started = tokio::time::timeout(Duration::from_secs(60), app.start()).await;
        started
            .expect("it would wait for ever")
            .unwrap()
            .run()
            .await
    });
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(outcome.report.guests[1].restarts_total, 2);
}

/// A guest that ends by an error drops its channel ends on the way. The queued messages stay.
// rule 6
#[test]
fn failing_stage_loses_one_message() {
    let out = tempfile::tempdir().unwrap();
    succeeds(
        builder()
            .guest(node("mouth", with(PipesPart::Say, "talk 20")))
            .guest(GuestSpec {
                restart: often(),
                ..writer("ear", with(PipesPart::HearBut, "7 talk"), out.path())
            })
            .channel(channel("talk", &["mouth"], "ear", 4)),
    );
    let heard = std::fs::read_to_string(out.path().join("heard")).unwrap();
    let heard: Vec<u32> = heard.lines().map(|line| line.parse().unwrap()).collect();
    let all_but_one: Vec<u32> = (0..20).filter(|number| *number != 7).collect();
    assert_eq!(heard, all_but_one);
}

/// `AppHandle::exited` returns even if the guest was to restart and the app is dropped
/// before that.
#[test]
fn restart_that_never_starts_ends_with_the_app() {
    let out = tempfile::tempdir().unwrap();
    let app = builder().guest(GuestSpec {
        restart: Restart::OnFailure(Backoff {
            delay: Duration::from_secs(3600),
            max_delay: Duration::from_secs(3600),
            ..Backoff::default()
        }),
        ..writer("a", with(PipesPart::FailUntil, "tries 9"), out.path())
    });
    threads(3).block_on(async {
        let app = app.start().await.unwrap();
        let handle = app.handle();
        let mut first = std::pin::pin!(handle.exited("a"));
        // The first poll refers to the first incarnation, which cannot have ended yet.
        std::future::poll_fn(|context| {
            assert!(first.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let running = tokio::spawn(app.run());
        first.await.unwrap();
        running.abort();
        let gone = handle.exited("a");
        let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
        gone.expect("nobody else will ever tell").unwrap();
    });
}

/// Runs an app that is told to stop once its first guest lingers. Returns the outcome and the
/// time that stopping took.
fn stopped(app: AppBuilder, out: &Path) -> (Outcome, Duration) {
    threads(3).block_on(async {
        let app = app.start().await.unwrap();
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        while !out.join("lingers").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let told = Instant::now();
        handle.stop();
        (running.await.unwrap(), told.elapsed())
    })
}

#[test]
fn stop_timeout_lets_guests_finish() {
    let out = tempfile::tempdir().unwrap();
    let app = builder()
        .guest(writer("a", with(PipesPart::Linger, "end"), out.path()))
        .stop_timeout(Duration::from_secs(3600));
    let (outcome, _) = stopped(app, out.path());
    assert_eq!(outcome.end, CommandExit::Exit(0));
    assert_eq!(std::fs::read(out.path().join("heard")).unwrap(), b"in time");
}

#[test]
fn guests_that_stay_end_after_the_stop_timeout() {
    let out = tempfile::tempdir().unwrap();
    let timeout = Duration::from_millis(100);
    let app = builder()
        .guest(GuestSpec {
            restart: often(),
            ..writer("a", with(PipesPart::Linger, "stay"), out.path())
        })
        .stop_timeout(timeout);
    let (outcome, took) = stopped(app, out.path());
    assert_eq!(outcome.end, CommandExit::Stopped);
    assert!(took >= timeout, "{took:?}");
    assert_eq!(
        outcome.report.guests[0].restarts,
        [],
        "not when the app ends"
    );
}
