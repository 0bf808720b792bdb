//! Files of ended regions that later regions use again.
//!
//! A new file costs a fault, a page and its zeroing at the first write to each page: 1.1 to 2.7
//! us. So the file of a region that ended in order is kept, with its pages and its parked
//! mappings. The next region of that length gets it. `memset` through a parked mapping zeroes
//! the pages that the kernel has allocated, in about 15 ns each. The others are zero anyway, and
//! stay unallocated. A file to which nobody could write since it was all zero is not zeroed.
//!
//! # Which files
//!
//! A file is kept when the last reference to it is dropped, so no window, guard or copy of this
//! process shows it any more. It must be short ([`SHORT`]), or have a parked mapping of all of it
//! that is writable: zeroing without one would take too long. The kernel must have allocated some
//! of it, and at most [`MOST_ZEROED`], so that zeroing is bounded. The layer above keeps no file
//! of a region that was poisoned or frozen, and none under memory pressure.
//!
//! A pool keeps all files, however large: the host program chose their length.
//!
//! A [`Recycler`] keeps at most [`SLOTS`] files, or one in sixteen of the process's descriptors,
//! and as many bytes as the layer above permits. Their length counts, touched or not. The oldest
//! make room, but a drop frees no more bytes than the new file has, or [`SHORT`]. A file that is
//! not used for [`DISUSED`] is closed by the next drop of a region, or by the thread that keeps
//! the margin.
//!
//! # Safety
//!
//! The next holder sees no byte of an earlier one:
//! - Zeroing ends before the file has a region. Nobody else writes meanwhile, because nothing
//!   refers to the file, and parked mappings are accessible to this module alone.
//! - Zeroing is left out only for a file that was new or all zero, and of which nobody asked for a
//!   writable mapping or a write since (see `memfd`).
//! - If unmapping ever fails, a mapping of some file may be left behind. Then nothing is recycled
//!   in this process any more (see `unmap`).
//! - A child of `fork` has copies of all mappings, guards of the host program included. So files
//!   that existed at a fork are not recycled. A [`Generation`] tells. A raw `clone` and `_Fork` are
//!   not noticed; see `docs/security.md`.
//! - A child recycles nothing of its parent's.
//!
//! Nothing is recycled if `RLIMIT_DATA` or `RLIMIT_AS` was set at the start.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tombolo_region::{Budget, CommitCharge, Exhausted, GRANULE, Span, SpareCharge};

use super::memfd::{MemoryFile, ZEROS, file_size_limit};
use super::parking::{self, Shape};
use super::{allowance, forked, unmap};

/// The most files that a recycler keeps.
const SLOTS: usize = 64;

/// The length up to which a file is kept without a mapping, and zeroed by system calls.
const SHORT: u64 = 1 << 20;

/// The most bytes that the kernel has allocated for a kept file. Zeroing them takes about 5 ms if
/// the parked mapping has no page tables, and less otherwise.
const MOST_ZEROED: u64 = 16 << 20;

/// The time after which a file is closed.
const DISUSED: Duration = Duration::from_secs(10);

/// Whether the C library does not call [`before_fork`].
static FORKS_UNNOTICED: AtomicBool = AtomicBool::new(false);

/// Twice the number of forks so far, or more while one is under way.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// The number of forks that are under way.
static FORKING: AtomicU64 = AtomicU64::new(0);

fn is_on() -> bool {
    !unmap::is_left_behind() && !FORKS_UNNOTICED.load(Ordering::SeqCst) && !allowance::look()
}

extern "C" fn before_fork() {
    FORKING.fetch_add(1, Ordering::SeqCst);
    FORKS.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    FORKING.fetch_sub(1, Ordering::SeqCst);
}

