//! Runs apps to their end, and checks what must hold then.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tombolo::RegionHost;
use tombolo_app::internal::{AppBuilderInternals as _, SharedCode};
use tombolo_app::{App, AppBuilder, AppHandle, CommandExit, Concurrency, Outcome};

use crate::store::concurrency;

/// An environment variable. If it is set, all calls between guests pass dynamic values.
pub const DYNAMIC_CALLS: &str = "TOMBOLO_TEST_DYNAMIC_CALLS";

/// The code of all apps of a test program. Most of the time of a test would be spent in the
/// compiler otherwise.
static CODE: LazyLock<SharedCode> = LazyLock::new(SharedCode::default);

/// How long an app may run.
const PATIENCE: Duration = Duration::from_secs(120);

/// Creates a runtime with one thread, on which all strands take turns.
pub fn one_thread() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be created")
}

/// Creates a runtime with several threads, on which strands run in parallel.
pub fn threads(count: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(count).enable_all().build();
    runtime.expect("a runtime can be created")
}

/// Returns an app without guests, for tests that start it themselves, with the settings that
/// environment variables ask for.
pub fn builder() -> AppBuilder {
    configured(App::builder())
}

fn configured(app: AppBuilder) -> AppBuilder {
    let app = match std::env::var_os(DYNAMIC_CALLS) {
        Some(_) => app.dynamic_calls(),
        None => app,
    };
    match concurrency() {
        true => app.concurrency(Concurrency::On),
        false => app,
    }
}

/// Runs an app to its end, with strands in parallel.
///
/// # Panics
///
/// Panics if the app does not start or does not end in time, or if its regions were not
/// all freed.
#[track_caller]
pub fn run(app: AppBuilder) -> Outcome {
    run_on(&threads(3), app, async |_, _| {})
}

/// Runs an app to its end on one thread, and `act` beside it.
///
/// # Panics
///
/// Panics as [`run`] does.
#[track_caller]
pub fn run_while(app: AppBuilder, act: impl AsyncFnOnce(&AppHandle, &RegionHost)) -> Outcome {
    run_on(&one_thread(), app, act)
}

/// Runs an app to its end on a runtime, and `act` beside it.
///
/// # Panics
///
/// Panics as [`run`] does.
#[track_caller]
pub fn run_on(
    runtime: &Runtime,
    app: AppBuilder,
    act: impl AsyncFnOnce(&AppHandle, &RegionHost),
) -> Outcome {
    let app = configured(app).share_code(&CODE);
    let outcome = runtime.block_on(async {
        let app = app.start().await.expect("the app starts");
        let (handle, host) = (app.handle(), app.host().clone());
        let both = async { tokio::join!(app.run(), act(&handle, &host)).0 };
        let both = tokio::time::timeout(PATIENCE, both);
        both.await.expect("the app ends in time")
    });
    let report = &outcome.report;
    assert_eq!(report.regions_created, report.regions_freed, "{report:?}");
    outcome
}

/// Runs an app, which must end as `end` says.
///
/// # Panics
///
/// Panics as [`run`] does, or if the app ends otherwise.
#[track_caller]
pub fn ends(app: AppBuilder, end: CommandExit) -> Outcome {
    let outcome = run(app);
    assert_eq!(outcome.end, end, "{:?}", outcome.failures);
    outcome
}

/// Runs an app whose command and guests must all succeed.
///
/// # Panics
///
/// Panics as [`run`] does, or if a guest fails.
#[track_caller]
pub fn succeeds(app: AppBuilder) -> Outcome {
    let outcome = run(app);
    assert_eq!(outcome.failures, [""; 0]);
    assert_eq!(outcome.end, CommandExit::Exit(0));
    outcome
}

/// Runs an app whose command must succeed while exactly the guests named by `failed`
/// fail, in this order.
///
/// # Panics
///
/// Panics as [`run`] does, or if other guests fail.
#[track_caller]
pub fn succeeds_despite(app: AppBuilder, failed: &[&str]) -> Outcome {
    let outcome = ends(app, CommandExit::Exit(0));
    assert_eq!(
        outcome.failures.len(),
        failed.len(),
        "{:?}",
        outcome.failures
    );
    for (failure, guest) in outcome.failures.iter().zip(failed) {
        let start = format!("guest `{guest}` ");
        assert!(failure.starts_with(&start), "{failure}");
    }
    outcome
}

/// Returns how a guest ended, in the words of the report.
///
/// # Panics
///
/// Panics if the report has no such guest.
#[track_caller]
pub fn guest_end(outcome: &Outcome, guest: &str) -> String {
    let mut guests = outcome.report.guests.iter();
    let guest = guests.find(|it| it.name == guest);
    guest.expect("the report has the guest").end.to_string()
}

/// Lets guests of the same runtime run until a condition holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

/// Lets guests run until they have created `count` windows since the start.
pub async fn windows(host: &RegionHost, count: u64) {
    until(|| host.counts().windows >= count).await;
}
