//! Shared memory between WebAssembly sandboxes, safe by construction.
#![deny(unsafe_code)]

mod ctx;
mod error;
mod holder;
mod host;
mod limits;
mod region;
mod sys;
mod window;
mod wit;

pub use ctx::{RegionCtx, RegionCtxBuilder, RegionView, Trespass};
pub use error::RegionError;
pub use holder::{ReadGuard, Region, WriteGuard};
pub use host::{Counts, Host};
pub use limits::{HostLimits, Limits};
pub use region::{Exhausted, GRANULE, NameError, Rights, SpanError};
pub use wit::add_to_linker;
