//! The store that a thread is in.
//!
//! A fault in host code that writes for a guest (`memory.copy`, the lowering of a list) has an
//! address and nothing else. The guest caused it only if this thread has that guest's store in
//! hand. Tombolo notes that around the calls that it makes itself.

use std::cell::Cell;

use super::store_id::StoreId;

thread_local! {
    // Const and without a destructor, so that a signal handler may read it.
    static CURRENT: Cell<Option<StoreId>> = const { Cell::new(None) };
}

/// Returns the store that this thread is in, if Tombolo has entered one.
pub fn current() -> Option<StoreId> {
    CURRENT.get()
}

/// A note that this thread is in a store, until it is dropped.
pub struct Entered(Option<StoreId>);

impl Entered {
    /// Enters a store on this thread.
    #[inline]
    pub fn new(store: StoreId) -> Entered {
        super::signal::unblock_faults();
        Entered(CURRENT.replace(Some(store)))
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
