//! How many VMAs the windows in a linear memory cost.
//!
//! A VMA is one of the kernel's mappings. `vm.max_map_count` limits the VMAs of a process,
//! and beyond that limit `malloc` and even unmapping fail. The number of windows does not
//! matter for it. What matters is the number of addresses at which the kernel must keep two
//! VMAs apart:
//!
//! - *Split points*: the addresses at which a window of the memory ever began or ended. The
//!   kernel may keep the halves apart after the window is gone, so split points are never
//!   removed. With `n` of them the memory consists of at most `n` more VMAs.
//! - The edges of *masked parts*, which show private pages inside of a window. They cost VMAs
//!   only while the parts are masked. Unmasked parts merge with their neighbours, because
//!   adjacent mappings of one file with equal access become one VMA.
//!
//! The layer above counts each split before it asks the kernel for anything. Undoing replaces
//! whole VMAs and needs no further split. A guest that uses the same addresses again and again
//! uses up nothing.

use std::collections::BTreeSet;
use std::ops::Range;

/// The addresses at which windows of one linear memory ever began or ended.
#[derive(Clone, Debug, Default)]
pub struct SplitPoints(BTreeSet<usize>);

impl SplitPoints {
    /// Returns how many VMAs a window on `range` adds at most: one for each end that is not a
    /// split point yet. Takes time logarithmic in the number of split points.
    #[must_use]
    pub fn vma_splits(&self, range: &Range<usize>) -> u64 {
        let ends = [range.start, range.end];
        let new = ends.iter().filter(|end| !self.0.contains(end));
        new.count() as u64
    }

    /// Adds both ends of a window.
    pub fn insert(&mut self, range: &Range<usize>) {
        self.0.extend([range.start, range.end]);
    }

    /// Returns the lowest split point. All windows were at or above it.
    #[must_use]
    pub fn first(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// Returns the number of split points: how many VMAs more than before the memory has at
    /// most, without masked parts.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Returns how many VMAs the edges of masked parts add to a window, counting only the edges
/// from `range.start` to `range.end`, both included.
///
/// `masked` are parts of the window that do not overlap, in ascending order. It must contain
/// all parts that touch `range`; others are ignored. Parts side by side are masked one by one,
/// so the kernel may keep them apart: their common edge counts, once. An edge at either end of
/// the window does not count, because that is a [split point](SplitPoints) already.
///
/// Masking or unmasking `range` changes the number of edges only there. So the difference
/// between the results before and after is the difference for the whole window.
#[must_use]
pub fn vma_splits<'a>(
    window: &Range<usize>,
    masked: impl IntoIterator<Item = &'a Range<usize>>,
    range: &Range<usize>,
) -> u64 {
    let mut splits = 0;
    let mut last = None;
    for edge in masked.into_iter().flat_map(|part| [part.start, part.end]) {
        let inside = window.start < edge && edge < window.end;
        let counts = inside && (range.start..=range.end).contains(&edge);
        // The end of a part may be the start of the next one.
        if counts && last != Some(edge) {
            splits += 1;
            last = Some(edge);
        }
    }
    splits
}
