//! The ledger of regions, with its notifications, as threads race for it.
//!
//! What its threads wait with is a scheduler's: that decides at each step which thread goes on,
//! and finds any deadlock. What tasks wait with is tokio's, each use of it a step. Channels and
//! the graph of waits are the host's own source, included by its path.

/// Guests as threads, around the host's own source.
pub mod app;
mod mock_region;
pub use tombolo_region as region;
/// The names by which the included source knows what stands in for the library.
extern crate self as tombolo;
pub mod store;
mod sync;
mod time;

pub use mock_region::{
    Borrower, GRANULES, Limits, Memory, MockHost, Owner, Recipient, Region, RegionError, Shared,
    Waiting, some_access, some_span,
};
pub use time::DrivenTime;
