//! An app of three guests: `client` plays a scenario and calls `near`, which calls `far`.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tombolo_app::{AppBuilder, CommandSpec, GuestSpec};
use tombolo_tests::artifacts;

use crate::run::builder;

/// An environment variable. If it is set, guests share one strand.
pub const SHARE_STRAND: &str = "TOMBOLO_TEST_SHARE_STRAND";

/// Whether guests share one strand.
static SHARES_STRAND: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var_os(SHARE_STRAND).is_some()));

/// Sets whether guests that are created from now on share one strand. By default each has a
/// strand of its own.
pub fn share_strand(shares: bool) {
    SHARES_STRAND.store(shares, Ordering::Relaxed);
}

/// Returns a guest that runs the program at `path`.
pub fn program(name: &str, path: impl AsRef<Path>) -> GuestSpec {
    let wasm = std::fs::read(path).expect("the build script built the guest");
    GuestSpec {
        strand: SHARES_STRAND.load(Ordering::Relaxed).then(|| "one".into()),
        inherit_stdio: true,
        ..GuestSpec::new(name, wasm)
    }
}

/// Returns a guest that only serves calls.
pub fn server(name: &str, path: impl AsRef<Path>) -> GuestSpec {
    let mut guest = program(name, path);
    guest.wasm = tombolo_tests::server(&guest.wasm).into();
    guest
}

/// Returns the guest that plays the scenario. It calls `near` by functions of scalars where it can.
pub fn client() -> GuestSpec {
    let mut client = program("client", artifacts::CALLS_CLIENT);
    client.env.push(("SHORT_CALLS".into(), "1".into()));
    client
}

/// Returns the guest that `client` calls.
pub fn near() -> GuestSpec {
    server("near", artifacts::CALLS_NEAR)
}

/// Returns the guest that `near` calls.
pub fn far() -> GuestSpec {
    server("far", artifacts::CALLS_FAR)
}

/// Returns an app of the three guests, which plays a scenario.
pub fn app(scenario: impl Display) -> AppBuilder {
    let command = CommandSpec {
        args: vec![scenario.to_string()],
        ..CommandSpec::default()
    };
    builder()
        .command(command)
        .guest(client())
        .guest(near())
        .guest(far())
}

/// Adds arguments to a scenario.
pub fn with(scenario: impl Display, arguments: impl Display) -> String {
    format!("{scenario} {arguments}")
}

/// Writes the three guests to files in `directory`, for the program `tombolo`.
pub fn write(directory: &Path) -> [PathBuf; 3] {
    [client(), near(), far()].map(|guest| {
        let path = directory.join(format!("{}.wasm", guest.name));
        std::fs::write(&path, guest.wasm).expect("the directory is writable");
        path
    })
}
