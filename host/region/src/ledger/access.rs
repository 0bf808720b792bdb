//! The accesses of windows, and which of them conflict.

use std::fmt;

use crate::rights::Rights;

/// The access of a window to the bytes that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reads. Nobody writes meanwhile.
    Read,
    /// Reads and writes. Nobody else sees the bytes meanwhile.
    Write,
    /// Reads. Other stores of the strand may write meanwhile, through `LiveWrite`.
    LiveRead(LiveOwner),
    /// Reads and writes. Other stores of the strand may do so too, through live windows.
    LiveWrite(LiveOwner),
}

/// The owner of a live window. Live windows of different stores that take turns are
/// compatible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiveOwner {
    /// The strand in which the store takes turns.
    pub strand: u64,
    /// The store.
    pub store: usize,
}

impl Access {
    /// The smallest access in the order of accesses.
    pub(super) const FIRST: Access = Access::Read;

    /// Returns the rights that a window with this access needs. Writing needs
    /// [`Rights::READ`] as well, because the window shows the bytes that are there.
    #[must_use]
    pub fn needs(self) -> Rights {
        match self.writes() {
            false => Rights::READ,
            true => Rights::READ | Rights::WRITE,
        }
    }

    /// Returns whether a window with this access can write.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Access::Write | Access::LiveWrite(_))
    }

    pub(super) fn live(self) -> Option<LiveOwner> {
        match self {
            Access::LiveRead(live) | Access::LiveWrite(live) => Some(live),
            Access::Read | Access::Write => None,
        }
    }

    /// Returns whether windows with these accesses may be on the same granule.
    pub(super) fn is_compatible_with(self, other: Access) -> bool {
        match (self.live(), other.live()) {
            (Some(one), Some(other)) => one.strand == other.strand && one.store != other.store,
            _ => self == Access::Read && other == Access::Read,
        }
    }

    /// Returns whether the accesses are live and of different strands.
    pub(super) fn is_of_other_strand(self, other: Access) -> bool {
        match (self.live(), other.live()) {
            (Some(one), Some(other)) => one.strand != other.strand,
            _ => false,
        }
    }

    /// Returns whether each access that conflicts with this one also conflicts with `other`.
    pub(super) fn within(self, other: Access) -> bool {
        self == other
            || other == Access::Write
            || self.live().is_some() && self.live() == other.live()
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::LiveRead(_) => "live-read",
            Access::LiveWrite(_) => "live-write",
        })
    }
}

/// The side that holds a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A guest, in its linear memory. A lend can set its windows aside.
    Guest,
    /// The host program, by a guard or while it copies. No lend sets these aside.
    Host,
}

/// The way in which a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowEnd {
    /// The holder dropped it, its lend ended regularly, or its guest exited in order.
    Orderly,
    /// The holder died while it held the window. This poisons the region if it could write.
    Died,
}
