//! The memory file behind a region, for as long as anything shows it.
//!
//! Before anything is mapped, the file is as long as the region's size rounded up to granules. It
//! is sealed against shrinking, growing and further seals, and against becoming executable on
//! kernels that support it (6.3 and later). So no page of a window lies past its end, and none
//! raises SIGBUS for that reason. It is never sealed against writing, because then no hole could
//! be punched into it. The descriptor is close-on-exec and never leaves the host, because a
//! read-only one could be reopened for writing.
//!
//! The length is compared with `RLIMIT_FSIZE` before the file is created, so Tombolo never raises
//! SIGXFSZ. If the limit is lowered later, copies into the region go through a mapping.
//!
//! A file may have several regions, one after another (see `recycling`). Its name in `/proc` is
//! that of the first.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use tombolo_region::{CommitCharge, RegionName, Span};

use super::forked::Forked;
use super::memfd::MemoryFile;
use super::parking::{self, Shape};
use super::recycling::{Generation, KeptFile, Recycler};

/// The use of a file whose region has ended, once nothing shows it any more.
#[derive(Debug)]
pub(crate) struct Bequest {
    /// The heir.
    pub(crate) to: Arc<Recycler>,
    /// The region's charge to the budget, which ends with the file's memory.
    pub(crate) commit: CommitCharge,
    /// Whether the file may be used again, because the region ended in order.
    pub(crate) is_fit: bool,
    /// Released after all that, if the region is of a pool.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// The anonymous file with a region's bytes, for as long as anything shows it or may show it.
#[derive(Debug)]
pub(crate) struct RegionFile {
    /// `None` only while it is dropped.
    memory: Option<MemoryFile>,
    /// Set once the region has ended.
    bequest: Mutex<Option<Bequest>>,
    generation: Generation,
}

impl RegionFile {
    /// Creates a file, all zero.
    ///
    /// # Errors
    ///
    /// [`FileSize`], inside of the error, if the process may create no file of that length;
    /// otherwise the kernel's error: too many open files, or no memory.
    pub(crate) fn new(name: &RegionName, size: u64) -> io::Result<RegionFile> {
        let generation = Generation::current();
        Ok(RegionFile::of(MemoryFile::new(name, size)?, generation))
    }

    /// Uses a kept file again, all zero.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to zero it.
    pub(crate) fn recycled(kept: KeptFile) -> io::Result<RegionFile> {
        let generation = kept.generation();
        Ok(RegionFile::of(kept.zeroed()?, generation))
    }

    fn of(memory: MemoryFile, generation: Generation) -> RegionFile {
        RegionFile {
            memory: Some(memory),
            bequest: Mutex::new(None),
            generation,
        }
    }

    fn memory(&self) -> &MemoryFile {
        self.memory.as_ref().expect("taken only by the drop")
    }

    /// Notes what happens to the file.
    pub(crate) fn bequeath(&self, bequest: Bequest) {
        let mut noted = self.bequest.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = Some(bequest);
    }

    /// Refuses operations that a child of the process that created the file must not do.
    pub(crate) fn check_process(&self) -> Result<(), Forked> {
        self.memory().check_process()
    }

    /// Returns the inode, as `/proc/self/maps` shows it. 0 if the kernel does not tell.
    pub(crate) fn inode(&self) -> u64 {
        self.memory().inode()
    }

    /// Returns the length of the file: the region's size, rounded up to granules.
    pub(super) fn length(&self) -> u64 {
        self.memory().length()
    }

    /// Returns the descriptor, to map the file with these permissions.
    pub(super) fn to_map(&self, is_writable: bool) -> BorrowedFd<'_> {
        self.memory().to_map(is_writable)
    }

    /// Notes that somebody can write to the file from now on, by changed permissions.
    pub(super) fn note_writable(&self) {
        self.memory().note_writable();
    }

    /// Returns the shape of a mapping of the file, to be taken over or parked.
    pub(super) fn shape(&self, offset: u64, length: usize, is_writable: bool) -> Shape {
        if is_writable {
            self.note_writable();
        }
        Shape {
            file: self.memory().number(),
            offset,
            length,
            is_writable,
        }
    }

    /// Drops the page tables that are kept to map the file for writing.
    pub(crate) fn forget_writable_mappings(&self) {
        parking::forget_writable(self.memory().number());
    }

    /// Frees the memory of a span. It reads as zeros afterwards, and the file is as long as
    /// before.
    ///
    /// # Errors
    ///
    /// The error of the kernel. It does not refuse this for a file that is not sealed against
    /// writing. If it does all the same, the span is overwritten with zeros and keeps its memory.
    pub(crate) fn punch(&self, span: Span) -> io::Result<()> {
        self.check_process()?;
        self.memory().punch(span)
    }

    /// Returns the bytes that the kernel has allocated for the file, in whole pages: those that
    /// are resident or swapped out.
    pub(crate) fn allocated(&self) -> u64 {
        // `stat` of an open file does not fail.
        self.memory().allocated().unwrap_or(0)
    }

    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.check_process()?;
        self.memory().read(offset, bytes)
    }

    /// Writes bytes by a system call.
    pub(super) fn write_directly(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.memory().write(offset, bytes)
    }
}

impl Drop for RegionFile {
    fn drop(&mut self) {
        let bequest = self.bequest.get_mut();
        let bequest = bequest.unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(memory), Some(bequest)) = (self.memory.take(), bequest) {
            let Bequest {
                to,
                commit,
                is_fit,
                permit,
            } = bequest;
            to.keep(memory, self.generation, commit, is_fit);
            drop(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl RegionFile {
        /// Returns whether nobody could write since the file was all zero.
        pub(crate) fn is_untouched(&self) -> bool {
            self.memory().is_untouched()
        }

        /// Makes the file look as if it had just been zeroed.
        pub(in crate::sys) fn pretend_zeroed(&self) {
            self.memory().pretend_zeroed();
        }
    }
}
