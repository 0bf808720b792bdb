//! Regions whose bytes come slowly.

use std::fmt;

use tombolo_region::{GRANULE, Span};

use super::{Region, RegionHost};
use crate::error::RegionError;

/// The bytes that are pinned ahead of those that have come, at most. Fewer pins, and little
/// memory for a sender that stops.
const AHEAD: u64 = 4 * GRANULE;

/// A region that is being filled, and that reserves only what has come.
///
/// A sender announces a size, and its bytes come slowly or never. A region that is pinned whole
/// would reserve all of it in the budget meanwhile. This one pins the bytes that have come, and at
/// most 256 KiB more. Dropping it drops the region.
///
/// ```
/// # fn main() -> Result<(), tombolo::RegionError> {
/// let host = tombolo::RegionHost::new();
/// let mut body = host.incoming("body", 64 << 20)?;
/// body.try_extend(b"hello")?;
/// assert!(host.budget().committed - host.budget().purgeable <= 256 << 10);
/// # let _ = body;
/// # Ok(())
/// # }
/// ```
pub struct IncomingRegion {
    region: Region,
    filled: u64,
    pinned: u64,
}

impl RegionHost {
    /// Creates a region of the host program to be filled from its start to its end. No byte of it
    /// is pinned yet.
    ///
    /// If the host has kept the memory of an ended region of that length, and the budget has room
    /// for it, it is used. Then all of it counts as committed, but others can purge what is not
    /// pinned. Costs a file descriptor, and 15 to 30 ns for each page of such memory that was
    /// written.
    ///
    /// # Errors
    ///
    /// As [`create_unpinned`](RegionHost::create_unpinned).
    pub fn incoming(&self, name: &str, size: u64) -> Result<IncomingRegion, RegionError> {
        let region = match self.create_from_spare(name, size)? {
            Some(region) => {
                region.unpin(..)?;
                region
            }
            None => self.create_unpinned(name, size)?,
        };
        Ok(IncomingRegion {
            region,
            filled: 0,
            pinned: 0,
        })
    }
}

impl IncomingRegion {
    /// Appends any number of bytes, or refuses at once if the budget has no room for them. Then
    /// nothing was appended; try again later with the same bytes. Purges unpinned bytes of others
    /// if that makes room, as [`Region::pin`] does, and blocks meanwhile: about 0.2 s for each GiB.
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`] if the region would be longer than its size; otherwise as
    /// [`Region::pin`] and [`Region::try_write`].
    pub fn try_extend(&mut self, bytes: &[u8]) -> Result<(), RegionError> {
        let (start, length) = (self.filled, bytes.len() as u64);
        let Some(span) = Span::of_bytes(start, length, self.region.size())? else {
            return Ok(());
        };
        let size = self.region.size();
        let end = size.min(span.offset() + span.length());
        if end > self.pinned {
            let ahead = end.saturating_add(AHEAD - GRANULE).min(size);
            // A lost byte was never written.
            self.pinned = match self.region.pin(self.pinned..ahead) {
                Ok(_) => ahead,
                Err(RegionError::Exhausted(_)) => {
                    self.region.pin(self.pinned..end)?;
                    end
                }
                Err(error) => return Err(error),
            };
        }
        let mut guard = self.region.try_write(start..start + length)?;
        guard.copy_from_slice(bytes);
        self.filled += length;
        Ok(())
    }

    /// Returns how many bytes have come.
    #[must_use]
    pub fn filled(&self) -> u64 {
        self.filled
    }

    /// Returns the region, pinned whole. Bytes that have not come are zero.
    ///
    /// # Errors
    ///
    /// As [`Region::pin`]. The region is dropped then.
    pub fn finish(self) -> Result<Region, RegionError> {
        self.region.pin(..)?;
        Ok(self.region)
    }
}

impl fmt::Debug for IncomingRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingRegion")
            .field("region", &self.region)
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
