//! What the threads of an app wait with. By itself, so that a test can put a
//! scheduler of its own in its place.

pub(super) use std::sync::{Mutex, MutexGuard};
