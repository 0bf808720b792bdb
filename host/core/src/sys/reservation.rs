//! The addresses of linear memories, and their reuse.
//!
//! When a memory goes, one new mapping replaces everything from the lowest address at which a
//! window ever began or ended, so no zero is ever written where a window may be. The bytes that
//! the memory grew by become inaccessible. Each page below is either overwritten with zeros and
//! kept, or returned to the kernel. The choice follows what `mincore` reports, but correctness
//! does not depend on it. `MADV_FREE` lets the kernel take kept pages while nobody writes to them;
//! they are zeros then as well. A reservation that cannot be cleaned, or of a memory over 64 MiB
//! (large page tables), is unmapped.
//!
//! At most 32 reservations wait: 130 GiB of addresses. They keep up to 2 MiB of pages each, and 8
//! MiB in all. Those that the last guest wrote to are kept. They are looked up after the first
//! guest and after every eighth. The life of a guest with 64 KiB of data takes three system calls
//! at its end (`madvise`) and every eighth time one more (`mincore`). Stock wasmtime takes four
//! (`mmap` twice, `mprotect`, `munmap`). `MADV_FREE` is the largest part of an end with 64 KiB.
//! Without a waiting reservation new pages dominate: natively, reserving and copying 64 KiB takes
//! 38 us, 35 of them for 16 faults. `MADV_POPULATE_WRITE` leaves 27.
//!
//! # Huge pages
//!
//! From 2 MiB on the kernel is advised to use huge pages, whose first writes cost a fifteenth. It
//! uses them for whole blocks of 2 MiB, so for memories from 4 MiB on. Smaller ones would pay more
//! for clearing than they save. The part below has small pages, some of which are kept. All of a
//! reservation is advised when it is reserved, and each part that is replaced, again. So neither
//! growth nor reuse moves the boundary, and VMAs on one side of it become one again.
//!
//! Such a memory is resident in steps of 2 MiB. `/proc/self/pagemap` shows all of it, so the OOM
//! policy and the margin count it. A window that replaces part of a huge page splits it first.
//!
//! A waiting reservation counts as three VMAs, and a fourth if the kernel splits it at the lowest
//! split point.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect};

use super::allowance;
use super::kernel::{ask, page_size};
use super::unmap::{leave_behind, unmap};
use super::vmas::VmaCharge;

/// The VMAs of a reservation without windows: the accessible part, which may be split for good at
/// the lowest split point, and the rest. One of them is split where huge pages begin.
pub(super) const VMAS: u64 = 4;

/// The number of reservations that wait for reuse: 128 GiB of addresses, of the 128 TiB of a
/// process.
pub(super) const MOST_FREE: usize = 32;

/// The bytes of zero pages that all waiting reservations keep. The next guests put that much data
/// there without a fault for each page.
pub(super) const KEPT: usize = 8 << 20;

/// The largest memory, in bytes, whose reservation waits for reuse.
const LARGEST: usize = 64 << 20;

/// The alignment of reservations: the huge page of x86-64, and of aarch64 with pages of 4 KiB. A
/// window can have huge pages if its address in the memory and its offset in the region are
/// equally far from a multiple of that.
pub(super) const ALIGN: usize = 2 << 20;

/// The offset from which the kernel is advised to use huge pages. Below it, pages may be kept.
/// Programs have their stack and their data there. A program in Rust has 1 MiB of stack, and then
/// its data.
pub(super) const HUGE_FROM: usize = ALIGN;

/// The number of memories for which the pages that were found are kept. Looking takes longer than
/// all the rest.
const LIVES: u32 = 8;

/// The waiting reservations. Only the start and the end of a guest take this lock, for as long as
/// it takes to find one of a few.
static FREE: Mutex<Free> = Mutex::new(Free::new());

/// Waiting reservations. The one that was used last is at the end.
pub(super) struct Free(VecDeque<Reservation>);

impl Free {
    pub(super) const fn new() -> Free {
        Free(VecDeque::new())
    }

    /// Takes one of this length: the last that needs no change, or else the last.
    fn pick(&mut self, total: usize, size: usize) -> Option<Reservation> {
        let fits = |it: &Reservation| it.total == total;
        let same = |it: &Reservation| fits(it) && it.size == size;
        let at = self.0.iter().rposition(same);
        self.0.remove(at.or_else(|| self.0.iter().rposition(fits))?)
    }

    /// Adds one. If there are too many, or too many pages are kept, returns those that have
    /// waited longest.
    pub(super) fn put(&mut self, reservation: Reservation) -> Vec<Reservation> {
        self.0.push_back(reservation);
        let kept = |it: &Reservation| it.kept.len() * page_size();
        let mut bytes: usize = self.0.iter().map(kept).sum();
        let mut unneeded = Vec::new();
        while (self.0.len() > MOST_FREE || bytes > KEPT)
            && let Some(oldest) = self.0.pop_front()
        {
            bytes -= kept(&oldest);
            unneeded.push(oldest);
        }
        unneeded
    }
}

