//! Shared memory between WebAssembly sandboxes, safe by construction.
#![deny(unsafe_code)]

pub mod app;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod config;
mod ctx;
mod error;
mod holder;
mod host;
mod limits;
mod region;
pub mod regions;
mod sys;
mod transfer;
mod window;
mod wit;

pub use config::{PrepareError, prepare};
pub use ctx::{RegionCtx, RegionCtxBuilder, RegionView, Trespass};
pub use error::RegionError;
pub use holder::{ReadGuard, Region, WriteGuard};
pub use host::{Counts, Host};
pub use limits::{HostLimits, Limits};
pub use region::{Exhausted, GRANULE, NameError, Rights, SpanError};
pub use transfer::{Borrowed, Lending, LentRegion, PackError, Parcel, Recipient, lend, take};
pub use wit::add_to_linker;
