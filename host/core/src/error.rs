//! Errors of operations on regions and memories.

use std::io;
use std::sync::Arc;

use crate::sys::{FileSize, Forked, MapError};
use tombolo_region::{Exhausted, LedgerError, NameError, PinError, SpanError};

/// A reason why an operation on a region was refused. Nothing has changed then.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The name cannot be a region's.
    #[error("bad region name")]
    Name(#[from] NameError),
    /// The size is zero or over the limit.
    #[error("a region has 1 to {most} bytes, not {size}")]
    Size {
        /// The size that was asked for.
        size: u64,
        /// The limit `region-bytes`.
        most: u64,
    },
    /// The range is misaligned, empty, or outside of the region.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// The first byte of a window was not named by a list of one byte.
    #[error("the first byte to cover is named by a list of one byte, not of {length}")]
    At {
        /// How many bytes the list had.
        length: usize,
    },
    /// The handle lacks the right, or is lent or restricted and may not do this.
    #[error("the handle does not permit that")]
    NotPermitted,
    /// A window or a guard conflicts, or the claim is lent. Try again later, or wait.
    #[error("the bytes are held in a conflicting way at the moment")]
    WouldBlock,
    /// The region is frozen.
    #[error("the region is frozen")]
    Frozen,
    /// A writer died before it released its window. [`Region::clear_poison`] declares the
    /// contents valid again.
    ///
    /// [`Region::clear_poison`]: crate::Region::clear_poison
    #[error("a writer died before it released the region")]
    Poisoned,
    /// The claim does not pin all of the bytes. [`Region::pin`] pins them, and returns whether
    /// some were lost.
    ///
    /// [`Region::pin`]: crate::Region::pin
    #[error("the claim does not pin all of these bytes")]
    Unpinned,
    /// The region was frozen, and its memory was purged when nobody pinned it. All that is left
    /// to do is to drop it.
    #[error("the region was frozen, and purged since")]
    Purged,
    /// The handle or the window ended with its lend or its move.
    #[error("the handle or window ended with its lend or its move")]
    Gone,
    /// Another window lies under that part of the memory.
    #[error("another window lies under that part of the memory")]
    Overlap,
    /// A limit is used up.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// A limit on something that is not counted in an account is used up.
    #[error("{0}")]
    Limit(String),
    /// A live window conflicts with live windows in another strand. Only guests of one strand
    /// can share live windows.
    #[error("{}", LedgerError::OtherStrand)]
    OtherStrand,
    /// The guest may have no live windows: see [`RegionCtxBuilder::live_within`].
    ///
    /// [`RegionCtxBuilder::live_within`]: crate::RegionCtxBuilder::live_within
    #[error(
        "live windows are for guests that take turns, and the program that runs this guest \
         has not said that it does"
    )]
    NotLive,
    /// The engine cannot map: it was not prepared by [`prepare`].
    ///
    /// [`prepare`]: crate::prepare
    #[error("this engine cannot map regions; `read-at` and `write-at` work all the same")]
    Unsupported,
    /// The region belongs to another [`RegionHost`] than the receiver, so its cost would be on
    /// two accounts, in two budgets.
    ///
    /// [`RegionHost`]: crate::RegionHost
    #[error(
        "the region belongs to another `RegionHost` than the receiver; create both with one \
         `RegionHost`, or with clones of it"
    )]
    OtherHost,
    /// This process was forked from the one that created the [`RegionHost`], and has the memory
    /// of its regions without their lock.
    ///
    /// [`RegionHost`]: crate::RegionHost
    #[error("{}", Forked)]
    Forked,
    /// The kernel refused.
    #[error("the kernel refused")]
    System(#[source] Arc<io::Error>),
}

impl RegionError {
    /// Returns the reason for a guest that the limit does not apply to: without the numbers
    /// of a limit, and without messages of the kernel.
    pub(crate) fn for_others(&self) -> String {
        match self {
            RegionError::Exhausted(Exhausted { owner, limit, .. }) => {
                format!("limit `{limit}` of {owner} is used up")
            }
            RegionError::Limit(_) => "a limit is used up".to_owned(),
            RegionError::System(_) => "the host's system refused".to_owned(),
            reason => reason.to_string(),
        }
    }

    /// Returns the reason for the guest that the limit applies to.
    pub(crate) fn for_its_guest(&self) -> String {
        match self {
            RegionError::Exhausted(_) | RegionError::Limit(_) => self.to_string(),
            reason => reason.for_others(),
        }
    }
}

impl From<LedgerError> for RegionError {
    fn from(refusal: LedgerError) -> RegionError {
        match refusal {
            LedgerError::NotPermitted => RegionError::NotPermitted,
            LedgerError::WouldBlock => RegionError::WouldBlock,
            LedgerError::OtherStrand => RegionError::OtherStrand,
            LedgerError::Frozen => RegionError::Frozen,
            LedgerError::Gone => RegionError::Gone,
            LedgerError::Poisoned => RegionError::Poisoned,
            LedgerError::Unpinned => RegionError::Unpinned,
            LedgerError::Purged => RegionError::Purged,
        }
    }
}

impl From<PinError> for RegionError {
    fn from(refusal: PinError) -> RegionError {
        match refusal {
            PinError::Refused(refusal) => refusal.into(),
            PinError::Exhausted(exhausted) => exhausted.into(),
        }
    }
}

impl From<io::Error> for RegionError {
    fn from(error: io::Error) -> RegionError {
        let inner = error.get_ref();
        if inner.is_some_and(|inner| inner.is::<Forked>()) {
            return RegionError::Forked;
        }
        match inner.and_then(|inner| inner.downcast_ref()) {
            Some(limit @ FileSize { .. }) => RegionError::Limit(limit.to_string()),
            None => RegionError::System(Arc::new(error)),
        }
    }
}

impl From<Forked> for RegionError {
    fn from(_: Forked) -> RegionError {
        RegionError::Forked
    }
}

/// An error of an operation on a memory: a mistake of the guest, which the guest gets as an
/// error, or a state in which the guest cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The guest made a mistake.
    #[error(transparent)]
    Guest(#[from] RegionError),
    /// The guest cannot go on.
    #[error(transparent)]
    Fatal(MapError),
}

impl From<MapError> for MemoryError {
    fn from(error: MapError) -> MemoryError {
        MemoryError::Guest(match error {
            MapError::Overlap => RegionError::Overlap,
            MapError::Process(_) | MapError::Guest { .. } => RegionError::Limit(error.to_string()),
            MapError::System(error) => error.into(),
            MapError::Foreign | MapError::Broken => return MemoryError::Fatal(error),
        })
    }
}

impl From<LedgerError> for MemoryError {
    fn from(refusal: LedgerError) -> MemoryError {
        MemoryError::Guest(refusal.into())
    }
}

impl From<PinError> for MemoryError {
    fn from(refusal: PinError) -> MemoryError {
        MemoryError::Guest(refusal.into())
    }
}
