//! What the threads of an embedder wait with. By itself, so that a test can put
//! a scheduler of its own in its place.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
