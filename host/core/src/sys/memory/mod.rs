//! Linear memories, and the windows in them.
//!
//! Tombolo creates the linear memories of the engine. Each is a reservation of 4 GiB and a guard,
//! of which the accessible part grows in place.
//!
//! # Why the contract of `LinearMemory` holds
//!
//! Wasmtime forms `&[u8]`, `&mut [u8]` and `&str` over linear memory, in host functions and while
//! lifting and lowering. Memory changes under them in two ways only:
//!
//! - *Pages are replaced* by operations of this module. Each takes the store in hand, so no wasm
//!   of that store runs and no reference into its memories is alive.
//! - *Bytes change* in mapped pages. The ledger's lock excludes this for `read` and `write`
//!   windows; for live windows the strand does (see `docs/security.md`).
//!
//! # States after a refusal by the kernel
//!
//! - Closing a window maps private zero pages. If they are refused (`RLIMIT_DATA`), shared zero
//!   pages that are mapped nowhere else take their place; no limit counts them. If those are
//!   refused, the range becomes inaccessible and the window's lock is kept: the host function traps
//!   and the store is not entered again.
//! - If even `mprotect` is refused, there may be a hole in the reservation. The record lists it, and
//!   unmapping the memory skips it, because another mapping may be there by then.
//! - A change of several mappings (a window with unpinned parts) succeeds as a whole or is undone.
//!   If undoing is refused, the whole window becomes zero pages and the memory is marked as broken.
//!   The record always agrees with the mappings.
//! - A growth changes permissions past the old end. If the kernel refuses both it and its undoing,
//!   memory past the end may be accessible. The memory never grows again, a guest of an app traps,
//!   and the reservation is unmapped when the memory goes. In an embedder's store `memory.grow`
//!   fails and the guest runs on: the pages are its own and nobody else ever has them.
//!
//! # Order of a drop
//!
//! The memory leaves the address table, then the store's mark. The reservation is cleaned or
//! unmapped, which unmaps all windows. Only then are the windows closed in their ledgers. A record
//! is never used for another memory, whatever addresses that has.
//!
//! # Identity of the store
//!
//! A memory notes the store in hand when it gets its first window: the address of the store's data,
//! which does not move and which no other store has meanwhile. Every later operation compares it
//! and traps on a mismatch. So a window object in the wrong store remaps nothing.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rangemap::{RangeMap, RangeSet};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use tombolo_region::{SplitPoints, vma_splits};
use wasmtime::{AsContext, LinearMemory, MemoryCreator, MemoryType};

use super::kernel::ask;
use super::reservation::Reservation;
use super::table::{forget, register};
use super::{Process, RegionFile, StoreMark, TooManyVmas, VmaCharge, allowance, huge};

/// The bytes of the reservation of each linear memory: all that 32 bits can address.
pub(crate) const RESERVATION: usize = 1 << 32;

/// The identity of a store: the address of its data. It does not move while the store lives,
/// whatever safe code swaps in and out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(NonZeroUsize);

impl StoreId {
    /// Returns the identity of the store in hand.
    pub fn of<T: 'static>(store: impl AsContext<Data = T>) -> StoreId {
        StoreId::of_data(store.as_context().data())
    }

    /// Returns the identity of the store that contains these data.
    pub fn of_data<T>(data: &T) -> StoreId {
        let data: *const T = data;
        StoreId(NonZeroUsize::new(data.addr()).expect("a reference is not null"))
    }

    /// Returns a number that no other store has meanwhile.
    pub fn number(self) -> usize {
        self.0.get()
    }
}

/// The permissions of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Perms {
    Read,
    Write,
}

impl Perms {
    fn prot(self) -> ProtFlags {
        match self {
            Perms::Read => ProtFlags::READ,
            Perms::Write => ProtFlags::READ | ProtFlags::WRITE,
        }
    }

