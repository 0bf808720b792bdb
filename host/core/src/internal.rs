//! The parts of this crate that `tombolo-app` is built from. They are no public API and change
//! without notice; `tombolo-app` pins the version of this crate exactly.

pub use crate::config::settle;
pub use crate::error::MemoryError;
pub use crate::host::{Owner, Promise};
pub use crate::limits::half_of_available;
pub use crate::transfer::{Lends, each_resource, is_region};

#[cfg(feature = "parallel-compilation")]
pub use crate::parallel::compile_in_parallel;

/// The system below.
pub mod sys {
    pub use crate::sys::{
        Compiled, Overgrown, StoreId, entry, fault, memory_bytes, private_bytes, processor_seconds,
        signal, within,
    };
}
