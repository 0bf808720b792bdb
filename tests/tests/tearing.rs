//! No string or list that the host lifts is torn.
//!
//! Two guests run in different strands, with every combination of accesses. One writes a
//! region while the other passes strings and lists over the same bytes to the host. The host
//! never lifts an invalid string, a torn value or a wrong byte.
//!
//! The same two guests run in one strand, with live windows too. There the reader may take
//! its turn in the middle of a write. The lifted bytes are then those of one moment: a prefix
//! is new and the rest is old.

use tombolo::Rights;
use tombolo_app::{ChannelSpec, CommandExit, GuestSpec, ScopeSpec};

use tombolo_test_util::run::{builder, threads};

use scenarios::TearingPart;

tombolo_tests::guests!(tearing);
tombolo_tests::scenarios!(tearing);

/// The number of values to lift for each combination, unless `TOMBOLO_TEARING_LIFTS` sets it.
const LIFTS: u64 = 200_000;

fn node(name: &str, part: TearingPart, rest: &[&str], strand: Option<&str>) -> GuestSpec {
    let rest = rest.iter().map(|it| (*it).to_owned());
    GuestSpec {
        inherit_stdio: true,
        strand: strand.map(str::to_owned),
        args: [part.to_string()].into_iter().chain(rest).collect(),
        ..GuestSpec::new(name, std::fs::read(guests::TEARING_NODE).unwrap())
    }
}

// rule 2
#[test]
fn nothing_tears_between_strands() {
    run(
        "apart",
        &["read", "write", "copy"],
        &["write", "copy"],
        LIFTS,
    );
}

// rule 2
#[test]
fn nothing_tears_within_a_strand() {
    let (lifts, live) = (LIFTS / 10, ["live-read", "live-write"]);
    run("live", &live, &["live-write"], lifts);
    run("turns", &live, &["write", "copy"], lifts);
    run("turns", &["read", "write", "copy"], &["live-write"], lifts);
}

fn run(how: &str, reads: &[&str], writes: &[&str], lifts: u64) {
    let strand = (how != "apart").then_some("one");
    let asked = std::env::var("TOMBOLO_TEARING_LIFTS").ok();
    let lifts = asked.map_or(lifts, |it| it.parse().unwrap()).to_string();
    for reads in reads {
        for writes in writes {
            let app = builder()
                .guest(node(
                    "reader",
                    TearingPart::Read,
                    &[reads, &lifts, how],
                    strand,
                ))
                .guest(node("writer", TearingPart::Write, &[writes], strand))
                .channel(ChannelSpec {
                    name: "echo".into(),
                    from: vec!["reader".into()],
                    to: "reader".into(),
                    capacity: 1,
                    message_bytes: 4096,
                    message_regions: 4,
                })
                .scope(ScopeSpec {
                    name: "s".into(),
                    members: vec![
                        ("reader".into(), Rights::ALL),
                        ("writer".into(), Rights::READ | Rights::WRITE),
                    ],
                });
            let outcome = threads(2).block_on(async { app.start().await.unwrap().run().await });
            assert_eq!(outcome.failures, [""; 0], "{reads} against {writes}");
            assert_eq!(
                outcome.end,
                CommandExit::Exit(0),
                "{reads} against {writes}"
            );
        }
    }
}