fn free() -> MutexGuard<'static, Free> {
    // Nothing that panics runs under the lock.
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds up to whole pages of this machine.
fn in_pages(size: usize) -> usize {
    size.next_multiple_of(page_size())
}

/// Addresses for a linear memory, which uses the first `size` of them. Those are readable and
/// writable, apart from windows. The others are inaccessible.
///
/// It is unmapped when this is dropped.
pub(super) struct Reservation {
    base: NonNull<u8>,
    /// With the guard.
    total: usize,
    /// The accessible part.
    size: usize,
    /// The length of the accessible part at first.
    first: usize,
    /// The lowest address at which a window of any memory ever began or ended. The kernel may
    /// split a VMA there for good.
    first_split: usize,
    /// The offsets of the pages that it keeps, in ascending order.
    kept: Vec<usize>,
    /// Whether the kernel takes advice on huge pages.
    huge: bool,
    /// The number of memories that used it.
    lives: u32,
    /// Ranges that could neither be replaced nor made inaccessible. They may belong to another
    /// mapping by now.
    lost: Vec<Range<usize>>,
    /// Whether addresses past the accessible part may be accessible, because a growth was refused
    /// and could not be undone. No other memory may get these addresses.
    overgrown: bool,
    /// Refunded after the addresses are unmapped.
    vmas: VmaCharge,
}

