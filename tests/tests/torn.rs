//! Two guests in different strands, one of which writes a region while the other
//! passes strings and lists out of the same bytes to the host, with every
//! combination of accesses: never an invalid string, a torn value or a wrong byte.

use tombolo::Rights;
use tombolo::app::{App, ChannelSpec, End, GuestSpec, ScopeSpec};

tombolo_tests::guests!(torn);

/// How many values are lifted for each combination.
/// `TOMBOLO_TORN_LIFTS` says otherwise.
const LIFTS: u64 = 200_000;

fn node(name: &str, arguments: &[&str]) -> GuestSpec {
    GuestSpec {
        inherit_stdio: true,
        args: arguments.iter().map(|it| (*it).to_owned()).collect(),
        ..GuestSpec::new(name, std::fs::read(guests::TORN_NODE).unwrap())
    }
}

#[test]
fn nothing_is_torn_between_strands() {
    let lifts = std::env::var("TOMBOLO_TORN_LIFTS").ok();
    let lifts = lifts.map_or(LIFTS, |it| it.parse().unwrap()).to_string();
    for reads in ["read", "write", "copy"] {
        for writes in ["write", "copy"] {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let app = App::builder()
                .guest(node("reader", &["read", reads, &lifts]))
                .guest(node("writer", &["write", writes]))
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
            let outcome = runtime.block_on(async { app.start().await.unwrap().run().await });
            assert_eq!(outcome.failures, [""; 0], "{reads} against {writes}");
            assert_eq!(outcome.end, End::Exit(0), "{reads} against {writes}");
        }
    }
}
