//! An app of three guests: `client`, which plays a scenario, calls `near`, which
//! calls `far`.
#![allow(dead_code)] // Each test program uses a part.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tombolo_app::{App, AppBuilder, CommandSpec, GuestSpec, Outcome};
use tombolo_tests::artifacts;

/// Whether guests share a strand, where a test says nothing else: at first in the test
/// program `together` alone.
pub(crate) static TOGETHER: AtomicBool =
    AtomicBool::new(matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"together"));

/// A guest that runs.
pub(crate) fn program(name: &str, path: impl AsRef<Path>) -> GuestSpec {
    GuestSpec {
        name: name.into(),
        wasm: std::fs::read(path)
            .expect("the build script built it")
            .into(),
        strand: TOGETHER.load(Ordering::Relaxed).then(|| "one".into()),
        inherit_stdio: true,
        ..GuestSpec::default()
    }
}

/// A guest that only serves.
pub(crate) fn server(name: &str, path: impl AsRef<Path>) -> GuestSpec {
    let mut guest = program(name, path);
    guest.wasm = tombolo_tests::server(&guest.wasm).into();
    guest
}

pub(crate) fn client() -> GuestSpec {
    program("client", artifacts::CALLS_CLIENT)
}

pub(crate) fn near() -> GuestSpec {
    server("near", artifacts::CALLS_NEAR)
}

pub(crate) fn far() -> GuestSpec {
    server("far", artifacts::CALLS_FAR)
}

/// The three guests, of which the first plays the scenario.
pub(crate) fn app(script: &str) -> AppBuilder {
    let command = CommandSpec {
        args: vec![script.into()],
        ..CommandSpec::default()
    };
    App::builder()
        .command(command)
        .guest(client())
        .guest(near())
        .guest(far())
}

/// A runtime with one thread, on which guests are one strand.
pub(crate) fn strand() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there is a runtime")
}

/// A runtime with several threads, on which strands run in parallel.
pub(crate) fn parallel() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .expect("there is a runtime")
}

/// Runs an app to its end, its strands in parallel.
pub(crate) fn run(app: AppBuilder) -> Outcome {
    parallel().block_on(async { app.start().await.expect("it starts").run().await })
}
