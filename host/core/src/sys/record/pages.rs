//! The pages of a memory: those of regions, and zeros in their place.

use std::io;
use std::ops::Range;

use rangemap::RangeSet;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect,
};

use super::error::MapError;
use super::state::MemoryState;
use super::{MemoryRecord, Perms};
use crate::sys::file::RegionFile;
use crate::sys::kernel::{ask, page_size};
use crate::sys::reservation::ALIGN;
use crate::sys::{allowance, huge};

impl MemoryRecord {
    /// Splits the huge pages of which a new window is about to replace a part. Otherwise the
    /// kernel keeps the replaced part as well until it runs short of memory, and counts it
    /// nowhere in the page tables.
    ///
    /// The first and the last page of the range, which has no window, may become zeros.
    pub(super) fn split_huge_pages(&self, range: &Range<usize>) {
        let page = page_size();
        for (edge, at) in [(range.start, range.start), (range.end, range.end - page)] {
            let block = edge - edge % ALIGN;
            if edge == block || block + ALIGN > self.base() + self.size() {
                continue;
            }
            // Advice on part of a huge page splits it.
            let split = ask(|| {
                let at = std::ptr::with_exposed_provenance_mut(at);
                // SAFETY: the page lies inside the accessible part of this memory, where a window
                // is about to replace it. The store is in hand: no wasm of it runs and no slice of
                // its memory is alive.
                unsafe { madvise(at, page, Advice::LinuxFree) }
            });
            // Refused for locked memory, which is counted as a whole.
            let _ = split;
        }
    }

    /// Maps parts of a window in the place of other pages.
    ///
    /// # Errors
    ///
    /// [`MapError`]. Parts before the one that the kernel refused are mapped then. That one
    /// contains private zero pages. Parts after it are unchanged.
    pub(super) fn map_runs(
        &self,
        state: &mut MemoryState,
        start: usize,
        runs: &[Range<usize>],
        perms: Perms,
    ) -> Result<(), MapError> {
        for run in runs {
            let window = state.window(start);
            let offset = window.offset + (run.start - start) as u64;
            let mapped = self.map_file(
                run.clone(),
                &window.file,
                offset,
                perms,
                MapFlags::SHARED,
                window.huge,
            );
            if let Err(error) = mapped {
                self.restore(state, run.clone())?;
                return Err(error.into());
            }
            state.stand_ins.remove(run.clone());
        }
        Ok(())
    }

    pub(in crate::sys) fn map_file(
        &self,
        range: Range<usize>,
        file: &RegionFile,
        offset: u64,
        perms: Perms,
        flags: MapFlags,
        huge: bool,
    ) -> io::Result<()> {
        file.check_process()?;
        let length = range.end - range.start;
        let at = ask(|| {
            // SAFETY: the range lies inside the accessible part of this memory,
            // which this object reserved (`map_window` asserts it, and the part never
            // shrinks), so that nothing else is replaced. The store is in hand: no
            // wasm of it runs and no slice of its memory is alive. The file is as
            // long as `offset + length`, which was checked against the region's
            // size, and is sealed against shrinking. That nobody writes to the
            // bytes while wasmtime forms slices over them is the lock's promise.
            unsafe {
                mmap(
                    std::ptr::with_exposed_provenance_mut(range.start),
                    length,
                    perms.prot(),
                    flags | MapFlags::FIXED,
                    file.to_map(perms == Perms::Write),
                    offset,
                )
            }
        })?;
        assert_eq!(at.addr(), range.start, "MAP_FIXED maps where it was told");
        if huge {
            // SAFETY: that is what was just mapped.
            unsafe { huge::advise(at, length) };
        }
        Ok(())
    }

    /// Puts fresh zero pages at a range that had a window.
    ///
    /// This replaces whole VMAs, so it needs no new one. If there is no room for private pages
    /// below RLIMIT_DATA, or the kernel refuses them, shared ones stand in for them, which are
    /// mapped nowhere else and which no limit counts. If it refuses those as well, the range is
    /// made inaccessible, and this memory must not be used again.
    pub(super) fn restore(
        &self,
        state: &mut MemoryState,
        range: Range<usize>,
    ) -> Result<(), MapError> {
        let length = range.end - range.start;
        if allowance::has_room(length) && self.map_zeros(&range, MapFlags::PRIVATE).is_ok() {
            state.stand_ins.remove(range);
            return Ok(());
        }
        if self.map_zeros(&range, MapFlags::SHARED).is_ok() {
            state.stand_ins.insert(range);
            return Ok(());
        }
        state.broken = true;
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        let closed = ask(|| {
            // SAFETY: the range is one window's, inside the accessible part of this
            // memory, which this object reserved; the store is in hand. Whole mappings
            // change, or none are there.
            unsafe { mprotect(start, length, MprotectFlags::empty()) }
        });
        match closed {
            Ok(()) => state.closed.push(range),
            // There may be a hole, which the kernel may fill with another mapping. It must not
            // be unmapped.
            Err(_) => state.lost.push(range),
        }
        Err(MapError::Broken)
    }

    /// Restores several ranges: all of them, even if one cannot be restored.
    pub(super) fn restore_all(
        &self,
        state: &mut MemoryState,
        ranges: impl IntoIterator<Item = Range<usize>>,
    ) -> Result<(), MapError> {
        let mut result = Ok(());
        for range in ranges {
            result = result.and(self.restore(state, range));
        }
        result
    }

    /// Maps fresh zero pages in the place of other pages: private ones, or shared ones that are
    /// mapped nowhere else.
    ///
    /// Async-signal-safe.
    pub(in crate::sys) fn map_zeros(&self, range: &Range<usize>, kind: MapFlags) -> io::Result<()> {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        ask(|| {
            // SAFETY: the range is one window's, inside the accessible part of this
            // memory, which this object reserved; the store is in hand.
            unsafe {
                mmap_anonymous(
                    start,
                    range.end - range.start,
                    ProtFlags::READ | ProtFlags::WRITE,
                    kind | MapFlags::NORESERVE | MapFlags::FIXED,
                )
            }
        })?;
        Ok(())
    }

    /// Returns the ranges of shared zero pages, which belong to the guest like private ones.
    pub(in crate::sys) fn stand_ins(&self) -> RangeSet<usize> {
        self.state().stand_ins.clone()
    }
}

/// Changes the permissions of parts of a window, each a VMA.
///
/// # Errors
///
/// The error of the kernel. Some of the parts may have changed then.
pub(super) fn protect(
    file: &RegionFile,
    runs: &[Range<usize>],
    perms: Perms,
) -> Result<(), MapError> {
    if perms == Perms::Write {
        file.note_writable();
    }
    for run in runs {
        let start = std::ptr::with_exposed_provenance_mut(run.start);
        ask(|| {
            // SAFETY: the run is a part of one window of a memory whose store is in
            // hand, so that no wasm runs in it and no slice of its memory is alive;
            // and it is a whole mapping, so that nothing else changes.
            unsafe { mprotect(start, run.end - run.start, perms.mprotect()) }
        })
        .map_err(io::Error::from)?;
    }
    Ok(())
}
