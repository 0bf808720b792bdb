//! What regions are, as pure logic: rights, claims, the lock, poison, pins, the
//! budget, accounts.
//!
//! Nothing in here knows of wasmtime or makes a system call, so that models,
//! Miri, fuzzers and schedulers that try how threads race can run it. The layers
//! above make true in memory what is decided here: they ask first, and map
//! afterwards; they unmap first, and say so afterwards.
#![forbid(unsafe_code)]

mod account;
mod budget;
mod ledger;
mod lock;
mod name;
mod pins;
mod rights;
mod span;
mod sync;
mod text;
mod vma;

pub use account::{Account, Charge, ChargeKind, Exhausted, Quota};
pub use budget::{AdmissionControl, Budget, BudgetUsage, CommitCharge, PurgeRequest, Purgeable};
pub use ledger::{
    Access, ClaimId, Handle, Holder, Ledger, LedgerError, LendId, LiveOwner, PinError, PinUndo,
    RESERVATION, WaitStatus, WaiterId, WindowEnd, WindowId,
};
pub use lock::{LedgerGuard, LedgerLock};
pub use name::{NameError, RegionName};
pub use pins::Pinned;
pub use rights::Rights;
pub use span::{GRANULE, Span, SpanError};
pub use text::{Escaped, escape, is_harmless};
pub use vma::{SplitPoints, vma_splits};
