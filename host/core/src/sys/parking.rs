//! Parked mappings: page tables that outlive a window.
//!
//! A window that is mapped anew faults for the pages that its guest touches, although they are
//! resident: about 130 ns a page. So the mapping of a window that ends is not thrown away.
//! `mremap` moves it, with its page table entries, to addresses that only the host knows, and the
//! guest's memory gets zero pages as before. The next window on the same part of the same file
//! with the same permissions takes the mapping over, and faults nowhere. Both moves together take
//! about 4 us if the addresses are equally far from a multiple of 2 MiB, and 30 ns a page more
//! otherwise.
//!
//! Views of the host program stay where they are, and are parked from one granule on, because
//! that takes no system call. They map the whole file, up to [`MOST_VIEW`], so that any next one
//! can use the mapping.
//!
//! # Which mappings
//!
//! Mappings from [`least`] bytes on, of windows of which nothing was masked, unpinned or copied,
//! and without huge pages. The guest must have touched the first granule: otherwise the tables are
//! taken to be empty, and moving them would cost more than it saves. A process parks at most
//! [`SLOTS`] mappings and [`MOST_BYTES`] bytes, and as many views below [`LEAST`]. The one that was
//! parked longest ago makes room, and so do those that overlap the new one. So no guest multiplies
//! the page tables of a file. Mappings go with their file, with the memory that parked them, when
//! the region is frozen, and when memory pressure is reported. Nothing is parked as long as a host
//! is under pressure, if `RLIMIT_DATA` or `RLIMIT_AS` was set at the start, if the kernel cannot
//! move shared mappings (before Linux 5.13), or after it refused to take one back.
//!
//! # Safety
//!
//! A parked mapping shows bytes that the ledger's lock does not cover. Nobody accesses it:
//! - It lies outside of all linear memories. No guest can form the address, and nothing of the
//!   host reads or writes there, except that `recycling` overwrites a file that has no region.
//! - Its permissions are those of its window. A window takes it over only with the same
//!   permissions, after the ledger has granted them.
//! - Hole punching removes its page table entries, as those of each mapping. So purged bytes stay
//!   purged, and cost nothing.
//!
//! Parking uses `MREMAP_DONTUNMAP` and leaves the choice of the address to the kernel. So the old
//! mapping stays, without pages, until zero pages replace it, and nothing else is replaced. Taking
//! over unmaps the destination, and then moves the mapping there. If the kernel has no memory for
//! the move, there is a hole. It is filled with `MAP_FIXED_NOREPLACE`. If something is there
//! already, it may be somebody else's, and the range is never used again.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{
    MapFlags, MremapFlags, MsyncFlags, ProtFlags, mmap, mmap_anonymous, mremap_fixed, msync,
};
use tombolo_region::GRANULE;

use super::allowance;
use super::kernel::{ask, page_size};
use super::pagemap::{self, ENTRY, PRESENT, SWAPPED};
use super::unmap::unmap;
use super::vmas::VmaCharge;

/// The most mappings that are parked at a time.
const SLOTS: usize = 64;

/// The most bytes that parked mappings show. Their page tables take one part in 512 of it, and to
/// drop them all takes about 30 ms.
const MOST_BYTES: usize = 512 << 20;

/// The length from which a window is parked by default. Below it, faults cost less than moves.
const LEAST: usize = 256 << 10;

/// The length up to which a view of a part maps the whole file, so that the next one finds it.
const MOST_VIEW: u64 = 64 << 20;

/// The bytes that one page of page tables maps. Mappings that are equally far from a multiple of
/// it move a page of page tables at a time, and others entry by entry.
const TABLE: usize = 2 << 20;

/// The environment variable that replaces [`LEAST`]: a number of bytes, or `off`.
const VARIABLE: &str = "TOMBOLO_PARK_FROM";

/// The part of a file that a mapping shows, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The identity of the file. No other file of this process ever has it.
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) is_writable: bool,
}

