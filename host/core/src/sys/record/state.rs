//! The windows of a memory, and their costs in VMAs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rangemap::{RangeMap, RangeSet};
use tombolo_region::{SplitPoints, vma_splits};

use super::error::MapError;
use super::{Perms, WindowObserver};
use crate::sys::file::RegionFile;
use crate::sys::parking::Shape;
use crate::sys::vmas::VmaCharge;

/// A window: a part of a memory that shows part of a region.
pub(in crate::sys) struct MappedWindow {
    pub(in crate::sys) end: usize,
    /// Distinguishes the window from later ones at the same address.
    pub(in crate::sys) key: u64,
    pub(in crate::sys) file: Arc<RegionFile>,
    pub(in crate::sys) offset: u64,
    pub(in crate::sys) perms: Perms,
    /// Whether the kernel is advised to use huge pages. The same for the whole window, because
    /// adjacent mappings become one only if they are alike.
    pub(in crate::sys) huge: bool,
    /// The number of lends that mask it. Private zero pages stand there meanwhile.
    pub(in crate::sys) masks: u32,
    /// The masked parts, which are unpinned. Private pages of the guest's own stand there. Parts
    /// that were masked at different times have different numbers, because the kernel may keep
    /// those apart even if they are adjacent.
    pub(in crate::sys) holes: RangeMap<usize, u64>,
    pub(in crate::sys) copies: Copies,
    pub(in crate::sys) observer: Box<dyn WindowObserver>,
}

/// The parts of a read-only window that are copies of the guest's own, because it wrote to the
/// window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sys) enum Copies {
    None,
    /// The kernel refused to replace the rest.
    Some,
    All,
}

impl MappedWindow {
    /// Returns whether all of the window shows the region, in one mapping of small pages.
    pub(in crate::sys) fn is_plain(&self) -> bool {
        self.masks == 0 && self.holes.is_empty() && self.copies == Copies::None && !self.huge
    }

    /// Returns what the window, which starts at `start`, shows.
    pub(in crate::sys) fn shape(&self, start: usize) -> Shape {
        let is_writable = self.perms == Perms::Write;
        self.file.shape(self.offset, self.end - start, is_writable)
    }

    /// Returns the parts that show the region, unless a lend masks the whole window.
    pub(in crate::sys) fn runs(&self, start: usize) -> Vec<Range<usize>> {
        self.holes.gaps(&(start..self.end)).collect()
    }

    /// Returns how many VMAs the edges of unpinned parts add to the window that starts at
    /// `start`, from `range.start` to `range.end`, both included.
    pub(in crate::sys) fn vma_splits(&self, start: usize, range: &Range<usize>) -> u64 {
        let touching = range.start.saturating_sub(1)..range.end + 1;
        let holes = self.holes.overlapping(touching).map(|(hole, _)| hole);
        vma_splits(&(start..self.end), holes, range)
    }
}

#[derive(Default)]
pub(in crate::sys) struct MemoryState {
    /// By first address.
    pub(in crate::sys) windows: BTreeMap<usize, MappedWindow>,
    /// Addresses at which windows ever began or ended.
    pub(in crate::sys) split_points: SplitPoints,
    /// The VMAs that windows add to the memory, at worst.
    pub(in crate::sys) vmas: VmaCharge,
    /// Counts how often parts of windows were masked.
    pub(in crate::sys) maskings: u64,
    /// The ranges of shared zero pages that are mapped nowhere else. They stand in for private
    /// pages that were refused.
    pub(in crate::sys) stand_ins: RangeSet<usize>,
    /// The ranges that could not be restored, and were made inaccessible.
    pub(in crate::sys) closed: Vec<Range<usize>>,
    /// The ranges that could be neither restored nor made inaccessible.
    pub(in crate::sys) lost: Vec<Range<usize>>,
    pub(in crate::sys) broken: bool,
    /// The address at which the guest wrote to a read-only window.
    pub(in crate::sys) violation: Option<usize>,
}

impl MemoryState {
    /// Counts VMA splits that are about to be made. The memory may have `most` in all.
    pub(in crate::sys) fn reserve_splits(&mut self, more: u64, most: u64) -> Result<(), MapError> {
        if more > 0 && self.vmas.count() + more > most {
            return Err(MapError::Guest { most });
        }
        Ok(self.vmas.more(more)?)
    }

    /// A window that was found before.
    pub(in crate::sys) fn window(&mut self, start: usize) -> &mut MappedWindow {
        self.windows.get_mut(&start).expect("it was found before")
    }

    pub(in crate::sys) fn covering(&self, address: usize) -> Option<(usize, &MappedWindow)> {
        let (start, window) = self.windows.range(..=address).next_back()?;
        (address < window.end).then_some((*start, window))
    }

    pub(in crate::sys) fn covering_mut(
        &mut self,
        address: usize,
    ) -> Option<(usize, &mut MappedWindow)> {
        let (start, window) = self.windows.range_mut(..=address).next_back()?;
        (address < window.end).then_some((*start, window))
    }
}
