//! Events that a guest can wait for.

use std::fmt;

use crate::bindings::poll;

/// An event that a guest can wait for: for example, that a channel has a message, that
/// a name is published, or that the app stops.
///
/// [`Pollable::first`] waits for several. While a guest waits, other guests run, and
/// calls to this one are queued.
pub struct Pollable(poll::Pollable);

impl Pollable {
    pub(crate) fn new(pollable: poll::Pollable) -> Self {
        Self(pollable)
    }

    /// Returns whether the event has occurred. Never waits.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready()
    }

    /// Waits until the event occurs.
    ///
    /// The event is a hint. Another guest may be faster, so try the operation and wait
    /// again if it would block.
    pub fn wait(&self) {
        self.0.block();
    }

    /// Waits until at least one of the events occurs. Returns the indices of all that
    /// have occurred.
    ///
    /// # Panics
    ///
    /// Panics if `pollables` is empty.
    #[must_use]
    pub fn first(pollables: &[&Pollable]) -> Vec<usize> {
        assert!(!pollables.is_empty(), "there is no pollable to wait for");
        let pollables: Vec<&poll::Pollable> = pollables.iter().map(|it| &it.0).collect();
        let ready = poll::poll(&pollables);
        ready.into_iter().map(|index| index as usize).collect()
    }
}

impl fmt::Debug for Pollable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pollable").finish_non_exhaustive()
    }
}
