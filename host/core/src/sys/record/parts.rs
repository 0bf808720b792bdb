//! Parts of windows, which are masked while they are unpinned.

use std::ops::Range;

use super::MemoryRecord;
use super::error::MapError;
use super::state::{Copies, MemoryState};
use crate::sys::store_id::StoreId;

impl MemoryRecord {
    /// Masks a part of a window, which is unpinned: puts private zero pages in its place. Bytes
    /// that are masked already stay as the guest left them.
    ///
    /// The kernel must keep such a part apart from its neighbours. So the splits are counted
    /// first, as those of windows are: at most `most` for the whole memory. They are refunded when
    /// the parts are unmasked, because adjacent mappings of one file with equal permissions become
    /// one.
    ///
    /// # Errors
    ///
    /// [`MapError`]. Nothing has changed then, unless it is `Broken`.
    pub(crate) fn mask_part(
        &self,
        store: StoreId,
        start: usize,
        key: u64,
        range: Range<usize>,
        most: u64,
    ) -> Result<(), MapError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let maskings = state.maskings + 1;
        let Some(window) = self.find(store, state, start, key)? else {
            return Ok(());
        };
        let range = range.start.max(start)..range.end.min(window.end);
        let before = window.vma_splits(start, &range);
        let runs: Vec<_> = window.holes.gaps(&range).collect();
        for run in &runs {
            window.holes.insert(run.clone(), maskings);
        }
        let more = window.vma_splits(start, &range) - before;
        let hidden = window.masks > 0;
        if let Err(error) = state.reserve_splits(more, most) {
            let window = state.windows.get_mut(&start).expect("found above");
            for run in runs {
                window.holes.remove(run);
            }
            return Err(error);
        }
        state.maskings = maskings;
        if hidden {
            // Zero pages are there already.
            return Ok(());
        }
        for (number, run) in runs.iter().enumerate() {
            if let Err(error) = self.restore(state, run.clone()) {
                // The rest is still visible.
                let window = state.window(start);
                for run in &runs[number + 1..] {
                    window.holes.remove(run.clone());
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Unmasks a part of a window. Bytes that the guest wrote there meanwhile are lost. If the
    /// guest wrote to the rest of the window, which is read-only, that is mapped again as well.
    ///
    /// # Errors
    ///
    /// [`MapError`]. The whole part is still masked then. Bytes that the guest wrote there are
    /// lost, unless it is `Guest` or `Process`.
    pub(crate) fn unmask_part(
        &self,
        store: StoreId,
        start: usize,
        key: u64,
        range: Range<usize>,
        most: u64,
    ) -> Result<(), MapError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(window) = self.find(store, state, start, key)? else {
            return Ok(());
        };
        let range = range.start.max(start)..range.end.min(window.end);
        let parts: Vec<(Range<usize>, u64)> = window
            .holes
            .overlapping(&range)
            .map(|(hole, number)| {
                let part = hole.start.max(range.start)..hole.end.min(range.end);
                (part, *number)
            })
            .collect();
        let before = window.vma_splits(start, &range);
        window.holes.remove(range.clone());
        let after = window.vma_splits(start, &range);
        let (hidden, perms) = (window.masks > 0, window.perms);
        let mut runs = match window.copies {
            Copies::None => Vec::new(),
            Copies::Some | Copies::All => window.runs(start),
        };
        let mask_again = |state: &mut MemoryState| {
            for (part, number) in &parts {
                state.window(start).holes.insert(part.clone(), *number);
            }
        };
        if let Err(error) = state.reserve_splits(after.saturating_sub(before), most) {
            mask_again(state);
            return Err(error);
        }
        if !hidden {
            if runs.is_empty() {
                // Adjacent parts in one step.
                for (part, _) in parts.iter().cloned() {
                    match runs.last_mut() {
                        Some(last) if last.end == part.start => last.end = part.end,
                        _ => runs.push(part),
                    }
                }
            }
            if let Err(error) = self.map_runs(state, start, &runs, perms) {
                mask_again(state);
                state.vmas.less(after.saturating_sub(before));
                // Some copies may be replaced by the region's pages by now.
                let window = state.window(start);
                if window.copies != Copies::None {
                    window.copies = Copies::Some;
                }
                self.restore_all(state, parts.into_iter().map(|(part, _)| part))?;
                return Err(error);
            }
            state.window(start).copies = Copies::None;
        }
        // Only now: until the last part is mapped, the kernel has all of them.
        state.vmas.less(before.saturating_sub(after));
        Ok(())
    }
}
