//! Tombolo's pure crates, as threads race for them.
//!
//! The code under test is the host's own: the ledger and its notifications, calls, and channels.
//! What it waits with is shuttle's, which decides at each step which thread goes on and finds any
//! deadlock. Only stores, memory and time are stand-ins, because wasmtime keeps state of each
//! thread that shuttle's tasks cannot have. They notice accesses that conflict.

pub mod app;
mod mock_region;
pub mod store;
mod time;

pub use mock_region::{
    Borrower, GRANULES, Limits, Memory, MockHost, Owner, Recipient, Region, RegionError, Shared,
    Waiting, some_access, some_span,
};
pub use time::DrivenTime;
