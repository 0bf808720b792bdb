//! The locks and notifications of channels and of the graph of waits. They are in a module of
//! their own, so that race tests run the same code with a scheduler's.

pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use tokio::sync::Notify;
