//! The mark of a store whose guest wrote to a read-only window.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{MemoryRecord, ViolationSite};
use crate::sys::store_id::StoreId;

/// The record of a store whose memories have windows: the memories, and whether one of its guests
/// wrote to a read-only window.
///
/// It belongs to the store and not to a context, which safe code can replace or swap with
/// another store's. Every context in the store's data finds the mark by the store's identity: at
/// each function of `tombolo:memory` and in the check after a call. So a context that replaced
/// another still learns of an earlier write violation.
pub(crate) struct StoreMark {
    store: StoreId,
    /// The guest that had the first window.
    guest: Arc<str>,
    /// Set by the fault handler.
    violated: AtomicBool,
    /// Whether all memories are gone, and the store with them. Another store may have its
    /// identity then.
    gone: AtomicBool,
    /// The memories, in the order of their first windows.
    memories: Mutex<Vec<Arc<MemoryRecord>>>,
}

type Marks = BTreeMap<usize, Arc<StoreMark>>;

/// The marks, by the number of the store.
static MARKS: Mutex<Marks> = Mutex::new(Marks::new());

/// How many stores have a mark, by [`bucket`]. So a store without a mark is recognised without the
/// lock, unless another one of its bucket has a mark.
static MARKED: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

/// Returns the bucket of a store, which it shares with few others.
#[inline]
fn bucket(store: StoreId) -> &'static AtomicU32 {
    // Fibonacci hashing: the lowest bits of an address say little.
    let hash = (store.number() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    &MARKED[(hash & 0xff) as usize]
}

fn marks() -> MutexGuard<'static, Marks> {
    // Nothing that panics runs under the lock.
    MARKS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StoreMark {
    /// Returns the mark of a store, if any of its memories has had a window.
    #[inline]
    pub(crate) fn of(store: StoreId) -> Option<Arc<StoreMark>> {
        // The store is in hand, and so was it when it got its mark.
        if bucket(store).load(Ordering::Relaxed) == 0 {
            return None;
        }
        marks().get(&store.number()).cloned()
    }

    /// Notes that a memory belongs to a store. Returns the store's mark.
    pub(in crate::sys) fn join(
        store: StoreId,
        guest: &Arc<str>,
        memory: &Arc<MemoryRecord>,
    ) -> Arc<StoreMark> {
        let mut marks = marks();
        let mark = marks.entry(store.number()).or_insert_with(|| {
            bucket(store).fetch_add(1, Ordering::Relaxed);
            Arc::new(StoreMark {
                store,
                guest: guest.clone(),
                violated: AtomicBool::new(false),
                gone: AtomicBool::new(false),
                memories: Mutex::default(),
            })
        });
        mark.lock().push(memory.clone());
        mark.clone()
    }

    /// Notes that a memory of the store has gone.
    pub(in crate::sys) fn leave(&self, memory: &MemoryRecord) {
        let mut marks = marks();
        let mut memories = self.lock();
        memories.retain(|record| !std::ptr::eq(&**record, memory));
        if memories.is_empty() {
            self.gone.store(true, Ordering::Release);
            marks.remove(&self.store.number());
            bucket(self.store).fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<MemoryRecord>>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this is the mark of the store in hand, which has that identity.
    pub(crate) fn is_of(&self, store: StoreId) -> bool {
        self.store == store && !self.gone.load(Ordering::Acquire)
    }

    /// Notes that the guest wrote to a read-only window. Async-signal-safe.
    pub(in crate::sys) fn raise(&self) {
        self.violated.store(true, Ordering::Release);
    }

    /// Returns whether the guest wrote to a read-only window, otherwise than by a
    /// plain store, which traps.
    #[inline]
    pub(crate) fn has_violation(&self) -> bool {
        self.violated.load(Ordering::Acquire)
    }

    /// Returns which guest wrote to a read-only window, after
    /// [`has_violation`](StoreMark::has_violation), and where, if the window is still there.
    pub(crate) fn violation(&self) -> (Arc<str>, Option<ViolationSite>) {
        let memories = self.memories();
        let found = memories.iter().find_map(|memory| memory.violation());
        found.unwrap_or_else(|| (self.guest.clone(), None))
    }

    /// Returns the place that a store of wasm to this address would have written to, if that is in
    /// a read-only window of the store.
    pub(crate) fn explain(&self, address: usize) -> Option<ViolationSite> {
        let memories = self.memories();
        memories.iter().find_map(|memory| memory.explain(address))
    }

    /// Returns how many VMA splits windows have made in other memories of the same guest, at
    /// worst.
    pub(crate) fn splits_elsewhere(&self, memory: &Arc<MemoryRecord>) -> u64 {
        let memories = self.memories();
        let others = memories
            .iter()
            .filter(|it| !Arc::ptr_eq(it, memory) && it.is_of_same_guest(memory));
        others.map(|other| other.vma_splits()).sum()
    }

    /// Returns the memories, so that their locks are not taken under this one.
    fn memories(&self) -> Vec<Arc<MemoryRecord>> {
        self.lock().clone()
    }
}
