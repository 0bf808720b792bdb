use std::fmt;

use crate::bindings::poll::{self, Pollable};

/// Something to wait for: that a channel has a message, that a name is published,
/// that the app ends.
///
/// Several are waited for together with [`Event::first`]. While a guest waits,
/// others run, and it takes no calls.
pub struct Event(Pollable);

impl Event {
    pub(crate) fn new(pollable: Pollable) -> Self {
        Self(pollable)
    }

    /// Whether it is so now. Never waits.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready()
    }

    /// Waits until it is so. It may be over again when this returns: try, and wait
    /// again.
    pub fn wait(&self) {
        self.0.block();
    }

    /// Waits until one of these is so, and says which of them are, by their places.
    ///
    /// # Panics
    ///
    /// Panics if there are none.
    #[must_use]
    pub fn first(events: &[&Event]) -> Vec<usize> {
        assert!(!events.is_empty(), "nothing to wait for");
        let pollables: Vec<&Pollable> = events.iter().map(|event| &event.0).collect();
        let ready = poll::poll(&pollables);
        ready.into_iter().map(|place| place as usize).collect()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").finish_non_exhaustive()
    }
}