// SAFETY: `base` is the address of a mapping of the process, no thread's own.
unsafe impl Send for Reservation {}
// SAFETY: as above, and it is only handed out as a raw pointer.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `total` bytes, and makes the first `size` accessible, all zeros. Reuses a waiting
    /// reservation if there is one.
    ///
    /// # Errors
    ///
    /// The error of the kernel, or a refusal because the process's VMAs are used up.
    pub(super) fn take(total: usize, size: usize) -> io::Result<Reservation> {
        let size = in_pages(size);
        let waiting = free().pick(total, size);
        // The lock is released here.
        if let Some(mut reservation) = waiting
            // Otherwise it is unmapped.
            && reservation.fit(size).is_ok()
        {
            return Ok(reservation);
        }
        let mut reservation = Reservation::reserve(total)?;
        reservation.fit(size)?;
        Ok(reservation)
    }

    fn reserve(total: usize) -> io::Result<Reservation> {
        let vmas = VmaCharge::take(VMAS).map_err(io::Error::other)?;
        let base = aligned(total)?;
        // This module turns addresses in it into pointers again.
        base.expose_provenance();
        let mut reservation = Reservation {
            base: NonNull::new(base.cast()).expect("the kernel never maps at null"),
            total,
            size: 0,
            first: 0,
            first_split: usize::MAX,
            kept: Vec::new(),
            huge: true,
            lives: 0,
            lost: Vec::new(),
            overgrown: false,
            vmas,
        };
        // A kernel that was built without huge pages refuses.
        reservation.huge = reservation.advise_huge(&(0..total)).is_ok();
        Ok(reservation)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the offsets of the zero pages that it came with, in ascending order.
    pub(super) fn kept(&self) -> &[usize] {
        &self.kept
    }

    fn start(&self) -> usize {
        self.base.addr().get()
    }

    /// Makes the first `size` bytes accessible, for the next memory.
    fn fit(&mut self, size: usize) -> io::Result<()> {
        if size < self.size {
            self.replace(size..self.size, ProtFlags::empty())?;
            self.size = size;
        }
        self.grow(size)?;
        if self.first != size {
            self.first = size;
            // Probably another program, with other pages.
            self.lives = 0;
        }
        Ok(())
    }

    /// Returns whether addresses past the accessible part may be accessible.
    pub(super) fn is_overgrown(&self) -> bool {
        self.overgrown
    }

    /// Makes the first `size` bytes accessible.
    ///
    /// # Errors
    ///
    /// The error of the kernel, or that resource limits would leave too little to the host.
    /// Nothing has changed then, unless the memory [is overgrown](Self::is_overgrown) from
    /// then on: it does not grow any more.
    pub(super) fn grow(&mut self, size: usize) -> io::Result<()> {
        let size = in_pages(size);
        if size <= self.size {
            return Ok(());
        }
        assert!(size <= self.total, "the accessible part lies inside");
        if self.overgrown {
            // The addresses may contain other bytes than zeros.
            return Err(io::Error::from(Errno::NOMEM));
        }
        let start = self.at(self.size).cast();
        let both = MprotectFlags::READ | MprotectFlags::WRITE;
        let grown = ask(|| {
            // SAFETY: the range lies inside this reservation, as was asserted, where
            // nothing else is. It was inaccessible until now, so no reference into it
            // exists.
            unsafe { mprotect(start, size - self.size, both) }
        });
        let refused = match grown {
            Ok(()) if allowance::has_room(0) => {
                self.size = size;
                return Ok(());
            }
            Ok(()) => Errno::NOMEM,
            // A part of it may be accessible, if there are several VMAs.
            Err(error) => error,
        };
        let undone = ask(|| {
            // SAFETY: as above. The range is inaccessible again.
            unsafe { mprotect(start, size - self.size, MprotectFlags::empty()) }
        });
        self.overgrown = undone.is_err();
        Err(io::Error::from(refused))
    }

    /// Unmaps everything except ranges that were lost.
    pub(super) fn leave(mut self, lost: Vec<Range<usize>>) {
        self.lost.extend(lost);
    }

    /// Unmaps all windows, makes everything else zeros, and waits for reuse. `first_split` is the
    /// lowest address at which a window began or ended, if there were any.
    ///
    /// No window is mapped when this returns, even if the reservation cannot be reused.
    pub(super) fn retire(mut self, first_split: Option<usize>) {
        // The kernel keeps the page tables of a large one, even without pages. Addresses past
        // the accessible part are not cleaned, and must not be accessible.
        if self.size > LARGEST || self.overgrown {
            return;
        }
        let unneeded = match self.clean(first_split) {
            Ok(()) => free().put(self),
            Err(_) => vec![self],
        };
        // Not under the lock.
        drop(unneeded);
    }

    /// Restores the initial state.
    fn clean(&mut self, first_split: Option<usize>) -> io::Result<()> {
        let mut end = self.first;
        if let Some(first) = first_split {
            // One mapping replaces everything that windows may have split, now or earlier.
            self.first_split = self.first_split.min(first);
            end = end.min(self.first_split - self.start());
        }
        if end < self.size {
            // In one step, and from a point before all windows, so that no VMA is split.
            self.replace(end..self.size, ProtFlags::empty())?;
            self.size = end;
            self.grow(self.first)?;
        }
        self.wipe(end)
    }

    /// Makes the first `end` bytes zeros. They are all accessible and private to the memory that
    /// is gone, because no window was there. Keeps some of the pages, because new ones cost more,
    /// unless the kernel needs them.
    ///
    /// Each page is either overwritten with zeros or returned to the kernel. It reads as zeros
    /// in both cases.
    fn wipe(&mut self, end: usize) -> io::Result<()> {
        if self.lives.is_multiple_of(LIVES) {
            self.look(end)?;
        }
        self.lives = self.lives.wrapping_add(1);
        let page = page_size();
        // The pages up to the next one that is kept are returned in one step.
        let mut begun = 0;
        for kept in self.kept.iter().copied() {
            assert!(begun <= kept && kept + page <= end, "pages in their order");
            self.give_up(begun..kept)?;
            // SAFETY: the page is in this reservation, accessible and writable, and
            // nothing refers to it, because its memory is gone.
            unsafe { self.at(kept).write_bytes(0, page) };
            begun = kept + page;
        }
        self.give_up(begun..end)?;
        if self.kept.is_empty() {
            return Ok(());
        }
        // The kernel may take them when it is short of memory. They are zeros then as well. A
        // write to a page keeps it.
        self.advise(0..begun, Advice::LinuxFree)
    }

    /// Looks for pages that are worth keeping: those in small pages that the memory used.
    fn look(&mut self, end: usize) -> io::Result<()> {
        let page = page_size();
        let end = end.min(HUGE_FROM);
        let mut there = vec![0; end.div_ceil(page)];
        ask(|| {
            // SAFETY: the part is mapped, and there is a byte for each page of it.
            match unsafe { libc::mincore(self.at(0).cast(), end, there.as_mut_ptr()) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })?;
        let there = there.iter().enumerate().filter(|(_, it)| **it & 1 != 0);
        let there = there.map(|(index, _)| index * page);
        self.kept = there.filter(|offset| self.is_used(*offset)).collect();
        Ok(())
    }

    /// Returns whether the page at this offset contains anything but zeros.
    fn is_used(&self, offset: usize) -> bool {
        let words = page_size() / size_of::<u64>();
        // SAFETY: the page is in this reservation and accessible, and nobody writes to it,
        // because its memory is gone.
        let words = unsafe { std::slice::from_raw_parts(self.at(offset).cast::<u64>(), words) };
        words.iter().any(|word| *word != 0)
    }

    fn at(&self, offset: usize) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.start() + offset)
    }

    /// Returns the pages of a part to the kernel. It reads as zeros from then on.
    fn give_up(&self, part: Range<usize>) -> io::Result<()> {
        match part.is_empty() {
            true => Ok(()),
            false => self.advise(part, Advice::LinuxDontNeed),
        }
    }

    /// Advises the kernel about a part whose memory is gone.
    fn advise(&self, part: Range<usize>, advice: Advice) -> io::Result<()> {
        let start = self.at(part.start).cast();
        ask(|| {
            // SAFETY: the part is accessible, private and anonymous memory of this
            // reservation, to which nothing refers, because its memory is gone.
            unsafe { madvise(start, part.end - part.start, advice) }
        })?;
        Ok(())
    }

    /// Advises the kernel to use huge pages where a part lies past [`HUGE_FROM`]. No window is
    /// there.
    fn advise_huge(&self, part: &Range<usize>) -> io::Result<()> {
        let from = part.start.max(HUGE_FROM);
        if !self.huge || from >= part.end {
            return Ok(());
        }
        let start = self.at(from).cast();
        ask(|| {
            // SAFETY: the part is private and anonymous memory of this reservation, and the
            // advice changes nothing of what is in it.
            unsafe { madvise(start, part.end - from, Advice::LinuxHugepage) }
        })?;
        Ok(())
    }

    /// Replaces all mappings in a part by one of fresh zero pages, or by one on each side of
    /// [`HUGE_FROM`].
    ///
    /// Needs no more VMAs than exist. If the kernel refuses all the same, the part is made
    /// inaccessible, and this reservation must not be used again.
    fn replace(&mut self, part: Range<usize>, prot: ProtFlags) -> io::Result<()> {
        let (start, length) = (self.at(part.start).cast(), part.end - part.start);
        self.kept.retain(|kept| !part.contains(kept));
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let replaced = ask(|| {
            // SAFETY: the part lies inside this reservation, and nothing refers to it,
            // because its memory is gone.
            unsafe { mmap_anonymous(start, length, prot, flags) }
        });
        let Err(error) = replaced else {
            return self.advise_huge(&part);
        };
        let closed = ask(|| {
            // SAFETY: as above.
            unsafe { mprotect(start, length, MprotectFlags::empty()) }
        });
        if closed.is_err() {
            // There may be a hole, as before Linux 6.12, which the kernel may fill with another
            // mapping.
            self.lost
                .push(self.start() + part.start..self.start() + part.end);
        }
        Err(error.into())
    }
}

