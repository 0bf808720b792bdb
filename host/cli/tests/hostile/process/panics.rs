//! A panic of the host in the middle of a guest's call, in the embedder's logger.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tombolo_app::{App, AppBuilder, CommandExit, CommandSpec, GuestEnd, GuestSpec, Outcome};
use tombolo_tests::artifacts;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::guests;
use crate::program::innocent;

struct Panics {
    message: &'static str,
    region: &'static str,
    /// The errors that callers got for failed calls.
    told: Arc<Mutex<Vec<String>>>,
}

impl tracing::Subscriber for Panics {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut seen = Fields::default();
        event.record(&mut seen);
        if seen.message == "call refused or failed" {
            self.told.lock().unwrap().push(seen.why.clone());
        }
        assert!(
            seen.region != self.region || seen.message != self.message,
            "the log is broken"
        );
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    region: String,
    message: String,
    why: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = match field.name() {
            "region" => &mut self.region,
            "message" => &mut self.message,
            "why" => &mut self.why,
            _ => return,
        };
        write!(text, "{value:?}").unwrap();
    }
}

fn guest(name: &str, path: impl AsRef<Path>) -> GuestSpec {
    GuestSpec::new(name, std::fs::read(path).unwrap())
}

/// Runs a guest with such a region beside the innocent guest, which is the first command.
fn run(message: &'static str) -> Outcome {
    let victim = GuestSpec {
        args: vec!["keep".into(), "broken".into()],
        ..guest("victim", guests::HOSTILE_PROCESS)
    };
    let app = App::builder()
        .guest(guest("innocent", innocent()))
        .guest(victim)
        .command(CommandSpec::default());
    panicking(message, "broken", app).0
}

/// Runs an app, and also returns the errors that callers got.
fn panicking(
    message: &'static str,
    region: &'static str,
    app: AppBuilder,
) -> (Outcome, Vec<String>) {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let panics = Panics {
        message,
        region,
        told: told.clone(),
    };
    // Everything runs on this thread, for which the subscriber is set.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = tracing::subscriber::with_default(panics, || {
        runtime.block_on(async { app.start().await.unwrap().run().await })
    });
    let told = told.lock().unwrap().clone();
    (outcome, told)
}

#[test] // rules 9, 13
fn in_a_callee_fails_the_call() {
    for strand in [None, Some("one".to_owned())] {
        let guest = |name, path| GuestSpec {
            strand: strand.clone(),
            ..guest(name, path)
        };
        let server = |name, path| {
            let mut server = guest(name, path);
            server.wasm = tombolo_tests::server(&server.wasm).into();
            server
        };
        let script = CommandSpec {
            args: vec!["make size 65536".into()],
            ..CommandSpec::default()
        };
        let app = App::builder()
            .guest(guest("client", artifacts::CALLS_CLIENT))
            .guest(server("near", artifacts::CALLS_NEAR))
            .guest(server("far", artifacts::CALLS_FAR))
            .command(script);
        let (outcome, told) = panicking("region created", "made", app);
        let bug = "guest `near` was ended in `test:calls/near.make`: the host panicked, which \
                   is a bug in the host";
        assert_eq!(told, [format!("{bug:?}")], "{outcome:?}");
        assert!(
            outcome
                .failures
                .contains(&format!("{bug}: the log is broken")),
            "{outcome:?}"
        );
        assert_eq!(
            outcome.report.guests[2].end,
            GuestEnd::Served,
            "{outcome:?}"
        );
    }
}

#[test] // rule 9
fn in_a_call_ends_only_its_guest() {
    let outcome = run("region created");
    assert_eq!(outcome.end, CommandExit::Exit(0), "{outcome:?}");
    assert_eq!(
        outcome.failures,
        [
            "guest `victim` was ended in `wasi:cli/run`: the host panicked, which is a bug in \
             the host: the log is broken"
        ]
    );
    assert_eq!(outcome.report.guests[1].end, GuestEnd::Failed);
    // The region exists, and is freed with the store.
    let report = outcome.report;
    assert_eq!(report.regions_created, report.regions_freed + 1);
}

#[test] // rule 9
fn at_the_end_of_a_guest_ends_only_that_guest() {
    let outcome = run("region freed");
    assert_eq!(outcome.end, CommandExit::Exit(0), "{outcome:?}");
    assert_eq!(
        outcome.failures,
        [
            "guest `victim` was ended: the host panicked, which is a bug in the host: the log is broken"
        ]
    );
}
