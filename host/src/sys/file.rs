use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use memfd::{FileSeal, Memfd};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::io::Errno;

use crate::region::{RegionName, Span};

/// The anonymous file that holds a region's bytes.
///
/// It is as long as the region's size rounded up to granules, since a page of a
/// mapping that lies past the end of its file raises SIGBUS, and it keeps that
/// length: shrinking it under a mapping would raise SIGBUS as well. It is never
/// sealed against writing, because then no hole could be punched into it.
#[derive(Debug)]
pub(crate) struct RegionFile {
    file: Memfd,
    inode: u64,
}

impl RegionFile {
    /// A new file, all zero.
    ///
    /// # Errors
    ///
    /// What the kernel says: too many open files, no memory.
    pub(crate) fn new(name: &RegionName, size: u64) -> io::Result<RegionFile> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let label = format!("tombolo:{}", name.as_str());
        // Not executable, and never made so. Kernels before 6.3 do not know the
        // flag; there it is left out.
        let fd = match memfd_create(&*label, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create(&*label, flags),
            result => result,
        }?;
        let file = File::from(fd);
        // Size, then seal, then share.
        file.set_len(Span::whole(size).length())?;
        let inode = file.metadata()?.ino();
        let file = Memfd::try_from_file(file)
            .map_err(|_| io::Error::other("the kernel's memory file takes no seals"))?;
        // SHRINK: no mapping of the file is ever left without pages behind it.
        // GROW: the file never costs more than the region was charged for.
        // SEAL: nobody seals it further, against writing say.
        file.add_seals(&[FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealSeal])
            .map_err(io::Error::other)?;
        Ok(RegionFile { file, inode })
    }

    /// The inode, as `/proc/self/maps` shows it.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// Gives the memory of a span back to the kernel. It reads as zeros
    /// afterwards, and its file is as long as before.
    ///
    /// # Errors
    ///
    /// What the kernel says. It does not refuse this for a file that is not
    /// sealed against writing.
    pub(crate) fn punch(&self, span: Span) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(
            self.file.as_file(),
            flags,
            span.offset(),
            span.length(),
        )?)
    }

    /// The bytes that the kernel has allocated for it, in whole pages: what is
    /// resident, or swapped out.
    pub(crate) fn allocated(&self) -> u64 {
        // `stat` of an open file does not fail; its blocks have 512 bytes.
        let metadata = self.file.as_file().metadata();
        metadata.map_or(0, |metadata| metadata.blocks() * 512)
    }

    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.as_file().read_exact_at(bytes, offset)
    }

    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.as_file().write_all_at(bytes, offset)
    }
}

impl AsFd for RegionFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_file().as_fd()
    }
}
