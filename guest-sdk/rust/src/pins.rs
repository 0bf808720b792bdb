use std::fmt;

use crate::access::Access;
use crate::bindings::pins;
use crate::error::Error;
use crate::region::Region;
use crate::sys::Mapping;
use crate::window::{Refused, Window};

/// What became of bytes that were unpinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "bytes that are lost read as zeros"]
pub enum Pinned<T> {
    /// They are as they were left.
    Intact(T),
    /// Some of them were purged, and read as zeros now: make them anew.
    Lost(T),
}

impl<T> Pinned<T> {
    /// Says whether some of the bytes are gone.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// What was pinned, whatever became of it.
    pub fn into_inner(self) -> T {
        match self {
            Self::Intact(it) | Self::Lost(it) => it,
        }
    }
}

/// A window whose bytes are unpinned, from [`Window::unpin`].
///
/// It has its place in this guest's memory and keeps its lock, so that pinning
/// again meets no conflict; but there are no slices of it. Dropping it unmaps it,
/// and leaves the bytes unpinned.
pub struct Unpinned<'r, A: Access> {
    mapping: Mapping<A>,
    region: &'r Region,
    offset: u64,
}

impl<'r, A: Access> Unpinned<'r, A> {
    pub(crate) fn new(region: &'r Region, offset: u64, mapping: Mapping<A>) -> Self {
        Self {
            mapping,
            region,
            offset,
        }
    }

    /// The handle that the window was mapped through.
    pub fn region(&self) -> &'r Region {
        self.region
    }

    /// Where in the region the window begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Pins the bytes and gives the window back, and says whether the bytes are
    /// as they were.
    ///
    /// # Errors
    ///
    /// With the unpinned window as it was: [`Error::Exhausted`] if the host's
    /// budget has no room and too little can be purged, or for a limit;
    /// [`Error::WouldBlock`] while the region is lent; [`Error::Purged`] for a
    /// frozen region that was; [`Error::Gone`].
    pub fn pin(self) -> Result<Pinned<Window<'r, A>>, Refused<Self>> {
        let span = pins::Span {
            offset: self.offset,
            length: self.mapping.covered(),
        };
        let pinned = match pins::pin(self.region.as_handle(), span) {
            Ok(pinned) => pinned,
            Err(code) => return Err(Refused::new(self, code.into())),
        };
        let window = Window::new(self.region, self.offset, self.mapping);
        Ok(match pinned {
            pins::Pinned::Intact => Pinned::Intact(window),
            pins::Pinned::Lost => Pinned::Lost(window),
        })
    }
}

impl<A: Access> fmt::Debug for Unpinned<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpinned")
            .field("region", self.region)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// Unpins whole granules.
pub(crate) fn unpin(region: &Region, offset: u64, length: u64) -> Result<(), Error> {
    Ok(pins::unpin(
        region.as_handle(),
        pins::Span { offset, length },
    )?)
}
