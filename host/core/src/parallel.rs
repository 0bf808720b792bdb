//! The threads that compile components.

use std::error::Error as _;
use std::sync::OnceLock;

/// Starts the threads that wasmtime compiles with, if they `may` be started. Returns whether they
/// run. If not, an engine must compile without them, because wasmtime panics otherwise. The first
/// call decides for the process.
pub fn compile_in_parallel(may: bool) -> bool {
    static STARTED: OnceLock<bool> = OnceLock::new();
    *STARTED.get_or_init(|| {
        may && match rayon::ThreadPoolBuilder::new().build_global() {
            Ok(()) => true,
            // An error without a source means that they were started before.
            Err(error) => error.source().is_none(),
        }
    })
}
