//! Lifecycle: learning that the app is to stop.
//!
//! If a command of the app uses this module, all commands get some time to finish
//! (`stop-timeout` in the manifest). Otherwise they are stopped at once.
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

#[cfg(feature = "async")]
use crate::bindings::concurrent;
use crate::bindings::lifecycle as wit;
use crate::pollable::Pollable;

/// Returns whether the app is to stop. Never waits.
#[must_use]
pub fn stopping() -> bool {
    wit::stopping()
}

/// Returns a pollable that is ready when the app is to stop.
#[must_use]
pub fn stop_event() -> Pollable {
    Pollable::new(wit::subscribe())
}

/// Waits until the app is to stop, while other tasks of this guest run.
///
/// Dropping the future changes nothing.
#[cfg(feature = "async")]
pub async fn stop_requested() {
    concurrent::lifecycle::wait_stop().await;
}
