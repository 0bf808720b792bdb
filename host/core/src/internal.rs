//! The parts of this crate that `tombolo-app` is built from. They are no public API and change
//! without notice. `tombolo-app` pins the version of this crate exactly.

/// Sets the options of a configuration, without touching the process.
pub use crate::config::settle;
/// The error of an operation on a memory.
pub use crate::error::MemoryError;
/// A holder of regions, and a promise of memory to a store.
pub use crate::host::{Owner, Promise};
/// The default limit of memory.
pub use crate::limits::half_of_available;
/// Lends without a store.
pub use crate::transfer::{Lends, is_region};
/// Parts of values, and walks over their handles.
pub use crate::walk::{each_resource, fold_parts};

/// Starts the threads that compile.
#[cfg(feature = "parallel-compilation")]
pub use crate::parallel::compile_in_parallel;

/// The system below.
///
/// | item | use |
/// |---|---|
/// | `Compiled` | code from the compiler's process |
/// | `Overgrown` | a growth that could not be undone |
/// | `StoreId` | the identity of a store |
/// | `entry` | the store that a thread is in |
/// | `fault` | the addresses of faults of wasm |
/// | `memory_bytes`, `private_bytes` | the memory of a store |
/// | `processor_seconds` | the processor time of this process |
/// | `signal` | signal masks and actions |
/// | `within` | a directory that is reached without its name |
pub mod sys {
    pub use crate::sys::{
        Compiled, Overgrown, StoreId, entry, fault, memory_bytes, private_bytes, processor_seconds,
        signal, within,
    };
}
