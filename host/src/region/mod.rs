//! What regions are, as pure logic: rights, claims, the lock, poison, accounts.
//!
//! Nothing in here knows of wasmtime or makes a system call, so that models,
//! Miri, fuzzers and (once threads race for it) loom can run it. The layers
//! above make true in memory what is decided here: they ask first, and map
//! afterwards; they unmap first, and say so afterwards.

mod account;
mod ledger;
mod name;
mod rights;
mod span;

pub use account::{Account, Charge, Exhausted, Kind, Quota};
pub use ledger::{Access, ClaimId, End, Handle, Holder, Ledger, LendId, Refusal, WindowId};
pub use name::{NameError, RegionName};
pub use rights::Rights;
pub use span::{GRANULE, Span, SpanError};
