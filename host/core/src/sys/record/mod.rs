//! Linear memories, and the windows in them.
//!
//! Tombolo creates the linear memories of the engine. Each is a reservation of 4 GiB and a guard,
//! of which the accessible part grows in place.
//!
//! # Why the contract of `LinearMemory` holds
//!
//! Wasmtime forms `&[u8]`, `&mut [u8]` and `&str` over linear memory, in host functions and while
//! lifting and lowering. Memory changes under them in two ways only:
//!
//! - *Pages are replaced* by operations of this module. Each takes the store in hand, so no wasm
//!   of that store runs and no reference into its memories is alive.
//! - *Bytes change* in mapped pages. The ledger's lock excludes this for `read` and `write`
//!   windows; for live windows the strand does (see `docs/security.md`).
//!
//! # States after a refusal by the kernel
//!
//! - Closing a window maps private zero pages. If they are refused (`RLIMIT_DATA`), shared zero
//!   pages that are mapped nowhere else take their place; no limit counts them. If those are
//!   refused, the range becomes inaccessible and the window's lock is kept: the host function traps
//!   and the store is not entered again.
//! - If even `mprotect` is refused, there may be a hole in the reservation. The record lists it, and
//!   unmapping the memory skips it, because another mapping may be there by then.
//! - A change of several mappings (a window with unpinned parts) succeeds as a whole or is undone.
//!   If undoing is refused, the whole window becomes zero pages and the memory is marked as broken.
//!   The record always agrees with the mappings.
//! - A growth changes permissions past the old end. If the kernel refuses both it and its undoing,
//!   memory past the end may be accessible. The memory never grows again, a guest of an app traps,
//!   and the reservation is unmapped when the memory goes. In an embedder's store `memory.grow`
//!   fails and the guest runs on: the pages are its own and nobody else ever has them.
//!
//! # Order of a drop
//!
//! The memory leaves the address table, then the store's mark. The reservation is cleaned or
//! unmapped, which unmaps all windows. Only then are the windows closed in their ledgers. A record
//! is never used for another memory, whatever addresses that has.
//!
//! # Identity of the store
//!
//! A memory notes the store in hand when it gets its first window: the address of the store's data,
//! which does not move and which no other store has meanwhile. Every later operation compares it
//! and traps on a mismatch. So a window object in the wrong store remaps nothing.
//!
//! | file | content |
//! |---|---|
//! | this one | the record of a memory, and its store |
//! | `state` | the windows, and their costs in VMAs |
//! | `windows` | windows as a whole |
//! | `parts` | unpinned parts of windows |
//! | `pages` | pages of regions, and zeros in their place |
//! | `mark` | the mark of a store whose guest wrote to a read-only window |
//! | `error` | errors |

mod error;
mod mark;
mod pages;
mod parts;
mod state;
mod windows;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::mm::{MprotectFlags, ProtFlags};

use super::reservation::Reservation;
use super::store_id::StoreId;

pub use self::error::MapError;
pub(crate) use self::mark::StoreMark;
pub(super) use self::state::{Copies, MappedWindow, MemoryState};

/// The bytes of the reservation of each linear memory: all that 32 bits can address.
pub(crate) const RESERVATION: usize = 1 << 32;

/// The permissions of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Perms {
    Read,
    Write,
}

impl Perms {
    fn prot(self) -> ProtFlags {
        match self {
            Perms::Read => ProtFlags::READ,
            Perms::Write => ProtFlags::READ | ProtFlags::WRITE,
        }
    }

    fn mprotect(self) -> MprotectFlags {
        match self {
            Perms::Read => MprotectFlags::READ,
            Perms::Write => MprotectFlags::READ | MprotectFlags::WRITE,
        }
    }
}

/// An observer that is notified if a window ends because its memory does.
pub(crate) trait WindowObserver: Send + Sync {
    /// Returns the name of the region, for messages.
    fn region(&self) -> String;
    /// Notifies that the memory is unmapped, so that it shows the region no longer.
    fn memory_gone(self: Box<Self>);
}

/// The place at which a guest wrote to a read-only window.
#[derive(Debug, Clone)]
pub(crate) struct ViolationSite {
    pub(crate) region: String,
    /// From the start of the region.
    pub(crate) offset: u64,
}