    fn mprotect(self) -> MprotectFlags {
        match self {
            Perms::Read => MprotectFlags::READ,
            Perms::Write => MprotectFlags::READ | MprotectFlags::WRITE,
        }
    }
}

/// An observer that is notified if a window ends because its memory does.
pub(crate) trait WindowObserver: Send + Sync {
    /// Returns the name of the region, for messages.
    fn region(&self) -> String;
    /// Notifies that the memory is unmapped, so that it shows the region no longer.
    fn memory_gone(self: Box<Self>);
}

/// A reason why a window could not be mapped or changed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Another window is under that part of the memory.
    #[error("another window lies there")]
    Overlap,
    /// The process's VMAs are used up.
    #[error(transparent)]
    Process(#[from] TooManyVmas),
    /// The guest's VMA splits are used up.
    #[error("limit `vmas`: no more kernel mappings (VMAs) for this guest's memories")]
    Guest {
        /// The limit.
        most: u64,
    },
    /// The store in hand is not the one that the memory belongs to.
    #[error("the window belongs to another store than the one in hand")]
    Foreign,
    /// The memory could not be restored earlier on.
    #[error("the memory could not be restored, and is out of use")]
    Broken,
    /// The kernel refused.
    #[error("the kernel refused the mapping")]
    System(#[from] io::Error),
}

/// A memory may be accessible beyond its size, because the kernel refused a growth and then
/// refused to undo it. The guest must not run on.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to grow a memory, and to undo the growth")]
pub struct Overgrown;

/// The place at which a guest wrote to a read-only window.
#[derive(Debug, Clone)]
pub(crate) struct ViolationSite {
    pub(crate) region: String,
    /// From the start of the region.
    pub(crate) offset: u64,
}

/// A window: a part of a memory that shows part of a region.
pub(super) struct MappedWindow {
    pub(super) end: usize,
    /// Distinguishes the window from later ones at the same address.
    key: u64,
    pub(super) file: Arc<RegionFile>,
    pub(super) offset: u64,
    pub(super) perms: Perms,
    /// Whether the kernel is advised to use huge pages. The same for the whole window, because
    /// adjacent mappings become one only if they are alike.
    huge: bool,
    /// The number of lends that mask it. Private zero pages stand there meanwhile.
    pub(super) masks: u32,
    /// The masked parts, which are unpinned. Private pages of the guest's own stand there. Parts
    /// that were masked at different times have different numbers, because the kernel may keep
    /// those apart even if they are adjacent.
    pub(super) holes: RangeMap<usize, u64>,
    pub(super) copies: Copies,
    observer: Box<dyn WindowObserver>,
}

/// The parts of a read-only window that are copies of the guest's own, because it wrote to the
/// window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    None,
    /// The kernel refused to replace the rest.
    Some,
    All,
}

impl MappedWindow {
    /// Returns the parts that show the region, unless a lend masks the whole window.
    fn runs(&self, start: usize) -> Vec<Range<usize>> {
        self.holes.gaps(&(start..self.end)).collect()
    }

    /// Returns how many VMAs the edges of unpinned parts add to the window that starts at
    /// `start`, from `range.start` to `range.end`, both included.
    fn vma_splits(&self, start: usize, range: &Range<usize>) -> u64 {
        let touching = range.start.saturating_sub(1)..range.end + 1;
        let holes = self.holes.overlapping(touching).map(|(hole, _)| hole);
        vma_splits(&(start..self.end), holes, range)
    }
}

#[derive(Default)]
pub(super) struct MemoryState {
    /// By first address.
    windows: BTreeMap<usize, MappedWindow>,
    /// Addresses at which windows ever began or ended.
    split_points: SplitPoints,
    /// The VMAs that windows add to the memory, at worst.
    vmas: VmaCharge,
    /// Counts how often parts of windows were masked.
    maskings: u64,
    /// The ranges of shared zero pages that are mapped nowhere else. They stand in for private
    /// pages that were refused.
    stand_ins: RangeSet<usize>,
    /// The ranges that could not be restored, and were made inaccessible.
    pub(super) closed: Vec<Range<usize>>,
    /// The ranges that could be neither restored nor made inaccessible.
    lost: Vec<Range<usize>>,
    broken: bool,
    /// The address at which the guest wrote to a read-only window.
    pub(super) violation: Option<usize>,
}

