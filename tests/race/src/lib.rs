//! The pure core of the host library, as threads race for it.
//!
//! It is the host's own source, included by its path, but what its threads wait
//! with is a scheduler's: that decides at each step which thread goes on, and
//! finds any deadlock.

/// What is pinned, and by whom, with threads that shuttle schedules.
pub mod region;
pub mod store;

mod sync {
    pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard};
}