impl Shape {
    /// Returns whether this shows all that the other one does, with the same permissions.
    fn covers(&self, other: &Shape) -> bool {
        let end = |shape: &Shape| shape.offset + shape.length as u64;
        (self.file, self.is_writable) == (other.file, other.is_writable)
            && self.offset <= other.offset
            && end(other) <= end(self)
    }

    /// Returns whether both show some of the same bytes, with the same permissions.
    fn overlaps(&self, other: &Shape) -> bool {
        let end = |shape: &Shape| shape.offset + shape.length as u64;
        (self.file, self.is_writable) == (other.file, other.is_writable)
            && self.offset < end(other)
            && other.offset < end(self)
    }
}

/// The outcome of an attempt to take over a parked mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unparked {
    /// The window is mapped.
    Yes,
    /// Nothing has changed.
    No,
    /// The range may have another mapping, of anybody, and must not be used again.
    Lost,
}

/// A parked mapping. Dropping it unmaps it.
#[derive(Debug)]
struct Parked {
    shape: Shape,
    at: usize,
    /// The base of the linear memory that it comes from, or 0 if it was a view.
    memory: usize,
    vmas: VmaCharge,
}

impl Parked {
    /// Returns the address and the charge, because the mapping is no longer parked.
    fn into_parts(mut self) -> (usize, VmaCharge) {
        let parts = (self.at, std::mem::take(&mut self.vmas));
        std::mem::forget(self);
        parts
    }

    /// Returns whether it competes with another mapping for the same slots.
    fn is_like(&self, shape: Shape) -> bool {
        (self.shape.length < LEAST) == (shape.length < LEAST)
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // SAFETY: the mapping is this module's, and nothing refers to it.
        let unmapped = unsafe { unmap(self.at..self.at + self.shape.length) };
        if !unmapped {
            // The kernel has as many VMAs as before.
            std::mem::forget(std::mem::take(&mut self.vmas));
        }
    }
}

/// The parked mappings, and addresses where some were.
struct Parking {
    /// The one that was parked last is at the back.
    mappings: VecDeque<Parked>,
    /// Lengths and addresses of mappings that were taken over lately, where the next of that
    /// length may go.
    vacated: VecDeque<(usize, usize)>,
}

static PARKING: Mutex<Parking> = Mutex::new(Parking {
    mappings: VecDeque::new(),
    vacated: VecDeque::new(),
});

/// The number of [`Pause`]s.
static PAUSES: AtomicUsize = AtomicUsize::new(0);

/// A time in which nothing is parked: until this is dropped.
#[derive(Debug)]
pub(crate) struct Pause(());

