//! The guests that tests run.
//!
//! This package's build script builds the guests, so that `cargo test` alone builds and
//! tests everything. Each guest is a file `guests/src/bin/<name>.rs` and a WASI command. A
//! guest that exports other interfaces has an empty `main` and calls `export!`.
//!
//! A guest belongs to the test program that its name starts with: the file or folder
//! `<program>` in `tests/tests`, `tests/benches` or `host/cli/tests` has the guests
//! `<program>_<purpose>`. Those of `tests/util` are `util_<purpose>`. The program declares
//! its guests with [`guests!`]; a guest that it then does not name is a compile error. Other
//! programs may use the guest too, by [`artifacts`].
//!
//! ```text
//! tests/guests/src/bin/artifacts_command.rs     the guest
//! tests/tests/artifacts.rs                      its test program:
//!     tombolo_tests::guests!(artifacts);
//!     … guests::ARTIFACTS_COMMAND …
//! ```

/// The paths of all guests' component files, including those of the examples.
pub mod artifacts {
    include!(concat!(env!("OUT_DIR"), "/artifacts.rs"));
}

include!(concat!(env!("OUT_DIR"), "/guests.rs"));
include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

/// Turns a command into a guest that only serves.
///
/// The tests' guests are programs, which all export `wasi:cli/run`. Under another name,
/// Tombolo does not start that export.
#[must_use]
pub fn server(wasm: &[u8]) -> Vec<u8> {
    let mut wasm = wasm.to_vec();
    let (run, other) = (b"wasi:cli/run@", b"wasi:cli/nur@");
    let mut at = 0;
    while let Some(next) = wasm[at..].windows(run.len()).position(|it| it == run) {
        at += next;
        wasm[at..at + run.len()].copy_from_slice(other);
    }
    wasm
}
