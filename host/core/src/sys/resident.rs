//! The resident pages of a guest's memories that belong to the guest alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::kernel::{ask, page_size};
use super::pagemap::{self, ENTRY, EXCLUSIVE, OF_A_FILE, PRESENT, SWAPPED};
use super::record::MemoryRecord;
use super::store_id::StoreId;
use super::table::memories_of;

/// The number of entries to read at a time.
const ENTRIES: usize = 8192;

/// Returns whether the page belongs to this memory alone. `stand_in` means that shared memory
/// stands there, which the kernel takes for a file's.
fn is_private(entry: u64, stand_in: bool) -> bool {
    let wanted = PRESENT | EXCLUSIVE | if stand_in { OF_A_FILE } else { 0 };
    entry & (PRESENT | OF_A_FILE | EXCLUSIVE) == wanted
}

/// Returns the bytes of resident private pages that the end of the linear memories of this store
/// would free. Pages of regions under windows do not count, but pages that the guest wrote to
/// while a window was masked do. Zero pages that the memory came with do not count, because the
/// kernel may take those anyway.
///
/// Asks the kernel, which takes some milliseconds for each GiB of a memory. No lock is held
/// meanwhile, so the guest may run. Then the figure is that of one moment or another.
///
/// If the kernel does not tell, returns the size of the memories.
pub fn private_bytes(store: StoreId) -> u64 {
    let memories = memories_of(store);
    private_bytes_of(&memories).unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "/proc/self does not tell what linear memories take: their size counts"
        );
        memory_bytes(store)
    })
}

/// Returns the size of a store's linear memories in bytes, touched or not.
pub fn memory_bytes(store: StoreId) -> u64 {
    let memories = memories_of(store);
    memories.iter().map(|memory| memory.size() as u64).sum()
}

/// The bytes of a store's linear memories that need no new pages: those that were touched, in
/// memory or in swap space, also under windows.
#[derive(Debug, Default)]
pub struct Taken {
    /// For each memory, by base: the size up to which it was looked at, and its taken bytes.
    memories: BTreeMap<usize, (usize, u64)>,
}

impl Taken {
    /// Returns the bytes that were taken at the last look.
    pub fn bytes(&self) -> u64 {
        self.memories.values().map(|(_, taken)| taken).sum()
    }

    /// Looks at the bytes that memories have grown by since the last look, or at whole
    /// memories. Without a whole look, it misses bytes of the older part that were touched
    /// meanwhile, and still counts windows that ended there.
    ///
    /// A whole look takes up to a few dozen milliseconds for each GiB. If the kernel cannot
    /// be asked, nothing counts as taken.
    pub fn look(&mut self, store: StoreId, whole: bool) {
        let known = match whole {
            true => BTreeMap::new(),
            false => std::mem::take(&mut self.memories),
        };
        let look = |memory: Arc<MemoryRecord>, map: &File| {
            let (base, size) = (memory.base(), memory.size());
            let (from, before) = known.get(&base).copied().unwrap_or_default();
            let more = taken_of(&memory, map, from.min(size)..size)?;
            Ok((base, (size, before + more)))
        };
        let looked = || {
            let map = pagemap::open()?;
            let memories = memories_of(store).into_iter();
            memories.map(|memory| look(memory, &map)).collect()
        };
        let looked: io::Result<_> = looked();
        self.memories = looked.unwrap_or_default();
    }
}

/// Returns the bytes that are taken of a part of a memory.
///
/// Reads the page tables, and not the memory's record, because the fault handler of another
/// thread must find that unlocked.
fn taken_of(memory: &MemoryRecord, map: &File, part: Range<usize>) -> io::Result<u64> {
    let page = page_size();
    let (begin, end) = (memory.base() + part.start, memory.base() + part.end);
    let mut buffer = vec![0; (part.len() / page).min(ENTRIES) * ENTRY];
    let mut taken = 0;
    for at in (begin..end).step_by(ENTRIES * page) {
        let entries = ((end - at) / page).min(ENTRIES);
        let buffer = &mut buffer[..entries * ENTRY];
        pagemap::read(map, at, buffer)?;
        let (entries, _) = buffer.as_chunks::<ENTRY>();
        let is_taken = |entry: &&[u8; ENTRY]| {
            let entry = u64::from_ne_bytes(**entry);
            let shows_a_region = entry & (PRESENT | OF_A_FILE) == PRESENT | OF_A_FILE;
            shows_a_region || is_private(entry, false) || entry & SWAPPED != 0
        };
        taken += entries.iter().filter(is_taken).count() as u64 * page as u64;
    }
    Ok(taken)
}

pub(super) fn private_bytes_of(memories: &[Arc<MemoryRecord>]) -> io::Result<u64> {
    let pages = Pages {
        map: pagemap::open()?,
        bytes: ask(|| File::open("/proc/self/mem"))?,
    };
    memories.iter().map(|memory| pages.private(memory)).sum()
}

/// The pages of this process, as the kernel shows them.
struct Pages {
    map: File,
    bytes: File,
}

impl Pages {
    /// Returns the bytes of resident private pages of this linear memory.
    fn private(&self, memory: &MemoryRecord) -> io::Result<u64> {
        let page = page_size();
        let mut buffer = vec![0; ENTRIES * ENTRY];
        let (begin, end) = (memory.base(), memory.base() + memory.size());
        let mut kept = memory.kept().iter().map(|offset| begin + offset).peekable();
        let stand_ins = memory.stand_ins();
        let mut private = 0;
        for at in (begin..end).step_by(ENTRIES * page) {
            let entries = (end - at).div_ceil(page).min(ENTRIES);
            let buffer = &mut buffer[..entries * ENTRY];
            pagemap::read(&self.map, at, buffer)?;
            let (entries, _) = buffer.as_chunks::<ENTRY>();
            for (index, entry) in entries.iter().enumerate() {
                let at = at + index * page;
                let was_there = kept.next_if_eq(&at).is_some();
                let stand_in = stand_ins.contains(&at);
                if is_private(u64::from_ne_bytes(*entry), stand_in)
                    && !(was_there && self.is_zero(at)?)
                {
                    private += page as u64;
                }
            }
        }
        Ok(private)
    }

    /// Returns whether nobody has written to the page at an address. The kernel reads the page,
    /// because the guest may write to it meanwhile.
    fn is_zero(&self, at: usize) -> io::Result<bool> {
        let mut bytes = vec![0; page_size()];
        ask(|| self.bytes.read_exact_at(&mut bytes, at as u64))?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }
}
