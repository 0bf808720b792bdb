//! Lifecycle: hearing that the app is to end.
//!
//! An app of which a program uses this module has some time to finish what it is at
//! when it is told to stop; others are ended at once.
//!
//! ```no_run
//! # use tombolo_guest::channels::Receiver;
//! # fn example(jobs: Receiver) -> Result<(), Box<dyn std::error::Error>> {
//! use tombolo_guest::{Pollable, lifecycle};
//!
//! let (job, stop) = (jobs.readable(), lifecycle::stop_event());
//! while !lifecycle::stopping() {
//!     let _ = Pollable::first(&[&job, &stop]);
//!     // ...
//! }
//! # Ok(())
//! # }
//! ```

use crate::bindings::lifecycle as wit;
use crate::pollable::Pollable;

/// Whether the app is to end. Never waits.
#[must_use]
pub fn stopping() -> bool {
    wit::stopping()
}

/// That the app is to end.
#[must_use]
pub fn stop_event() -> Pollable {
    Pollable::new(wit::subscribe())
}