/// A time between two forks of the process.
///
/// A file remembers it from before anything could map it. If it has passed, a child may have a
/// mapping of the file. The count changes before the fork and after it. So a file from in between
/// is taken to be older, and nothing is recycled in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl Generation {
    pub(super) fn current() -> Generation {
        static NOTICED: OnceLock<()> = OnceLock::new();
        NOTICED.get_or_init(|| {
            let after = Some(after_fork as extern "C" fn());
            if forked::at_fork(Some(before_fork), after, after).is_err() {
                FORKS_UNNOTICED.store(true, Ordering::SeqCst);
            }
        });
        Generation(FORKS.load(Ordering::SeqCst))
    }

    /// Returns whether the process has not forked since.
    fn lasts(self) -> bool {
        // In this order: a fork that has begun changes the count first or counts as under way.
        FORKING.load(Ordering::SeqCst) == 0 && self == Generation::current()
    }
}

/// A file without a region.
#[derive(Debug)]
pub(crate) struct KeptFile {
    memory: MemoryFile,
    generation: Generation,
    since: Instant,
    /// The bytes that the kernel has allocated.
    allocated: u64,
    /// Dropped after the file. `None` in a pool, which is charged as a whole, and once a region
    /// is to have the file.
    charge: Option<SpareCharge>,
    resident: Option<Resident>,
}

/// Bytes of a committed file that no region has, and for which the kernel has allocated memory,
/// until this is dropped.
#[derive(Debug)]
struct Resident {
    of_all: Arc<AtomicU64>,
    bytes: u64,
}

