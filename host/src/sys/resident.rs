//! What of a guest's memories the kernel has pages for that are the guest's alone.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::param::page_size;

use super::StoreId;
use super::table::memories_of;

/// An entry of `/proc/self/pagemap` is a number of eight bytes for each page.
const ENTRY: usize = 8;

/// How many entries are read at a time.
const ENTRIES: usize = 8192;

/// The page is in memory.
const PRESENT: u64 = 1 << 63;

/// It is a page of a file, as those of a region are.
const OF_A_FILE: u64 = 1 << 61;

/// Nobody else maps it, so that it is not the kernel's own page of zeros either, which
/// stands for all that was read and never written.
const EXCLUSIVE: u64 = 1 << 56;

fn is_private(entry: u64) -> bool {
    entry & (PRESENT | OF_A_FILE | EXCLUSIVE) == PRESENT | EXCLUSIVE
}

/// The bytes of private pages in memory that would be free if the linear memories
/// of this store went. What windows show of regions is not among it, but what the
/// guest wrote where a window is hidden is.
///
/// It asks the kernel, which takes some milliseconds for each GiB of a memory. No
/// lock is held meanwhile, so the guest may run: then it is what there was at one
/// moment or another.
///
/// Where the kernel does not tell, it is the size of the memories.
pub(crate) fn private_bytes(store: StoreId) -> u64 {
    let memories = memories_of(store);
    let sizes = || memories.iter().map(|memory| memory.size() as u64).sum();
    let counted = File::open("/proc/self/pagemap").and_then(|pagemap| {
        memories
            .iter()
            .map(|memory| private_in(&pagemap, memory.base()..memory.base() + memory.size()))
            .sum()
    });
    counted.unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "/proc/self/pagemap does not tell what linear memories take: their size counts"
        );
        sizes()
    })
}

/// The bytes of private pages in memory at these addresses of the process.
fn private_in(pagemap: &File, range: Range<usize>) -> io::Result<u64> {
    let page = page_size();
    let mut buffer = vec![0; ENTRIES * ENTRY];
    let (mut at, end) = (range.start / page, range.end.div_ceil(page));
    let mut pages = 0;
    while at < end {
        let entries = &mut buffer[..(end - at).min(ENTRIES) * ENTRY];
        pagemap.read_exact_at(entries, (at * ENTRY) as u64)?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let private = entries
            .iter()
            .filter(|entry| is_private(u64::from_ne_bytes(**entry)));
        pages += private.count() as u64;
        at += entries.len();
    }
    Ok(pages * page as u64)
}
