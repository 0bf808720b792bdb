//! The errors of a ledger.

use crate::account::Exhausted;

/// An error: the ledger refuses an operation. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The handle lacks the right, or it is lent or restricted and may not do this.
    #[error("the handle does not permit that")]
    NotPermitted,
    /// A conflicting window, guard or waiter exists, or the claim is lent. It may succeed later.
    #[error("the bytes are held in a conflicting way at the moment")]
    WouldBlock,
    /// The bytes have live windows in another strand. Waiting does not help.
    #[error(
        "the bytes have live windows in another strand; only guests of one strand can share \
         live windows: give these guests the same `strand`"
    )]
    OtherStrand,
    /// The region is frozen.
    #[error("the region is frozen")]
    Frozen,
    /// The lend by which the holder has the handle or window has ended.
    #[error("the handle or window ended with its lend or its move")]
    Gone,
    /// A writer died while it held the region.
    #[error("a writer died before it let go of the region")]
    Poisoned,
    /// The claim does not pin all of the bytes.
    #[error("the claim does not pin all of these bytes")]
    Unpinned,
    /// The region was frozen, and then purged. Its bytes are lost for good.
    #[error("the region was frozen, and purged since")]
    Purged,
}

/// An error: pins could not be changed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The ledger refuses the operation.
    #[error(transparent)]
    Refused(#[from] LedgerError),
    /// The budget, or the account of the claim, is exhausted.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}