impl MemoryState {
    /// Counts VMA splits that are about to be made. The memory may have `most` in all.
    fn reserve_splits(&mut self, more: u64, most: u64) -> Result<(), MapError> {
        if more > 0 && self.vmas.count() + more > most {
            return Err(MapError::Guest { most });
        }
        Ok(self.vmas.more(more)?)
    }

    /// A window that was found before.
    fn window(&mut self, start: usize) -> &mut MappedWindow {
        self.windows.get_mut(&start).expect("it was found before")
    }

    fn covering(&self, address: usize) -> Option<(usize, &MappedWindow)> {
        let (start, window) = self.windows.range(..=address).next_back()?;
        (address < window.end).then_some((*start, window))
    }

    pub(super) fn covering_mut(&mut self, address: usize) -> Option<(usize, &mut MappedWindow)> {
        let (start, window) = self.windows.range_mut(..=address).next_back()?;
        (address < window.end).then_some((*start, window))
    }
}

/// A linear memory, as Tombolo knows it.
///
/// ```text
///   base                          base + size          base + RESERVATION
///   |  guest's pages  | window | guest's |  inaccessible  |  guard  |
///   |  private, zero  | shared |         |                |         |
///   +-----------------+--------+---------+----------------+---------+
/// ```
///
/// Windows are mapped and unmapped only inside the accessible part and with `MAP_FIXED`, and
/// never leave a hole. Unmapping instead would leave a gap that the kernel may fill with
/// anything, reachable by the guest.
///
/// Every operation on windows names the store in hand, which must be the one that had the first
/// window in the memory. So no wasm of that store runs and no slice of its memory is alive
/// meanwhile.
pub(crate) struct MemoryRecord {
    base: NonNull<u8>,
    /// The offsets of the zero pages that it came with, in ascending order.
    kept: Box<[usize]>,
    /// The length of the accessible part.
    size: AtomicUsize,
    /// The store's identity, 0 until the first window.
    pub(super) store: AtomicUsize,
    /// Whether Tombolo makes the calls into this store, and notes them in `entry`.
    pub(super) entered_by_us: AtomicBool,
    /// The store's mark, from the first window on. Set when the guest writes to a read-only
    /// window.
    pub(super) mark: OnceLock<Arc<StoreMark>>,
    /// The fault handler tries this lock and gives up if it is taken, so that no thread can wait
    /// for itself.
    pub(super) state: Mutex<MemoryState>,
}

// SAFETY: `base` is the address of a mapping of the process, no thread's own,
// and it is only handed out as a raw pointer or used under the rules above.
unsafe impl Send for MemoryRecord {}
// SAFETY: as above; all that changes is atomic or behind the mutex.
unsafe impl Sync for MemoryRecord {}

