//! The ledger of Tombolo's shared memory regions, as pure logic.
//!
//! A *region* is an `RwLock<[u8]>` that spans sandboxes. This crate decides who may see which
//! bytes of a region: it knows rights, claims, the lock, lends, poison, pins, the budget and
//! the accounts. It makes no system calls and does not depend on wasmtime, so model checkers,
//! Miri and fuzzers can run it. The crate `tombolo` makes its decisions true in memory.
//!
//! | type | role |
//! |---|---|
//! | [`Ledger`] | the state of one region: claims, handles, windows, lends, waiters, pins |
//! | [`LedgerLock`] | a ledger that threads share; it also pins and purges |
//! | [`NotifyingLedger`] | a ledger that wakes lenders and waiters |
//! | [`Budget`] | the memory that all regions of a host may commit |
//! | [`Account`] | the resources that one guest holds, with its limits |
//! | [`Span`] | a run of 64 KiB [granules](GRANULE), checked by construction |
//! | [`SplitPoints`] | the VMAs that windows cost a linear memory |
//!
//! # Order of decision and mapping
//!
//! At no moment does memory show bytes that the lock does not cover:
//!
//! - To open a window or add access to it, first ask the ledger, then map.
//! - To close a window or reduce its access, first unmap, then tell the ledger.
//! - To unpin, first hide the bytes, then tell the ledger. To pin, first ask the ledger.
//!
//! # Time and blocking
//!
//! Operations of a [`Ledger`] do not block and do not read a clock: time is a parameter. Most
//! take time logarithmic in the number of windows and waiters. [`LedgerLock::pin`],
//! [`Budget::commit`] and [`Budget::purge`] may block while memory goes back to the kernel. A
//! [`NotifyingLedger`] reads the [`Time`] that it is given. Its futures need no runtime of
//! their own.
//!
//! # Example
//!
//! ```
//! use tombolo_region::{Access, Budget, GRANULE, Holder, Ledger, LedgerError, Rights, Span};
//!
//! // A region of two granules of 64 KiB, within a budget of 1 MiB.
//! let budget = Budget::new(1 << 20);
//! let commit = budget.commit(2)?;
//! let (mut ledger, owner) = Ledger::<()>::new(2 * GRANULE, &budget, Some(commit), Vec::new());
//! let reader = ledger.duplicate(&owner, Rights::READ, Vec::new())?;
//!
//! // While the owner writes to the first granule, nobody reads it.
//! let first = Span::of_window(0, GRANULE, 2 * GRANULE)?;
//! let write = Access::Write;
//! ledger.open(&owner, write.needs(), first, write, Holder::Guest, ())?;
//! let refused = ledger.open(&reader, Rights::READ, first, Access::Read, Holder::Guest, ());
//! assert_eq!(refused, Err(LedgerError::WouldBlock));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `loom` and `shuttle` replace the locks by those of the model checkers of these names.
//! `shuttle` also makes each notification a step of the schedule. They are for tests only.
#![forbid(unsafe_code)]

mod account;
mod budget;
mod ledger;
mod lock;
mod name;
mod notifying;
mod pins;
mod rights;
mod span;
#[doc(hidden)]
pub mod sync;
mod text;
mod vma;

pub use account::{Account, Charge, ChargeKind, Exhausted, Quota};
pub use budget::{
    AdmissionControl, Budget, BudgetUsage, CommitCharge, PurgeRequest, Purgeable, RegionNumber,
    SpareCharge,
};
pub use ledger::{
    Access, ClaimId, Handle, Holder, Ledger, LedgerError, LendId, LiveOwner, PinError, PinUndo,
    PinUsage, RESERVATION, WaitStatus, WaiterId, WindowEnd, WindowId,
};
pub use lock::{LedgerGuard, LedgerLock};
pub use name::{NameError, RegionName};
pub use notifying::{NotifyingGuard, NotifyingLedger, Time};
pub use pins::Pinned;
pub use rights::Rights;
pub use span::{GRANULE, Span, SpanError};
pub use text::{Escaped, escape, is_harmless};
pub use vma::{SplitPoints, vma_splits};
