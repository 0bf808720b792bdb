//! The identity of a store.

use std::num::NonZeroUsize;

use wasmtime::AsContext;

/// The identity of a store: the address of its data. It does not move while the store lives,
/// whatever safe code swaps in and out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(pub(in crate::sys) NonZeroUsize);

impl StoreId {
    /// Returns the identity of the store in hand.
    pub fn of<T: 'static>(store: impl AsContext<Data = T>) -> StoreId {
        StoreId::of_data(store.as_context().data())
    }

    /// Returns the identity of the store that contains these data.
    pub fn of_data<T>(data: &T) -> StoreId {
        let data: *const T = data;
        StoreId(NonZeroUsize::new(data.addr()).expect("a reference is not null"))
    }

    /// Returns a number that no other store has meanwhile.
    pub fn number(self) -> usize {
        self.0.get()
    }
}
