//! Guests in parallel strands wait for windows on one region.

use tombolo::Rights;
use tombolo::app::{App, Backoff, End, GuestSpec, Restart, ScopeSpec};

tombolo_tests::guests!(waits);

fn node(name: &str, arguments: &[&str]) -> GuestSpec {
    GuestSpec {
        inherit_stdio: true,
        args: arguments.iter().map(|it| (*it).to_owned()).collect(),
        ..GuestSpec::new(name, std::fs::read(guests::WAITS_NODE).unwrap())
    }
}

#[test]
fn writer_gets_its_turn_however_many_read_or_die() {
    let member = |name: &str| (name.to_owned(), Rights::READ | Rights::WRITE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let dying = GuestSpec {
        restart: Restart::OnFailure(Backoff {
            max_restarts: 2,
            ..Backoff::default()
        }),
        ..node("dying", &["subscribe-and-die"])
    };
    let app = App::builder()
        .guest(node("writer", &["publish-and-write", "200"]))
        .guest(node("one", &["read-always"]))
        .guest(node("other", &["read-always"]))
        .guest(dying)
        .scope(ScopeSpec {
            name: "s".into(),
            members: vec![
                ("writer".into(), Rights::ALL),
                member("one"),
                member("other"),
                member("dying"),
            ],
        });
    let outcome = runtime.block_on(async {
        let app = app.start().await.unwrap();
        let handle = app.handle();
        let running = tokio::spawn(app.run());
        handle.gone("writer").await.unwrap();
        // It may wait for a name that comes no more.
        while !running.is_finished() {
            handle.end_guest("dying", "enough").unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        running.await.unwrap()
    });
    assert_eq!(outcome.end, End::Exit(0), "{:?}", outcome.failures);
    let others = outcome.report.guests[..3].iter();
    for guest in others {
        assert_eq!(guest.end, "exit 0", "{:?}", outcome.failures);
    }
}