impl MemoryRecord {
    fn new(reservation: &Reservation, size: usize) -> MemoryRecord {
        MemoryRecord {
            base: reservation.base(),
            kept: reservation.kept().into(),
            size: AtomicUsize::new(size),
            store: AtomicUsize::new(0),
            entered_by_us: AtomicBool::new(false),
            mark: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    pub(crate) fn base(&self) -> usize {
        self.base.addr().get()
    }

    /// Returns the offsets of the zero pages that it came with, in ascending order.
    pub(super) fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Returns the length of the accessible part in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Returns how many VMAs windows add to the memory, at worst.
    pub(crate) fn vma_splits(&self) -> u64 {
        self.state().vmas.count()
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        // Nothing that panics runs under the lock. If it did, the record would still agree with
        // the mappings.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assigns the memory to a store, at its first window. Returns the store's mark.
    ///
    /// # Errors
    ///
    /// [`MapError::Foreign`] if it already belongs to another store.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        store: StoreId,
        entered_by_us: bool,
    ) -> Result<Arc<StoreMark>, MapError> {
        match self
            .store
            .compare_exchange(0, store.0.get(), Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => self.entered_by_us.store(entered_by_us, Ordering::Relaxed),
            Err(owner) if owner == store.0.get() => {}
            Err(_) => return Err(MapError::Foreign),
        }
        // The store is in hand, so no other thread does this meanwhile.
        let mark = self.mark.get_or_init(|| StoreMark::join(store, self));
        Ok(mark.clone())
    }

    pub(super) fn belongs_to(&self, store: StoreId) -> bool {
        self.store.load(Ordering::Acquire) == store.0.get()
    }

    fn check(&self, store: StoreId, state: &MemoryState) -> Result<(), MapError> {
        if !self.belongs_to(store) {
            return Err(MapError::Foreign);
        }
        if state.broken {
            Err(MapError::Broken)
        } else {
            Ok(())
        }
    }

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
        let huge = huge::fits(range.start, range.end - range.start, offset);
        let flags = MapFlags::SHARED;
        if let Err(error) = self.map_file(range.clone(), file, offset, perms, flags, huge) {
            // Kernels before 6.12 may have left a hole there.
            self.restore(&mut state, range)?;
            return Err(error.into());
        }
        state.stand_ins.remove(range.clone());
        state.windows.insert(
            range.start,
            MappedWindow {
                end: range.end,
                key,
                file: file.clone(),
                offset,
                perms,
                huge,
                masks: 0,
                holes: RangeMap::new(),
                copies: Copies::None,
                observer,
            },
        );
        Ok(())
    }

    fn find<'s>(
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
                Copies::None => protect(&runs, perms),
                // Maps the region's own pages again, instead of making the copies writable.
                Copies::Some | Copies::All => self.map_runs(state, start, &runs, perms),
            };
            if let Err(error) = changed {
                // Some parts may be changed already.
                let protected = copies == Copies::None && protect(&runs, before).is_ok();
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

    /// Maps parts of a window in the place of other pages.
    ///
    /// # Errors
    ///
    /// [`MapError`]. Parts before the one that the kernel refused are mapped then. That one
    /// contains private zero pages. Parts after it are unchanged.
    fn map_runs(
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
        self.restore(&mut state, range)?;
        // One mapping stands in for all its parts.
        state.vmas.less(vma_splits);
        Ok(state.windows.remove(&start).map(|window| window.observer))
    }

    pub(super) fn map_file(
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
                    file,
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
    fn restore(&self, state: &mut MemoryState, range: Range<usize>) -> Result<(), MapError> {
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
    fn restore_all(
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
    pub(super) fn map_zeros(&self, range: &Range<usize>, kind: MapFlags) -> io::Result<()> {
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
    pub(super) fn stand_ins(&self) -> RangeSet<usize> {
        self.state().stand_ins.clone()
    }

    /// Returns the place at which the guest wrote to a read-only window, if it did.
    pub(crate) fn violation(&self) -> Option<ViolationSite> {
        let state = self.state();
        describe(&state, state.violation?)
    }

    /// Returns the place that a store of wasm to this address would have written to, if that is in
    /// a read-only window.
    pub(crate) fn explain(&self, address: usize) -> Option<ViolationSite> {
        let state = self.state();
        let (_, window) = state.covering(address)?;
        let trapped = window.perms == Perms::Read && !window.holes.contains_key(&address);
        trapped.then(|| describe(&state, address))?
    }
}

/// Changes the permissions of parts of a window, each a VMA.
///
/// # Errors
///
/// The error of the kernel. Some of the parts may have changed then.
fn protect(runs: &[Range<usize>], perms: Perms) -> Result<(), MapError> {
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

fn describe(state: &MemoryState, address: usize) -> Option<ViolationSite> {
    let (start, window) = state.covering(address)?;
    Some(ViolationSite {
        region: window.observer.region(),
        offset: window.offset + (address - start) as u64,
    })
}

/// Wasmtime's object for a memory. The addresses are mapped until it is dropped.
struct MappableMemory {
    record: Arc<MemoryRecord>,
    /// `None` only while the memory is dropped.
    reservation: Option<Reservation>,
    /// The process that created it.
    process: Process,
}

impl MappableMemory {
    fn new(minimum: usize, reserved: usize, guard: usize) -> io::Result<MappableMemory> {
        let total = reserved
            .checked_add(guard)
            .ok_or_else(|| io::Error::other("the reservation overflows"))?;
        let reservation = Reservation::take(total, minimum)?;
        let record = Arc::new(MemoryRecord::new(&reservation, minimum));
        register(&record);
        let process = Process::current();
        Ok(MappableMemory {
            record,
            reservation: Some(reservation),
            process,
        })
    }
}

// SAFETY: the memory has the size, the capacity and the base that it says, the
// base never moves, it is zero at first, and the guard after the reservation
// stays inaccessible. Windows change the memory "outside of wasmtime invoked
// routines", which the contract forbids. They are mapped, changed and unmapped only
// with the store in hand, when wasmtime runs nothing in it and no slice of it is
// alive. While a window is mapped, the lock ensures that nobody writes to bytes that
// somebody else can see. The module's documentation and `docs/security.md` have the
// argument at length.
unsafe impl LinearMemory for MappableMemory {
    fn byte_size(&self) -> usize {
        self.record.size()
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > RESERVATION {
            wasmtime::bail!("a memory of {new_size} bytes does not fit its reservation");
        }
        let reservation = self.reservation.as_mut();
        let reservation = reservation.expect("it is there until the drop");
        if let Err(error) = reservation.grow(new_size) {
            return Err(match reservation.is_overgrown() {
                true => Overgrown.into(),
                false => error.into(),
            });
        }
        self.record.size.fetch_max(new_size, Ordering::Relaxed);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.record.base.as_ptr()
    }
}

impl Drop for MappableMemory {
    fn drop(&mut self) {
        forget(self.record.base());
        if let Some(mark) = self.record.mark.get() {
            mark.leave(&self.record);
        }
        let mut state = self.record.state();
        if let Some(reservation) = self.reservation.take() {
            // In a child the addresses may be inaccessible, with nothing to clean.
            if state.broken || self.process.check().is_err() {
                reservation.leave(std::mem::take(&mut state.lost));
            } else {
                reservation.retire(state.split_points.first());
            }
        }
        // The splits are gone.
        state.vmas = VmaCharge::default();
        let windows = std::mem::take(&mut state.windows);
        drop(state);
        // The locks are released only now, when no memory shows the regions.
        for window in windows.into_values() {
            window.observer.memory_gone();
        }
    }
}

/// The creator of the linear memories of an engine.
pub(crate) struct Creator;

// SAFETY: the memories are reserved with the guard that wasmtime asks for, and
// are zero: fresh anonymous pages, or pages that were overwritten with zeros.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved_size_in_bytes != Some(RESERVATION) {
            return Err(format!(
                "linear memories are reserved with {RESERVATION:#x} bytes, not {}",
                reserved_size_in_bytes.map_or("as it comes".into(), |size| format!("{size:#x}")),
            ));
        }
        if minimum > RESERVATION {
            return Err(format!(
                "a memory of {minimum} bytes does not fit its reservation"
            ));
        }
        let memory = MappableMemory::new(minimum, RESERVATION, guard_size_in_bytes)
            .map_err(|error| format!("cannot reserve a linear memory: {error}"))?;
        Ok(Box::new(memory))
    }
}

#[cfg(test)]
mod tests;
