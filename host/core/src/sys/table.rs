//! Linear memories by address, and by store.
//!
//! An address is looked up only if it lies in a slice that borrows from that memory, or if it
//! faulted there. A memory leaves the table before its addresses are unmapped or reused.
//!
//! In a child of the C library's `fork`, all memories of the table are inaccessible.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::kernel::ask;
use super::record::{MemoryRecord, RESERVATION};
use super::store_id::StoreId;
use super::{entry, forked};

/// A slab of 4 GiB of the address space. It contains the base of at most one memory, because
/// memories are at least that long and do not overlap. So a memory is found by an address in it
/// without a lock.
struct Slab {
    base: AtomicUsize,
    record: AtomicPtr<MemoryRecord>,
}

/// The number of slabs. User space ends at 2^47 on x86-64 and at 2^48 on aarch64, unless a
/// program asks for more.
const SLABS: usize = 1 << 16;

static TABLE: [Slab; SLABS] = [const {
    Slab {
        base: AtomicUsize::new(0),
        record: AtomicPtr::new(std::ptr::null_mut()),
    }
}; SLABS];

/// The lowest and the highest slab that ever had a memory.
static LOWEST: AtomicUsize = AtomicUsize::new(SLABS);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// The memories of the stores that Tombolo enters, by base. Each has the store that the thread
/// was in when the memory was created.
type Owned = BTreeMap<usize, (StoreId, Arc<MemoryRecord>)>;

static OWNED: Mutex<Owned> = Mutex::new(Owned::new());

fn owned() -> MutexGuard<'static, Owned> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the memories of a store, if Tombolo enters it.
pub(super) fn memories_of(store: StoreId) -> Vec<Arc<MemoryRecord>> {
    let owned = owned();
    let of = owned.values().filter(|(owner, _)| *owner == store);
    of.map(|(_, record)| record.clone()).collect()
}

pub(super) fn register(record: &Arc<MemoryRecord>) {
    static HIDDEN: Once = Once::new();
    HIDDEN.call_once(|| {
        // If this is refused, a forked child has the mappings of its parent, as a child of a raw
        // system call has in any case; see `docs/security.md`.
        let _ = hide_memories_from_children();
    });
    if let Some(store) = entry::current() {
        owned().insert(record.base(), (store, record.clone()));
    }
    let index = record.base() / RESERVATION;
    if let Some(slab) = TABLE.get(index) {
        LOWEST.fetch_min(index, Ordering::Relaxed);
        HIGHEST.fetch_max(index, Ordering::Relaxed);
        slab.record
            .store(Arc::into_raw(record.clone()).cast_mut(), Ordering::Release);
        slab.base.store(record.base(), Ordering::Release);
    }
}

pub(super) fn forget(base: usize) {
    owned().remove(&base);
    let Some(slab) = TABLE.get(base / RESERVATION) else {
        return;
    };
    if slab.base.load(Ordering::Acquire) != base {
        return;
    }
    slab.base.store(0, Ordering::Release);
    let record = slab.record.swap(std::ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: the pointer came from `Arc::into_raw` in `register`, of the
    // memory with this base, which is forgotten once: by its own drop.
    drop(unsafe { Arc::from_raw(record) });
}

/// Calls `visit` with the base of each live memory. Async-signal-safe if `visit` is.
fn each_base(mut visit: impl FnMut(usize)) {
    let used = LOWEST.load(Ordering::Relaxed)..=HIGHEST.load(Ordering::Relaxed);
    for slab in TABLE.get(used).unwrap_or_default() {
        match slab.base.load(Ordering::Acquire) {
            0 => {}
            base => visit(base),
        }
    }
}

/// Returns the record of the memory whose reservation contains an address.
///
/// # Safety
///
/// If the address is in the reservation of a memory that Tombolo created, that memory must not
/// be dropped while the reference is used.
pub(super) unsafe fn record_at<'a>(address: usize) -> Option<&'a MemoryRecord> {
    let index = address / RESERVATION;
    [Some(index), index.checked_sub(1)]
        .into_iter()
        .flatten()
        .find_map(|index| {
            let slab = TABLE.get(index)?;
            let base = slab.base.load(Ordering::Acquire);
            // The record is read only once it is known to be the right one. The neighbour's
            // may be dropped at this moment.
            if base == 0 || address.wrapping_sub(base) >= RESERVATION {
                return None;
            }
            let record = slab.record.load(Ordering::Acquire);
            // SAFETY: the address is in the reservation of the memory with this
            // base, and the caller guarantees that this memory lives.
            unsafe { record.as_ref() }
        })
}

/// Returns the memory that contains some bytes of a store. `None` if Tombolo did not create it.
pub(crate) fn memory_of(bytes: &[u8]) -> Option<Arc<MemoryRecord>> {
    // SAFETY: if the address is in a memory's reservation then `bytes` borrows
    // from that memory, which therefore lives.
    let record = unsafe { record_at(bytes.as_ptr().addr()) }?;
    let record: *const MemoryRecord = record;
    // SAFETY: the pointer came from `Arc::into_raw`, and the table holds a count
    // until the memory is dropped.
    unsafe { Arc::increment_strong_count(record) };
    // SAFETY: as above, with the count that was just added.
    Some(unsafe { Arc::from_raw(record) })
}

/// Makes the C library's `fork` take the guests' memories from each child.
fn hide_memories_from_children() -> io::Result<()> {
    // Async-signal-safe; see there.
    forked::at_fork(None, None, Some(in_child))
}

/// Makes all linear memories inaccessible, with the windows in them: a guest that is
/// run in the child traps.
///
/// Async-signal-safe: takes no lock, which a thread may have had that is not in the
/// child, and allocates nothing.
extern "C" fn in_child() {
    each_base(|base| {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let start = std::ptr::with_exposed_provenance_mut(base);
        let hidden = ask(|| {
            // SAFETY: the addresses are reserved for a memory that lived when the
            // process was forked; this thread alone is in the child, and it is in the
            // C library's `fork`, so that no wasm runs. A slice of that memory that a
            // caller of `fork` holds is not usable any more, and faults.
            unsafe { mmap_anonymous(start, RESERVATION, ProtFlags::empty(), flags) }
        });
        if hidden.is_err() {
            // It must not go on with its parent's windows.
            // SAFETY: ends the process, and may be called in a signal handler.
            unsafe { libc::abort() }
        }
    });
}