/// Maps `total` bytes, inaccessible, at a multiple of [`ALIGN`].
fn aligned(total: usize) -> io::Result<*mut c_void> {
    let anywhere = |total| {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        ask(|| {
            // SAFETY: the kernel chooses the address, so that nothing that exists is
            // replaced.
            unsafe { mmap_anonymous(std::ptr::null_mut(), total, ProtFlags::empty(), flags) }
        })
    };
    // The kernel aligns such long mappings in most cases.
    let base = anywhere(total)?;
    if base.addr().is_multiple_of(ALIGN) {
        return Ok(base);
    }
    let unmap_part = |part: Range<usize>| {
        // SAFETY: it is a part of the range that was mapped here, and nobody else knows of it.
        unsafe { unmap(part) }
    };
    unmap_part(base.addr()..base.addr() + total);
    let whole = total.checked_add(ALIGN).ok_or(Errno::OVERFLOW)?;
    let base = anywhere(whole)?;
    let before = base.addr().next_multiple_of(ALIGN) - base.addr();
    let start = base.wrapping_byte_add(before);
    // If this is refused, the rest stays mapped and inaccessible.
    unmap_part(base.addr()..start.addr());
    unmap_part(start.addr() + total..base.addr() + whole);
    Ok(start)
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut at = self.start();
        let end = at + self.total;
        self.lost.sort_by_key(|range| range.start);
        let lost = std::mem::take(&mut self.lost);
        let mut unmapped = lost.is_empty();
        for hole in lost.into_iter().chain(std::iter::once(end..end)) {
            if hole.start > at {
                // SAFETY: this object reserved the range, nothing else unmaps it, lost
                // ranges are left out, and nothing refers to it any more, because its
                // memory is gone or never existed.
                unmapped &= unsafe { unmap(at..hole.start) };
            }
            at = at.max(hole.end);
        }
        if !unmapped {
            leave_behind();
            // The kernel may have as many VMAs as before.
            std::mem::forget(std::mem::take(&mut self.vmas));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{free, page_size};

    /// Returns how many of this length wait.
    pub(in crate::sys) fn waiting(total: usize) -> usize {
        let free = free();
        free.0.iter().filter(|it| it.total == total).count()
    }

    /// Returns the bytes of zero pages that all of them keep.
    pub(in crate::sys) fn kept() -> usize {
        let pages: usize = free().0.iter().map(|it| it.kept.len()).sum();
        pages * page_size()
    }
}
