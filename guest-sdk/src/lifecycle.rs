//! Lifecycle: hearing that the app is to end.
//!
//! A guest that uses this module has a moment to finish what it is at when the app
//! is told to stop; others are ended at once.
//!
//! ```no_run
//! # use tombolo_guest::channels::Receiver;
//! # fn example(jobs: Receiver) -> Result<(), Box<dyn std::error::Error>> {
//! use tombolo_guest::{Event, lifecycle};
//!
//! let (job, stop) = (jobs.mail(), lifecycle::stop());
//! while !lifecycle::stopping() {
//!     let _ = Event::first(&[&job, &stop]);
//!     // ...
//! }
//! # Ok(())
//! # }
//! ```

use crate::bindings::lifecycle as wit;
use crate::event::Event;

/// Whether the app is to end. Never waits.
#[must_use]
pub fn stopping() -> bool {
    wit::stopping()
}

/// That the app is to end.
#[must_use]
pub fn stop() -> Event {
    Event::new(wit::subscribe())
}
