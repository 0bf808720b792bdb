//! The fault handler's answer to a guest that writes to its read-only window.
//!
//! One `mmap` with `MAP_FIXED` replaces the whole window by private writable copies. Page by
//! page, a guest could cause one VMA per fault. The range is exactly one window, whose ends were
//! counted when it was mapped, so no new VMA is needed. If parts are unpinned, there is one
//! `mmap` for each part between them. A part that the kernel refuses is tried again when the
//! guest writes to it.
//!
//! Private copies count against `RLIMIT_DATA`. If it or `RLIMIT_AS` is set, or the copies are
//! refused, shared zero pages replace the window's pages. They are mapped nowhere else, and no
//! limit counts them. If those are refused too, both are tried 1000 times, a millisecond apart.
//! Then the process ends with a line that says why.
//!
//! If the guest goes on, no window stays half copied: pinning a part maps all of it again.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, TryLockError};

use rustix::mm::MapFlags;
use rustix::thread::{Timespec, nanosleep};

use super::record::{Copies, MappedWindow, MemoryRecord, MemoryState, Perms};
use super::{allowance, entry};

/// The outcome of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absorbed {
    /// The access can be made again, and harms nobody.
    Yes,
    /// No window of the store that this thread is in explains it.
    Unexplained,
    /// A window explains it, and the kernel refuses every remedy again and again.
    Refused,
}

/// The number of attempts, a millisecond apart. A guest cannot use up the resources for this,
/// because no limit of the process counts them. So a refusal lasts for a moment only.
const ROUNDS: u32 = 1000;

impl MemoryRecord {
    /// Returns the state, for the fault handler, if its lock is free. Otherwise another
    /// thread has the lock for an instant, or this one by a bug, which must not hang.
    fn state_if_free(&self) -> Option<MutexGuard<'_, MemoryState>> {
        (0..100_000).find_map(|_| match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => {
                std::hint::spin_loop();
                None
            }
        })
    }

    /// Called by the fault handler. If a read-only window of the store that this thread is in
    /// explains the fault, lets the access succeed on copies of the window's pages, and notes it.
    ///
    /// Async-signal-safe: tries a lock, searches a tree, makes system calls, and stores two
    /// values.
    pub(super) fn absorb(&self, address: usize) -> Absorbed {
        let owner = self.store.load(Ordering::Acquire);
        if self.entered_by_us.load(Ordering::Relaxed)
            && entry::current().is_none_or(|current| current.number() != owner)
        {
            return Absorbed::Unexplained;
        }
        let Some(mut state) = self.state_if_free() else {
            return Absorbed::Unexplained;
        };
        // The memory could not be restored, and the embedder runs its store on.
        if let Some(closed) = state.closed.iter().find(|range| range.contains(&address)) {
            let zeros = |kind| self.map_zeros(closed, kind).is_ok();
            return again_and_again(|| zeros(MapFlags::PRIVATE) || zeros(MapFlags::SHARED));
        }
        let Some((start, window)) = state.covering_mut(address) else {
            return Absorbed::Unexplained;
        };
        if window.perms != Perms::Read
            || window.masks > 0
            || window.copies == Copies::All
            || window.holes.contains_key(&address)
        {
            return Absorbed::Unexplained;
        }
        // Masked parts are left alone: they are the guest's own, and can be written to. (Going
        // through the gaps allocates nothing.)
        let whole = start..window.end;
        let runs = || window.holes.gaps(&whole);
        let mut absorbed = Absorbed::Unexplained;
        for run in runs().filter(|run| run.contains(&address)) {
            // Without this part the thread cannot go on.
            absorbed = again_and_again(|| self.copy(start, window, &run));
        }
        let mut copies = Copies::All;
        for run in runs().filter(|run| !run.contains(&address)) {
            if !self.copy(start, window, &run) {
                // A fault there asks again.
                copies = Copies::Some;
            }
        }
        window.copies = match absorbed {
            Absorbed::Yes => copies,
            _ => Copies::Some,
        };
        state.violation = Some(address);
        if let Some(mark) = self.mark.get() {
            mark.raise();
        }
        absorbed
    }

    /// Replaces a part of a window by pages of the guest's own: by private copies, or by
    /// shared zero pages that nobody else has. The latter are used if RLIMIT_DATA or
    /// RLIMIT_AS is set, or if the kernel refuses the copies. No limit counts them, and they
    /// take no more addresses or mappings than the pages that they replace.
    fn copy(&self, start: usize, window: &MappedWindow, run: &Range<usize>) -> bool {
        let copy = || {
            self.map_file(
                run.clone(),
                &window.file,
                window.offset + (run.start - start) as u64,
                Perms::Write,
                // Paid for page by page, as the rest of the memory: the kernel may refuse
                // so large a mapping otherwise.
                MapFlags::PRIVATE | MapFlags::NORESERVE,
                false,
            )
        };
        (!allowance::is_limited() && copy().is_ok())
            || self.map_zeros(run, MapFlags::SHARED).is_ok()
    }
}

/// Asks the kernel until it has granted the request, or [`ROUNDS`] times.
fn again_and_again(mut ask: impl FnMut() -> bool) -> Absorbed {
    for _ in 0..ROUNDS {
        if ask() {
            return Absorbed::Yes;
        }
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        // It may end early, by a signal.
        let _ = nanosleep(&pause);
    }
    Absorbed::Refused
}
