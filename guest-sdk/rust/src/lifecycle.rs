//! Lifecycle: hearing that the app is to end.
//!
//! An app of which a program uses this module has some time to finish what it is at
//! when it is told to stop; others are ended at once.
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
