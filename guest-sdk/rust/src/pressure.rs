//! Memory pressure: hearing that the host is short of memory.
//!
//! A guest that gives back what it does without most easily, when the host asks
//! for it, chooses by itself what goes. What it does not give, the host takes
//! from what nobody pins, and under [`Level::Critical`] it may end guests.
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
//! This needs a host that offers WASI, as `tombolo` does; a guest that does not
//! use this module does not ask for it.

use std::cell::Cell;
use std::fmt;

use crate::bindings::{poll, pressure};
use crate::pollable::Pollable;

pub use crate::bindings::pressure::Level;

/// The level of memory pressure at the moment. To hear of changes, there is
/// [`Watch`].
#[must_use]
pub fn level() -> Level {
    pressure::current()
}

/// Watches the level of memory pressure.
///
/// It knows the level that it told last, which of a new one is
/// [`Level::Normal`]. So no change is lost between looking and waiting.
pub struct Watch {
    watch: pressure::Watch,
    changes: poll::Pollable,
    told: Cell<Level>,
}

impl Watch {
    /// A watch for which the level has changed at once, unless that is
    /// [`Level::Normal`].
    #[must_use]
    pub fn new() -> Self {
        let watch = pressure::Watch::new();
        Self {
            changes: watch.subscribe(),
            watch,
            told: Cell::new(Level::Normal),
        }
    }

    /// Whether the level is another than [`level`](Self::level) or
    /// [`wait`](Self::wait) told last. Never waits.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changes.ready()
    }

    /// Tells the level. Never waits.
    pub fn level(&self) -> Level {
        let level = self.watch.level();
        self.told.set(level);
        level
    }

    /// Waits until the level is another than was told last, and tells it.
    /// Meanwhile other guests run, and this one takes no calls.
    pub fn wait(&self) -> Level {
        let before = self.told.get();
        loop {
            self.changes.block();
            // It may be back where it was by now.
            let level = self.level();
            if level != before {
                return level;
            }
        }
    }
}

impl Watch {
    /// That the level is another than was told last, to be waited for with other
    /// things.
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
            .field("told", &self.told.get())
            .finish_non_exhaustive()
    }
}
