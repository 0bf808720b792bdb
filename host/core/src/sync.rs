//! The primitives that threads and tasks wait with. A module of its own, so that the race tests
//! can replace it by a scheduler.

pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use tokio::sync::Notify;