/// A linear memory, as Tombolo knows it.
///
/// ```text
///   base                          base + size          base + RESERVATION
///   |  guest's pages  | window | guest's |  inaccessible  |  guard  |
///   |  private, zero  | shared |         |                |         |
///   +-----------------+--------+---------+----------------+---------+
/// ```
///
/// Windows are mapped and unmapped only inside the accessible part and with `MAP_FIXED`, and
/// never leave a hole. Unmapping instead would leave a gap that the kernel may fill with
/// anything, reachable by the guest.
///
/// Every operation on windows names the store in hand, which must be the one that had the first
/// window in the memory. So no wasm of that store runs and no slice of its memory is alive
/// meanwhile.
pub(crate) struct MemoryRecord {
    pub(in crate::sys) base: NonNull<u8>,
    /// The offsets of the zero pages that it came with, in ascending order.
    kept: Box<[usize]>,
    /// The length of the accessible part.
    pub(in crate::sys) size: AtomicUsize,
    /// The store's identity, 0 until the first window.
    pub(in crate::sys) store: AtomicUsize,
    /// The guest that had the first window.
    guest: OnceLock<Arc<str>>,
    /// Whether Tombolo makes the calls into this store, and notes them in `entry`.
    pub(in crate::sys) entered_by_us: AtomicBool,
    /// The store's mark, from the first window on. Set when the guest writes to a read-only
    /// window.
    pub(in crate::sys) mark: OnceLock<Arc<StoreMark>>,
    /// The fault handler tries this lock and gives up if it is taken, so that no thread can wait
    /// for itself.
    pub(in crate::sys) state: Mutex<MemoryState>,
}

// SAFETY: `base` is the address of a mapping of the process, no thread's own,
// and it is only handed out as a raw pointer or used under the rules above.
unsafe impl Send for MemoryRecord {}
// SAFETY: as above; all that changes is atomic or behind the mutex.
unsafe impl Sync for MemoryRecord {}

impl MemoryRecord {
    pub(in crate::sys) fn new(reservation: &Reservation, size: usize) -> MemoryRecord {
        MemoryRecord {
            base: reservation.base(),
            kept: reservation.kept().into(),
            size: AtomicUsize::new(size),
            store: AtomicUsize::new(0),
            guest: OnceLock::new(),
            entered_by_us: AtomicBool::new(false),
            mark: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    pub(crate) fn base(&self) -> usize {
        self.base.addr().get()
    }

    /// Returns the offsets of the zero pages that it came with, in ascending order.
    pub(in crate::sys) fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Returns the length of the accessible part in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Returns how many VMAs windows add to the memory, at worst.
    pub(crate) fn vma_splits(&self) -> u64 {
        self.state().vmas.count()
    }

    pub(in crate::sys) fn state(&self) -> MutexGuard<'_, MemoryState> {
        // Nothing that panics runs under the lock. If it did, the record would still agree with
        // the mappings.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assigns the memory to a store and a guest, at its first window. Returns the store's mark.
    /// A store can have several guests, each with memories of its own.
    ///
    /// # Errors
    ///
    /// [`MapError::Foreign`] if it already belongs to another store.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        store: StoreId,
        guest: &Arc<str>,
        entered_by_us: bool,
    ) -> Result<Arc<StoreMark>, MapError> {
        match self
            .store
            .compare_exchange(0, store.0.get(), Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => self.entered_by_us.store(entered_by_us, Ordering::Relaxed),
            Err(owner) if owner == store.0.get() => {}
            Err(_) => return Err(MapError::Foreign),
        }
        // The store is in hand, so no other thread does this meanwhile.
        let mark = self.mark.get_or_init(|| {
            let guest = self.guest.get_or_init(|| guest.clone());
            StoreMark::join(store, guest, self)
        });
        Ok(mark.clone())
    }

    /// Returns whether the memory is one of this store.
    pub(crate) fn belongs_to(&self, store: StoreId) -> bool {
        self.store.load(Ordering::Acquire) == store.0.get()
    }

    pub(super) fn check(&self, store: StoreId, state: &MemoryState) -> Result<(), MapError> {
        if !self.belongs_to(store) {
            return Err(MapError::Foreign);
        }
        if state.broken {
            Err(MapError::Broken)
        } else {
            Ok(())
        }
    }

    /// Returns whether the memory belongs to the same guest as another one.
    fn is_of_same_guest(&self, other: &MemoryRecord) -> bool {
        match (self.guest.get(), other.guest.get()) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Returns the guest that wrote to a read-only window of the memory, if one did, and the
    /// place, if the window is still there.
    fn violation(&self) -> Option<(Arc<str>, Option<ViolationSite>)> {
        let state = self.state();
        let site = describe(&state, state.violation?);
        Some((self.guest.get()?.clone(), site))
    }

    /// Returns the place that a store of wasm to this address would have written to, if that is in
    /// a read-only window.
    pub(crate) fn explain(&self, address: usize) -> Option<ViolationSite> {
        let state = self.state();
        let (_, window) = state.covering(address)?;
        let trapped = window.perms == Perms::Read && !window.holes.contains_key(&address);
        trapped.then(|| describe(&state, address))?
    }
}

fn describe(state: &MemoryState, address: usize) -> Option<ViolationSite> {
    let (start, window) = state.covering(address)?;
    Some(ViolationSite {
        region: window.observer.region(),
        offset: window.offset + (address - start) as u64,
    })
}
