//! The memory file (memfd) behind a region.
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

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::forked::{Forked, Process};
use super::kernel::ask;
use super::parking;
use tombolo_region::{RegionName, Span};

/// The anonymous file with a region's bytes.
#[derive(Debug)]
pub(crate) struct RegionFile {
    file: File,
    /// A number that no other file of this process ever has, unlike an inode.
    number: u64,
    /// Asked for when somebody wants to know it.
    inode: OnceLock<u64>,
    /// The process that created it. A child has the file as well, but not the lock.
    process: Process,
}

/// The bytes to overwrite at a time if the kernel does not take pages back.
const ZEROS: &[u8] = &[0; 64 << 10];

impl RegionFile {
    /// Creates a file, all zero.
    ///
    /// # Errors
    ///
    /// [`FileSize`], inside of the error, if the process may create no file of that length;
    /// otherwise the kernel's error: too many open files, or no memory.
    pub(crate) fn new(name: &RegionName, size: u64) -> io::Result<RegionFile> {
        let length = Span::whole(size).length();
        let most = file_size_limit();
        if length > most {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                FileSize { length, most },
            ));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let label = format!("tombolo:{}", name.as_str());
        // Not executable, and never made so. Kernels before 6.3 do not know the
        // flag; there it is left out.
        let create = |flags| ask(|| memfd_create(&*label, flags));
        let fd = match create(flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => create(flags),
            result => result,
        }?;
        let file = File::from(fd);
        // Size, then seal, then share.
        ask(|| file.set_len(length))?;
        // SHRINK: no mapping of the file is ever left without pages behind it.
        // GROW: the file never costs more than the region was charged for.
        // SEAL: nobody seals it further, for example against writing.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        ask(|| fcntl_add_seals(&file, seals))?;
        let process = Process::current();
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Ok(RegionFile {
            file,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            inode: OnceLock::new(),
            process,
        })
    }

    /// Refuses operations that a child of the process that created the file must not do.
    pub(crate) fn check_process(&self) -> Result<(), Forked> {
        self.process.check()
    }

    /// Returns the inode, as `/proc/self/maps` shows it. 0 if the kernel does not tell.
    pub(crate) fn inode(&self) -> u64 {
        let ask_kernel = || ask(|| self.file.metadata()).map_or(0, |metadata| metadata.ino());
        *self.inode.get_or_init(ask_kernel)
    }

    /// Returns a number that no other file of this process ever has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Drops the page tables that are kept to map the file for writing.
    pub(crate) fn forget_writable_mappings(&self) {
        parking::forget_writable(self.number);
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
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (file, offset, length) = (&self.file, span.offset(), span.length());
        let punched = ask(|| fallocate(file, flags, offset, length));
        let Err(error) = punched else {
            return Ok(());
        };
        for part in (0..length).step_by(ZEROS.len()) {
            // A span is whole granules, of that size.
            ask(|| file.write_all_at(ZEROS, offset + part))?;
        }
        Err(error.into())
    }

    /// Returns the bytes that the kernel has allocated for the file, in whole pages: those that
    /// are resident or swapped out.
    pub(crate) fn allocated(&self) -> u64 {
        // `stat` of an open file does not fail; its blocks have 512 bytes.
        let metadata = ask(|| self.file.metadata());
        metadata.map_or(0, |metadata| metadata.blocks() * 512)
    }

    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.check_process()?;
        ask(|| self.file.read_exact_at(bytes, offset))
    }

    /// Writes bytes by a system call.
    pub(super) fn write_directly(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        ask(|| self.file.write_all_at(bytes, offset))
    }
}

/// A refusal of a file that is longer than the process may create.
#[derive(Debug, thiserror::Error)]
#[error(
    "RLIMIT_FSIZE (`ulimit -f`) allows this process files of at most {most} bytes, and the \
     region needs one of {length}"
)]
pub(crate) struct FileSize {
    length: u64,
    most: u64,
}

/// Returns the length beyond which the process may write no file. The kernel raises SIGXFSZ
/// there, which ends the process by default. So callers compare first.
pub(super) fn file_size_limit() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

impl Drop for RegionFile {
    fn drop(&mut self) {
        // A child has a copy of the mappings, which ends with it, and perhaps a lock that nobody
        // releases.
        if self.check_process().is_ok() {
            parking::forget_file(self.number);
        }
    }
}

impl AsFd for RegionFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
