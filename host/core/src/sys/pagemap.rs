//! `/proc/self/pagemap`: what the kernel says of each page of the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::kernel::{ask, page_size};

/// The bytes of an entry, one for each page.
pub(super) const ENTRY: usize = 8;

/// The page is in memory.
pub(super) const PRESENT: u64 = 1 << 63;

/// The page is in swap space.
pub(super) const SWAPPED: u64 = 1 << 62;

/// It is a page of a file, as those of a region are.
pub(super) const OF_A_FILE: u64 = 1 << 61;

/// The page is mapped nowhere else. So it is not the kernel's own page of zeros either, which
/// stands for all pages that were read and never written.
pub(super) const EXCLUSIVE: u64 = 1 << 56;

/// Opens the entries of this process. A forked child still reads its parent's.
pub(super) fn open() -> io::Result<File> {
    ask(|| File::open("/proc/self/pagemap"))
}

/// Fills `entries` with those of the pages from `address` on, each of [`ENTRY`] bytes.
pub(super) fn read(map: &File, address: usize, entries: &mut [u8]) -> io::Result<()> {
    let offset = address / page_size() * ENTRY;
    ask(|| map.read_exact_at(entries, offset as u64))
}
