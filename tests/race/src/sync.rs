//! The locks and notifications of shuttle, whose scheduler decides which thread goes on.

pub(crate) use tombolo_region::sync::{Mutex, MutexGuard, Notify, step};