impl Resident {
    fn new(of_all: &Arc<AtomicU64>, bytes: u64) -> Resident {
        of_all.fetch_add(bytes, Ordering::SeqCst);
        Resident {
            of_all: of_all.clone(),
            bytes,
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// The files of a host's ended regions. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct Recycler {
    /// The file that was kept last is at the back.
    files: Mutex<VecDeque<KeptFile>>,
    most_files: usize,
    most_bytes: u64,
    /// A pool's charge to the budget, without those of its taken regions. `None` without a pool,
    /// and once the pool is closed. Locked with `files` or alone.
    reserve: Mutex<Option<CommitCharge>>,
    is_pool: bool,
    /// The bytes of all [`Resident`]s of the host.
    resident: Arc<AtomicU64>,
}

impl Recycler {
    /// Creates a recycler that keeps files of so many bytes in all.
    pub(crate) fn new(most_bytes: u64) -> Recycler {
        // So that each fork is noticed from here on.
        Generation::current();
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Recycler {
            files: Mutex::default(),
            most_files: usize::try_from(descriptors / 16).map_or(SLOTS, |most| most.min(SLOTS)),
            most_bytes,
            reserve: Mutex::new(None),
            is_pool: false,
            resident: Arc::default(),
        }
    }

    /// Creates a recycler for a pool of so many files, with a commit for all of them, on the host
    /// that has this recycler.
    pub(crate) fn for_pool(&self, count: usize, commit: CommitCharge) -> Recycler {
        Recycler {
            resident: self.resident.clone(),
            files: Mutex::default(),
            most_files: count,
            most_bytes: u64::MAX,
            reserve: Mutex::new(Some(commit)),
            is_pool: true,
        }
    }

    /// Returns the bytes of committed files for which the kernel has allocated memory, and that no
    /// region has: those of the host's pools, and those that a region is about to get.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::SeqCst)
    }

    fn reserve(&self) -> MutexGuard<'_, Option<CommitCharge>> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a charge for a region of the pool. Memory that its holders have let go of is
    /// committed again.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if the budget has no room for that.
    pub(crate) fn commit(
        &self,
        budget: &Arc<Budget>,
        granules: u64,
    ) -> Result<CommitCharge, Exhausted> {
        let reserved = self.reserve().as_mut().map(|it| it.split(granules));
        let mut commit = reserved.unwrap_or_else(|| CommitCharge::none(budget));
        match granules - commit.granules() {
            0 => {}
            missing => match budget.commit(missing) {
                Ok(more) => commit.merge(more),
                Err(exhausted) => {
                    self.give_back(commit);
                    return Err(exhausted);
                }
            },
        }
        Ok(commit)
    }

    /// Takes a charge back from a region of the pool, with or without a file.
    pub(crate) fn give_back(&self, commit: CommitCharge) {
        if let Some(reserve) = &mut *self.reserve() {
            reserve.merge(commit);
        }
    }

    /// Closes all files of a pool, and each one that comes back later.
    pub(crate) fn close(&self) {
        let mut files = self.files();
        let closed = (std::mem::take(&mut *files), self.reserve().take());
        drop(files);
        // Without the lock, because this makes system calls. The files first.
        drop(closed);
    }

    /// Keeps a file of the pool, or closes it.
    fn keep_in_pool(&self, file: KeptFile) {
        let mut files = self.files();
        if self.reserve().is_some() {
            return files.push_back(file);
        }
        drop(files);
        // Without the lock, because this makes system calls.
        drop(file);
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<KeptFile>> {
        // Nothing that panics runs under the lock.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a file that nothing shows any more, or closes it. The charge ends with its memory.
    pub(super) fn keep(
        &self,
        memory: MemoryFile,
        generation: Generation,
        commit: CommitCharge,
        is_fit: bool,
    ) {
        let allocated = match is_fit && is_keepable(&memory, generation) {
            true => memory.allocated().ok(),
            false => None,
        };
        let length = memory.length();
        let is_kept = |bytes: &u64| {
            self.is_pool || length <= self.most_bytes && (1..=MOST_ZEROED).contains(bytes)
        };
        let Some(allocated) = allocated.filter(is_kept) else {
            // In this order: memory is free before the budget counts it so.
            drop(memory);
            return self.give_back(commit);
        };
        let mut file = KeptFile {
            memory,
            generation,
            since: Instant::now(),
            allocated,
            charge: None,
            resident: None,
        };
        if self.is_pool {
            file.resident = Some(Resident::new(&self.resident, allocated));
            self.keep_in_pool(file);
            return self.give_back(commit);
        }
        match commit.into_spare(length / GRANULE) {
            Ok(charge) => file.charge = Some(charge),
            Err(commit) => {
                drop(file);
                return drop(commit);
            }
        }
        let mut closed = Vec::new();
        let mut files = self.files();
        // Under the lock: a host that pauses closes its files afterwards.
        if !parking::is_paused() && self.make_room(&mut files, length, &mut closed) {
            files.push_back(file);
        } else {
            closed.push(file);
        }
        drop(files);
        // Without the lock, because this makes system calls.
        drop(closed);
    }

    /// Removes the oldest files until one of this length fits. Returns whether it does.
    fn make_room(
        &self,
        files: &mut VecDeque<KeptFile>,
        length: u64,
        removed: &mut Vec<KeptFile>,
    ) -> bool {
        let mut bytes: u64 = files.iter().map(|it| it.memory.length()).sum();
        let mut may_free = length.max(SHORT);
        while let Some(oldest) = files.front() {
            let is_full = files.len() >= self.most_files || bytes + length > self.most_bytes;
            if !is_full && oldest.since.elapsed() < DISUSED {
                break;
            }
            let Some(left) = may_free.checked_sub(oldest.memory.length()) else {
                return !is_full;
            };
            may_free = left;
            bytes -= oldest.memory.length();
            removed.extend(files.pop_front());
        }
        self.most_files > 0 && bytes + length <= self.most_bytes
    }

    /// Returns whether a file is kept for regions of so many bytes.
    pub(crate) fn has(&self, size: u64) -> bool {
        let length = Span::whole(size).length();
        self.files().iter().any(|it| it.memory.length() == length)
    }

    /// Takes the file of this length that was kept last, for a region of so many bytes.
    pub(crate) fn take(&self, size: u64) -> Option<KeptFile> {
        let length = Span::whole(size).length();
        let mut files = self.files();
        let found = files.iter().rposition(|it| it.memory.length() == length)?;
        let file = files.remove(found)?;
        drop(files);
        Some(file).filter(|it| is_on() && it.generation.lasts())
    }

    /// Exchanges the charge of a taken file for a commit. From now on its memory counts as that of
    /// a region does. `None` if the budget has no room for that.
    pub(crate) fn exchange(&self, file: &mut KeptFile) -> Option<CommitCharge> {
        match file.charge.take()?.into_commit() {
            Ok(commit) => {
                file.resident = Some(Resident::new(&self.resident, file.allocated));
                Some(commit)
            }
            Err(charge) => {
                file.charge = Some(charge);
                None
            }
        }
    }

    /// Closes files until so many bytes are free or none are left, the oldest first. Returns how
    /// many bytes were freed. Takes about 0.1 s for each GiB.
    pub(crate) fn give_up(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            // The lock is not held while a file is closed.
            let oldest = self.files().pop_front();
            let Some(oldest) = oldest else {
                break;
            };
            freed += oldest.memory.length();
        }
        freed
    }

    /// Closes files that were not used for long.
    pub(crate) fn give_up_disused(&self) {
        let is_disused = |it: &mut KeptFile| it.since.elapsed() >= DISUSED;
        loop {
            let oldest = self.files().pop_front_if(is_disused);
            if oldest.is_none() {
                return;
            }
        }
    }
}

fn is_keepable(memory: &MemoryFile, generation: Generation) -> bool {
    memory.check_process().is_ok()
        && is_on()
        && generation.lasts()
        && (memory.length() <= SHORT || whole(memory).is_some_and(parking::has))
}

/// Returns the shape of a writable mapping of a whole file.
fn whole(memory: &MemoryFile) -> Option<Shape> {
    Some(Shape {
        file: memory.number(),
        offset: 0,
        length: usize::try_from(memory.length()).ok()?,
        is_writable: true,
    })
}

impl KeptFile {
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the bytes for which the kernel has not allocated memory.
    pub(crate) fn unallocated(&self) -> u64 {
        self.memory.length().saturating_sub(self.allocated)
    }

    /// Overwrites what the last region has written with zeros.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it, or the mapping that this takes is gone.
    pub(super) fn zeroed(mut self) -> io::Result<MemoryFile> {
        if !self.memory.is_untouched() {
            self.zero()?;
            self.memory.note_zeroed();
        }
        Ok(self.memory)
    }

    fn zero(&self) -> io::Result<()> {
        // Not what it was: the kernel may have made huge pages since.
        let allocated = self.memory.allocated()?;
        if allocated == 0 {
            return Ok(());
        }
        let shape = whole(&self.memory);
        if let Some(shape) = shape
            && let Some((shape, at, vmas)) = parking::take(shape)
        {
            let zeroed = each_run(&self.memory, allocated, |start, end| {
                let [start, end] = [start, end].map(usize::try_from);
                let (start, end) = (start.map_err(invalid)?, end.map_err(invalid)?);
                let start = at + start..at + end;
                let base = std::ptr::with_exposed_provenance_mut::<u8>(start.start);
                // SAFETY: the mapping shows the whole file, is writable, and was just taken out
                // of those that are parked. The file has no region, so nothing refers to its
                // bytes. The run lies inside of the file, as `each_run` promises.
                unsafe { std::ptr::write_bytes(base, 0, start.end - start.start) };
                Ok(())
            });
            // SAFETY: as above; it is the same mapping.
            unsafe { parking::put(shape, at, vmas) };
            return zeroed;
        }
        if self.memory.length() > SHORT.min(file_size_limit()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        each_run(&self.memory, allocated, |start, end| {
            for part in (start..end).step_by(ZEROS.len()) {
                let length = usize::try_from(end - part).map_err(invalid)?;
                self.memory.write(part, &ZEROS[..length.min(ZEROS.len())])?;
            }
            Ok(())
        })
    }
}

fn invalid(_: std::num::TryFromIntError) -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Calls `act` with the first and the last offset of each run of pages that the kernel has
/// allocated for a file. `allocated` is how many bytes these are.
fn each_run(
    memory: &MemoryFile,
    allocated: u64,
    mut act: impl FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    let length = memory.length();
    if allocated >= length {
        return act(0, length);
    }
    let mut offset = 0;
    while offset < length
        && let Some((start, end)) = memory.data(offset)?
    {
        act(start, end.min(length))?;
        offset = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Recycler {
        /// Returns the number of files.
        pub(crate) fn count(&self) -> usize {
            self.files().len()
        }

        /// Makes all files look as if they were kept long ago.
        pub(crate) fn age(&self) {
            for file in self.files().iter_mut() {
                file.since -= DISUSED;
            }
        }
    }
}
