//! Which store a thread is in.
//!
//! A fault in host code that writes for a guest (`memory.copy`, the lowering of
//! a list) tells an address and nothing else. It is the guest's doing only
//! where this thread has that guest's store in hand. Tombolo says so around the
//! calls that it makes itself.

use std::cell::Cell;

use super::StoreId;

thread_local! {
    // Const and without a destructor, so that a signal handler may read it.
    static CURRENT: Cell<Option<StoreId>> = const { Cell::new(None) };
}

/// The store that this thread is in, if Tombolo has entered one.
pub fn current() -> Option<StoreId> {
    CURRENT.get()
}

/// Says that this thread is in a store, until it is dropped.
pub struct Entered(Option<StoreId>);

impl Entered {
    /// Enters a store on this thread.
    pub fn new(store: StoreId) -> Entered {
        super::signal::unblock_faults();
        Entered(CURRENT.replace(Some(store)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
