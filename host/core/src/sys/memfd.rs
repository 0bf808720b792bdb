//! Memory files (memfd).
//!
//! A file has the size of a region rounded up to granules. It is sealed against shrinking, growing
//! and further seals before anything is mapped.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, memfd_create, seek,
};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::forked::{Forked, Process};
use super::kernel::ask;
use super::parking;
use tombolo_region::{RegionName, Span};

/// The bytes to overwrite at a time.
pub(super) const ZEROS: &[u8] = &[0; 64 << 10];

/// An anonymous file, and the parked mappings of it.
#[derive(Debug)]
pub(super) struct MemoryFile {
    file: File,
    length: u64,
    /// A number that no other file of this process ever has, unlike an inode.
    number: u64,
    /// Asked for when somebody wants to know it.
    inode: OnceLock<u64>,
    /// The process that created it. A child has the file as well, but not the lock.
    process: Process,
    /// Whether anybody could write to the file since it was all zero. Set before each system call
    /// that writes or maps for writing, and before each use of a parked writable mapping.
    is_writable: AtomicBool,
}

impl MemoryFile {
    /// Creates a file, all zero.
    pub(super) fn new(name: &RegionName, size: u64) -> io::Result<MemoryFile> {
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
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Ok(MemoryFile {
            file,
            length,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            inode: OnceLock::new(),
            process: Process::current(),
            is_writable: AtomicBool::new(false),
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn check_process(&self) -> Result<(), Forked> {
        self.process.check()
    }

    /// Notes that somebody can write to the file from now on. Async-signal-safe.
    pub(super) fn note_writable(&self) {
        self.is_writable.store(true, Ordering::SeqCst);
    }

    /// Returns whether all bytes are known to be zero, because nobody could write.
    pub(super) fn is_untouched(&self) -> bool {
        !self.is_writable.load(Ordering::SeqCst)
    }

    /// Notes that all bytes are zero.
    ///
    /// The caller has the whole file to itself, has overwritten all that the kernel has allocated,
    /// and nothing shows the file but parked mappings.
    pub(super) fn note_zeroed(&mut self) {
        *self.is_writable.get_mut() = false;
    }

    /// Returns the descriptor, to map the file with these permissions.
    pub(super) fn to_map(&self, is_writable: bool) -> BorrowedFd<'_> {
        if is_writable {
            self.note_writable();
        }
        self.file.as_fd()
    }

    /// Returns the inode, or 0 if the kernel does not tell.
    pub(super) fn inode(&self) -> u64 {
        let ask_kernel = || ask(|| self.file.metadata()).map_or(0, |metadata| metadata.ino());
        *self.inode.get_or_init(ask_kernel)
    }

    /// Frees the memory of a span, as `RegionFile::punch` promises.
    pub(super) fn punch(&self, span: Span) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (file, offset, length) = (&self.file, span.offset(), span.length());
        let punched = ask(|| fallocate(file, flags, offset, length));
        let Err(error) = punched else {
            return Ok(());
        };
        for part in (0..length).step_by(ZEROS.len()) {
            // A span is whole granules, of that size.
            self.write(offset + part, ZEROS)?;
        }
        Err(error.into())
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        ask(|| self.file.read_exact_at(bytes, offset))
    }

    /// Returns the bytes that the kernel has allocated.
    pub(super) fn allocated(&self) -> io::Result<u64> {
        let metadata = ask(|| self.file.metadata())?;
        // Blocks have 512 bytes.
        Ok(metadata.blocks() * 512)
    }

    /// Returns the next run of pages that the kernel has allocated, from `offset` on.
    pub(super) fn data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let start = match ask(|| seek(&self.file, SeekFrom::Data(offset))) {
            Err(Errno::NXIO) => return Ok(None),
            start => start?,
        };
        let end = ask(|| seek(&self.file, SeekFrom::Hole(start)))?;
        Ok(Some((start, end)))
    }

    /// Writes bytes by a system call.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note_writable();
        ask(|| self.file.write_all_at(bytes, offset))
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // A child has a copy of the mappings, which ends with it, and perhaps a lock that nobody
        // releases.
        if self.check_process().is_ok() {
            parking::forget_file(self.number);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    impl MemoryFile {
        /// Makes the file look as if it had just been zeroed.
        pub(in crate::sys) fn pretend_zeroed(&self) {
            self.is_writable.store(false, Ordering::SeqCst);
        }
    }
}
