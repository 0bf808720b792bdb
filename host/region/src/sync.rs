//! The locks of this crate. The features `loom` and `shuttle` replace those of the standard
//! library by locks of a model checker.

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
