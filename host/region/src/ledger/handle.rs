//! Handles to a region, and the identities in its ledger.

use crate::rights::Rights;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// All identities of one ledger are different numbers, in the order of creation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(super) u64);
    };
}

id! {
    /// The identity of a claim on one region.
    ClaimId
}
id! {
    /// The identity of a lend of one region.
    LendId
}
id! {
    /// The identity of a window onto one region.
    WindowId
}
id! {
    /// The identity of a waiter for a window onto one region.
    WaiterId
}

/// A handle to the region of one ledger.
///
/// Its owner must return it with [`Ledger::release`](super::Ledger::release). Dropping it
/// instead keeps its claim alive.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a handle keeps its claim alive until it is released"]
pub struct Handle {
    pub(super) claim: ClaimId,
    pub(super) rights: Rights,
    /// The lend by which the holder has it, if it was lent.
    pub(super) via: Option<LendId>,
    /// Whether it is the first handle of its claim, which can be moved.
    pub(super) first: bool,
}

impl Handle {
    /// Returns the rights of the handle.
    #[must_use]
    #[inline]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Returns the claim of the handle.
    #[must_use]
    #[inline]
    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// Returns the lend by which the holder has the handle, if it was lent.
    #[must_use]
    #[inline]
    pub fn lend(&self) -> Option<LendId> {
        self.via
    }
}
