//! What the tests share: the guests, and a look at the process from outside.
//!
//! Guests are built by this package's build script, so that `cargo test` alone
//! builds and tests everything. Each is a file `guests/src/bin/<name>.rs`, a
//! WASI command; one that exports interfaces of its own besides says
//! `fn main() {}` and `export!`.
//!
//! A guest belongs to the test program that its name starts with: a file or
//! folder `<program>` in `tests/tests` or `host/tests`, whose guests are
//! `<program>_<what it does>`. The program declares them with [`guests!`], and
//! then a guest that it does not name is a compile error. Other test programs
//! may use the guest as well, from [`artifacts`].
//!
//! ```text
//! tests/guests/src/bin/artifacts_command.rs     the guest
//! tests/tests/artifacts.rs                      its test program:
//!     tombolo_tests::guests!(artifacts);
//!     … guests::ARTIFACTS_COMMAND …
//! ```

pub mod cgroup;
pub mod process;

/// Where each guest is, the examples' included: paths of component files.
pub mod artifacts {
    include!(concat!(env!("OUT_DIR"), "/artifacts.rs"));
}

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// Makes a guest one that only serves. The tests' guests are programs, all of which
/// export `wasi:cli/run`; by another name that is nothing to start.
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
