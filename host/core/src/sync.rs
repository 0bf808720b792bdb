//! What threads and tasks wait with. By itself, so that a test can put a scheduler of
//! its own in its place.

pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use tokio::sync::Notify;
