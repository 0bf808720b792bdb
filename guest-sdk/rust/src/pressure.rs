//! Memory pressure: learning that the host is short of memory.
//!
//! A guest that frees memory when the host runs short chooses what to free. Otherwise the
//! host purges bytes that no claim pins, and at [`Level::Critical`] it may terminate guests.
//!
//! ```no_run
//! use tombolo_guest::pressure::{Level, Watch};
//!
//! # struct Cache;
//! # impl Cache {
//! #     fn work(&mut self) -> bool { false }
//! #     fn forget_the_oldest(&mut self) {}
//! #     fn forget_all(&mut self) {}
//! # }
//! # fn example(mut cache: Cache) {
//! let watch = Watch::new();
//! while cache.work() {
//!     if watch.changed() {
//!         match watch.level() {
//!             Level::Normal => {}
//!             Level::Moderate => cache.forget_the_oldest(),
//!             Level::Critical => cache.forget_all(),
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! This module needs a host with WASI, such as `tombolo`. A guest that does not use it
//! does not import the interface.

use std::cell::Cell;
use std::fmt;

#[cfg(feature = "async")]
use crate::bindings::concurrent;
use crate::bindings::{poll, pressure};
use crate::pollable::Pollable;

pub use crate::bindings::pressure::Level;

/// Returns the present level of memory pressure. To follow changes, use [`Watch`].
#[must_use]
pub fn level() -> Level {
    pressure::current()
}

/// A watch on the level of memory pressure.
///
/// It remembers the level that it returned last; initially that is [`Level::Normal`]. So
/// no change between reading the level and waiting is missed.
pub struct Watch {
    watch: pressure::Watch,
    changes: poll::Pollable,
    last: Cell<Level>,
}

impl Watch {
    /// Creates a watch. It is [changed](Watch::changed) at once unless the level is
    /// [`Level::Normal`].
    #[must_use]
    pub fn new() -> Self {
        let watch = pressure::Watch::new();
        Self {
            changes: watch.subscribe(),
            watch,
            last: Cell::new(Level::Normal),
        }
    }

    /// Returns whether the present level differs from the one that [`level`](Self::level)
    /// or [`wait`](Self::wait) returned last. Never waits.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changes.ready()
    }

    /// Returns the present level, and remembers it. Never waits.
    pub fn level(&self) -> Level {
        let level = self.watch.level();
        self.last.set(level);
        level
    }

    /// Waits until the level differs from the one that was returned last. Returns it, and
    /// remembers it. While this guest waits, other guests run, and calls to this one are
    /// queued.
    pub fn wait(&self) -> Level {
        let last = self.last.get();
        loop {
            self.changes.block();
            // The level may have changed back meanwhile.
            let level = self.level();
            if level != last {
                return level;
            }
        }
    }

    /// Waits until the level differs from the one that was returned last, while other tasks
    /// of this guest run. Returns it, and remembers it.
    ///
    /// Dropping the future changes nothing.
    #[cfg(feature = "async")]
    pub async fn wait_async(&self) -> Level {
        let last = self.last.get();
        loop {
            concurrent::pressure::wait_change(last).await;
            // The level may have changed back meanwhile.
            let level = self.level();
            if level != last {
                return level;
            }
        }
    }

    /// Returns a pollable that is ready while the level differs from the one that was
    /// returned last. [`Pollable::first`] waits for it and other events.
    #[must_use]
    pub fn change(&self) -> Pollable {
        Pollable::new(self.watch.subscribe())
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("last", &self.last.get())
            .finish_non_exhaustive()
    }
}
