//! Windows as a whole: mapping, permissions, masks for lends, unmapping.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeMap;
use rustix::mm::MapFlags;

use super::error::MapError;
use super::pages::protect;
use super::state::{Copies, MappedWindow, MemoryState};
use super::{MemoryRecord, Perms, WindowObserver};
use crate::sys::file::RegionFile;
use crate::sys::huge;
use crate::sys::parking::{self, Unparked};
use crate::sys::store_id::StoreId;
use crate::sys::unmap::leave_behind;

impl MemoryRecord {
    /// Maps part of a region at `range`, whole granules inside the accessible part, as addresses
    /// of this process.
    ///
    /// # Errors
    ///
    /// [`MapError`]. Unless it is `Broken`, nothing has changed then, except that the range
    /// contains zeros if the kernel refused.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn map_window(
        &self,
        store: StoreId,
        key: u64,
        range: Range<usize>,
        file: &Arc<RegionFile>,
        offset: u64,
        perms: Perms,
        most: u64,
        observer: Box<dyn WindowObserver>,
    ) -> Result<(), MapError> {
        let mut state = self.state();
        self.check(store, &state)?;
        let inside = self.base()..self.base() + self.size();
        assert!(
            inside.start <= range.start && range.start < range.end && range.end <= inside.end,
            "a window lies inside the accessible part"
        );
        let below = state.windows.range(..range.end).next_back();
        if below.is_some_and(|(_, window)| window.end > range.start) {
            return Err(MapError::Overlap);
        }
        // Counted before the kernel is asked, so that undoing needs no more.
        let new = state.split_points.vma_splits(&range);
        state.reserve_splits(new, most)?;
        state.split_points.insert(&range);
        self.split_huge_pages(&range);
        let window = MappedWindow {
            end: range.end,
            key,
            file: file.clone(),
            offset,
            perms,
            huge: huge::fits(range.start, range.end - range.start, offset),
            masks: 0,
            holes: RangeMap::new(),
            copies: Copies::None,
            observer,
        };
        if let Err(error) = self.map_new(&mut state, range.clone(), &window) {
            // The observer and the file take locks when they are dropped.
            drop(state);
            return Err(error);
        }
        state.stand_ins.remove(range.clone());
        state.windows.insert(range.start, window);
        Ok(())
    }

    /// Maps a whole window, with the page tables of an earlier one if there are any.
    fn map_new(
        &self,
        state: &mut MemoryState,
        range: Range<usize>,
        window: &MappedWindow,
    ) -> Result<(), MapError> {
        let MappedWindow {
            file,
            offset,
            perms,
            huge,
            ..
        } = window;
        file.check_process().map_err(io::Error::from)?;
        let unparked = match window.is_plain() {
            // SAFETY: the range lies inside the accessible part of this memory, as `map_window`
            // asserts, and has no window. The store is in hand: no wasm of it runs and no slice
            // of its memory is alive.
            true => unsafe { parking::unpark(window.shape(range.start), range.start) },
            false => Unparked::No,
        };
        match unparked {
            Unparked::Yes => return Ok(()),
            Unparked::No => {}
            Unparked::Lost => {
                leave_behind();
                state.broken = true;
                state.lost.push(range);
                return Err(MapError::Broken);
            }
        }
        let flags = MapFlags::SHARED;
        if let Err(error) = self.map_file(range.clone(), file, *offset, *perms, flags, *huge) {
            // Kernels before 6.12 may have left a hole there.
            self.restore(state, range)?;
            return Err(error.into());
        }
        Ok(())
    }

    pub(super) fn find<'s>(
        &self,
        store: StoreId,
        state: &'s mut MemoryState,
        start: usize,
        key: u64,
    ) -> Result<Option<&'s mut MappedWindow>, MapError> {
        self.check(store, state)?;
        Ok(state
            .windows
            .get_mut(&start)
            .filter(|window| window.key == key))
    }

    /// Changes the permissions of a window. Does nothing if the window has ended.
    ///
    /// # Errors
    ///
    /// [`MapError`]. Nothing has changed then, unless it is `Broken`.
    pub(crate) fn set_perms(
        &self,
        store: StoreId,
        start: usize,
        key: u64,
        perms: Perms,
    ) -> Result<(), MapError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(window) = self.find(store, state, start, key)? else {
            return Ok(());
        };
        let (before, copies) = (window.perms, window.copies);
        if window.masks == 0 {
            let runs = window.runs(start);
            let changed = match copies {
                Copies::None => protect(&window.file, &runs, perms),
                // Maps the region's own pages again, instead of making the copies writable.
                Copies::Some | Copies::All => self.map_runs(state, start, &runs, perms),
            };
            if let Err(error) = changed {
                // Some parts may be changed already.
                let file = &state.window(start).file;
                let protected = copies == Copies::None && protect(file, &runs, before).is_ok();
                if !protected && self.map_runs(state, start, &runs, before).is_err() {
                    // Neither the new nor the old permissions: zeros, and the guest ends.
                    state.broken = true;
                    return self.restore_all(state, runs).and(Err(MapError::Broken));
                }
                state.window(start).copies = Copies::None;
                return Err(error);
            }
            state.window(start).copies = Copies::None;
        }
        state.window(start).perms = perms;
        Ok(())
    }

    /// Masks a window for a lend: private zero pages stand there until it is unmasked. The lock
    /// stays.
    ///
    /// # Errors
    ///
    /// [`MapError`]. Nothing has changed then, unless it is `Broken`.
    pub(crate) fn mask(&self, store: StoreId, start: usize, key: u64) -> Result<(), MapError> {
        let mut state = self.state();
        let Some(window) = self.find(store, &mut state, start, key)? else {
            return Ok(());
        };
        window.masks = window.masks.saturating_add(1);
        let runs = window.runs(start);
        self.restore_all(&mut state, runs)
    }

    /// Unmasks a window, unless another lend still masks it. Bytes that the guest wrote there
    /// meanwhile are lost.
    ///
    /// # Errors
    ///
    /// [`MapError`]. The whole window is still masked then.
    pub(crate) fn unmask(&self, store: StoreId, start: usize, key: u64) -> Result<(), MapError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(window) = self.find(store, state, start, key)? else {
            return Ok(());
        };
        if window.masks != 1 {
            window.masks = window.masks.saturating_sub(1);
            return Ok(());
        }
        let (runs, perms) = (window.runs(start), window.perms);
        if let Err(error) = self.map_runs(state, start, &runs, perms) {
            self.restore_all(state, runs)?;
            return Err(error);
        }
        let window = state.window(start);
        (window.masks, window.copies) = (0, Copies::None);
        Ok(())
    }

    /// Ends a window: its memory consists of fresh zero pages from here on. Returns the observer,
    /// or `None` for a window that had ended before.
    ///
    /// # Errors
    ///
    /// [`MapError::Foreign`]; [`MapError::Broken`] if the memory could not be restored. The window
    /// and its lock stay then.
    pub(crate) fn unmap_window(
        &self,
        store: StoreId,
        start: usize,
        key: u64,
    ) -> Result<Option<Box<dyn WindowObserver>>, MapError> {
        let mut state = self.state();
        let Some(window) = self.find(store, &mut state, start, key)? else {
            return Ok(None);
        };
        let range = start..window.end;
        let vma_splits = window.vma_splits(start, &range);
        if window.is_plain() && window.file.check_process().is_ok() {
            // SAFETY: the range is this window's, in a memory whose store is in hand: no wasm of
            // it runs and no slice of its memory is alive. It still shows the region, until zero
            // pages replace it.
            unsafe { parking::park(window.shape(start), self.base(), start) };
        }
        self.restore(&mut state, range)?;
        // One mapping stands in for all its parts.
        state.vmas.less(vma_splits);
        let window = state.windows.remove(&start);
        // The file takes locks when it is dropped.
        drop(state);
        Ok(window.map(|window| window.observer))
    }
}