impl Pause {
    pub(crate) fn new() -> Pause {
        PAUSES.fetch_add(1, Ordering::SeqCst);
        Pause(())
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        PAUSES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the kernel refused to take a mapping back. Then nothing is parked any more.
static REFUSED: AtomicBool = AtomicBool::new(false);

fn parking() -> MutexGuard<'static, Parking> {
    // Nothing that panics runs under the lock.
    PARKING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Parking {
    /// Removes the mappings that `is_removed` selects, for the caller to drop without the lock.
    fn remove(&mut self, is_removed: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        if !self.mappings.iter().any(&is_removed) {
            return Vec::new();
        }
        let (removed, kept): (Vec<Parked>, Vec<Parked>) =
            self.mappings.drain(..).partition(is_removed);
        self.mappings.extend(kept);
        removed
    }

    /// Removes what overlaps this mapping, and then the oldest until there is room for it.
    fn make_room(&mut self, shape: Shape) -> Vec<Parked> {
        let mut removed = self.remove(|parked| parked.shape.overlaps(&shape));
        let alike = self.mappings.iter().filter(|it| it.is_like(shape));
        let (mut count, mut bytes) = alike.fold((0, 0), |(count, bytes), it| {
            (count + 1, bytes + it.shape.length)
        });
        while count >= SLOTS || bytes + shape.length > MOST_BYTES {
            let oldest = self.mappings.iter().position(|it| it.is_like(shape));
            let Some(oldest) = oldest.and_then(|at| self.mappings.remove(at)) else {
                break;
            };
            count -= 1;
            bytes -= oldest.shape.length;
            removed.push(oldest);
        }
        removed
    }

    /// Returns an address where a mapping of this length was, from which one at `start` moves
    /// fast.
    fn vacated(&mut self, length: usize, start: usize) -> Option<usize> {
        let fits = |(was, at): &(usize, usize)| *was == length && at % TABLE == start % TABLE;
        let found = self.vacated.iter().position(fits)?;
        self.vacated.remove(found).map(|(_, at)| at)
    }
}

/// Returns the length from which windows are parked, or `usize::MAX` if none are.
pub(super) fn least() -> usize {
    static LEAST_OF_PROCESS: OnceLock<usize> = OnceLock::new();
    if REFUSED.load(Ordering::Relaxed) {
        return usize::MAX;
    }
    *LEAST_OF_PROCESS.get_or_init(|| {
        let least = match std::env::var(VARIABLE).as_deref() {
            Ok("off") => usize::MAX,
            Ok(bytes) => bytes.parse().unwrap_or_else(|_| {
                tracing::warn!("{VARIABLE} is neither a number of bytes nor `off`: {LEAST} holds");
                LEAST
            }),
            Err(_) => LEAST,
        };
        match least < usize::MAX && !allowance::look() && probe().unwrap_or(false) {
            true => least,
            false => usize::MAX,
        }
    })
}

/// Parks the mapping of a window that is about to end, at `start` in the linear memory with this
/// base. Whether it does or not, the range still shows the file, and zero pages have to replace
/// it.
///
/// # Safety
///
/// The range is one window of this shape, and nothing refers to it.
pub(super) unsafe fn park(shape: Shape, memory: usize, start: usize) {
    let fits = (least()..=MOST_BYTES).contains(&shape.length);
    if !fits || is_paused() || !is_touched(start) {
        return;
    }
    let (removed, hint) = {
        let mut parking = parking();
        (
            parking.make_room(shape),
            parking.vacated(shape.length, start),
        )
    };
    // Without the lock, because this makes system calls.
    drop(removed);
    let Some(hint) = hint.or_else(|| free_address(shape.length, start)) else {
        return;
    };
    let Ok(vmas) = VmaCharge::take(1) else {
        return;
    };
    // SAFETY: the caller guarantees the window.
    if let Some(at) = unsafe { copy_tables(start, shape.length, hint) } {
        parking().mappings.push_back(Parked {
            shape,
            at,
            memory,
            vmas,
        });
    }
}

/// Returns whether a page of the granule at `start` is in the page tables. Takes one system call.
fn is_touched(start: usize) -> bool {
    static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
    let Some(map) = PAGEMAP.get_or_init(|| pagemap::open().ok()) else {
        return true;
    };
    // As many as a granule has pages of 4 KiB.
    let mut entries = [0; 16 * ENTRY];
    let pages = GRANULE as usize / page_size();
    let entries = &mut entries[..pages * ENTRY];
    let is_there = |entry: &[u8; ENTRY]| u64::from_ne_bytes(*entry) & (PRESENT | SWAPPED) != 0;
    pagemap::read(map, start, entries).is_ok()
        && entries.as_chunks::<ENTRY>().0.iter().any(is_there)
}

/// Returns an address that is free now, from which a mapping at `start` moves fast.
fn free_address(length: usize, start: usize) -> Option<usize> {
    let total = length.checked_add(2 * TABLE)?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let base = ask(|| {
        // SAFETY: the kernel chooses the address, so that nothing that exists is replaced.
        unsafe { mmap_anonymous(std::ptr::null_mut(), total, ProtFlags::empty(), flags) }
    });
    let base = base.ok()?.addr();
    // SAFETY: the range was mapped here, and nobody else knows of it.
    unsafe { unmap(base..base + total) };
    Some(base.next_multiple_of(TABLE) + start % TABLE)
}

/// Moves the page tables of a mapping to a new mapping, at the hint if that is free. The old
/// mapping stays, without pages. Returns the address, or `None` if nothing has changed.
///
/// # Safety
///
/// The range is one mapping of a file, and nothing refers to it.
unsafe fn copy_tables(start: usize, length: usize, hint: usize) -> Option<usize> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    let [start, hint] = [start, hint].map(std::ptr::with_exposed_provenance_mut::<c_void>);
    let moved = ask(|| {
        // SAFETY: the caller guarantees the range. Without `MREMAP_FIXED` nothing is replaced at
        // the hint. (rustix passes no hint.)
        let at = unsafe { libc::mremap(start, length, length, flags, hint) };
        match at {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            at => Ok(at),
        }
    });
    Some(moved.ok()?.expose_provenance())
}

/// Takes a parked mapping of this shape out of the list, if there is one.
fn find(shape: Shape) -> Option<Parked> {
    let mappings = &mut parking().mappings;
    let found = mappings.iter().rposition(|parked| parked.shape == shape);
    found.and_then(|at| mappings.remove(at))
}

/// Returns whether a host is under memory pressure, so that nothing is parked.
pub(super) fn is_paused() -> bool {
    PAUSES.load(Ordering::SeqCst) > 0
}

/// Returns whether a mapping of this shape is parked.
pub(super) fn has(shape: Shape) -> bool {
    let mappings = &parking().mappings;
    mappings.iter().any(|parked| parked.shape == shape)
}

/// Takes over a parked mapping that shows all that this one would, if there is one, where it is.
/// Returns its shape and its address, which belongs to the caller from now on.
pub(super) fn take(shape: Shape) -> Option<(Shape, usize, VmaCharge)> {
    let mappings = &mut parking().mappings;
    let found = mappings
        .iter()
        .rposition(|parked| parked.shape.covers(&shape));
    let parked = found.and_then(|at| mappings.remove(at))?;
    let shape = parked.shape;
    let (at, vmas) = parked.into_parts();
    Some((shape, at, vmas))
}

/// Returns whether views of whole files of this length are worth it, because they are parked.
pub(super) fn parks_views(length: u64) -> bool {
    length <= MOST_VIEW && least() < usize::MAX && !is_paused()
}

/// Parks a mapping where it is, or unmaps it if nothing is parked in this process.
///
/// # Safety
///
/// The mapping at `at` has this shape, belongs to the caller, and nothing refers to it.
pub(super) unsafe fn put(shape: Shape, at: usize, vmas: VmaCharge) {
    let parked = Parked {
        shape,
        at,
        memory: 0,
        vmas,
    };
    let is_off = least() == usize::MAX || is_paused();
    if is_off || shape.length > MOST_BYTES {
        return;
    }
    let mut parking = parking();
    let removed = parking.make_room(shape);
    parking.mappings.push_back(parked);
    drop(parking);
    // Without the lock, because this makes system calls.
    drop(removed);
}

/// Moves a parked mapping of this shape to `to`, if there is one.
///
/// # Safety
///
/// The range at `to` is the caller's own to replace, and nothing refers to it.
pub(super) unsafe fn unpark(shape: Shape, to: usize) -> Unparked {
    if shape.length < least() {
        return Unparked::No;
    }
    let Some(parked) = find(shape) else {
        return Unparked::No;
    };
    // SAFETY: the source is this module's, and the caller guarantees the destination.
    let moved = unsafe { relocate(parked.at, to, shape.length) };
    match moved {
        Unparked::Yes => {
            let mut parking = parking();
            parking.vacated.push_back((shape.length, parked.at));
            if parking.vacated.len() > SLOTS {
                parking.vacated.pop_front();
            }
            drop(parking);
            drop(parked.into_parts());
        }
        Unparked::No | Unparked::Lost => REFUSED.store(true, Ordering::Relaxed),
    }
    moved
}

/// Moves a mapping with its page tables, and unmaps where it was.
///
/// # Safety
///
/// The first range is one mapping of a file. Both ranges are the caller's own to replace, and
/// nothing refers to them.
unsafe fn relocate(from: usize, to: usize, length: usize) -> Unparked {
    let [from, place] = [from, to].map(std::ptr::with_exposed_provenance_mut);
    let moved = ask(|| {
        // SAFETY: the caller guarantees it.
        unsafe { mremap_fixed(from, length, length, MremapFlags::MAYMOVE, place) }
    });
    match moved {
        Ok(_) => return Unparked::Yes,
        // By a filter of system calls, before anything changed.
        Err(Errno::PERM | Errno::NOSYS) => return Unparked::No,
        Err(_) => {}
    }
    // The destination may be a hole. If it is, it is filled, without replacing anything.
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    let filled = ask(|| {
        // SAFETY: the kernel replaces nothing.
        unsafe { mmap_anonymous(place, length, ProtFlags::empty(), flags) }
    });
    match filled {
        Ok(at) if at.addr() == to => Unparked::No,
        Ok(elsewhere) => {
            // Before Linux 4.17 the address was a hint.
            // SAFETY: the range was mapped here, and nobody else knows of it.
            unsafe { unmap(elsewhere.addr()..elsewhere.addr() + length) };
            Unparked::Lost
        }
        Err(_) => Unparked::Lost,
    }
}

/// Returns whether the kernel moves shared mappings and leaves the old ones behind, by trying it.
fn probe() -> Result<bool, Errno> {
    let length = page_size();
    let file = ask(|| memfd_create("tombolo:probe", MemfdFlags::CLOEXEC))?;
    ask(|| ftruncate(&file, length as u64))?;
    let start = ask(|| {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED;
        // SAFETY: the kernel chooses the address, so that nothing that exists is replaced.
        unsafe { mmap(std::ptr::null_mut(), length, both, flags, &file, 0) }
    })?;
    let start = start.expose_provenance();
    let Some(hint) = free_address(length, start) else {
        return Ok(false);
    };
    // SAFETY: the range was mapped here, and nobody else knows of it.
    let Some(at) = (unsafe { copy_tables(start, length, hint) }) else {
        // SAFETY: as above.
        unsafe { unmap(start..start + length) };
        return Ok(false);
    };
    // Otherwise the range is no more this function's.
    let stays = is_mapped(start, length);
    // SAFETY: both ranges are mapped, and nobody else knows of them.
    let returns = stays && unsafe { relocate(at, start, length) } == Unparked::Yes;
    if returns {
        // SAFETY: as above.
        unsafe { unmap(start..start + length) };
    }
    Ok(returns)
}

/// Returns whether each page of a range is mapped.
fn is_mapped(start: usize, length: usize) -> bool {
    let start = std::ptr::with_exposed_provenance_mut(start);
    ask(|| {
        // SAFETY: this changes nothing, and fails if a page is not mapped.
        unsafe { msync(start, length, MsyncFlags::ASYNC) }
    })
    .is_ok()
}

/// Drops the parked mappings that `is_dropped` selects.
fn forget(is_dropped: impl Fn(&Parked) -> bool) {
    let dropped = parking().remove(is_dropped);
    // Without the lock, because this makes system calls.
    drop(dropped);
}

/// Drops the parked mappings of a file.
pub(super) fn forget_file(file: u64) {
    forget(|parked| parked.shape.file == file);
}

/// Drops the writable parked mappings of a file.
pub(super) fn forget_writable(file: u64) {
    forget(|parked| parked.shape.file == file && parked.shape.is_writable);
}

/// Drops the mappings that the linear memory with this base parked.
pub(super) fn forget_memory(base: usize) {
    forget(|parked| parked.memory == base);
}

/// Drops all parked mappings. Takes up to 30 ms.
pub(crate) fn forget_all() {
    forget(|_| true);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the number of parked mappings of this process.
    pub(in crate::sys) fn count() -> usize {
        parking().mappings.len()
    }
}
