//! The calls in progress of a guest that answers several at a time.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::GuestTaskId;

use super::clock::Timer;
use super::guests::Task;

/// A call in progress.
#[derive(Clone)]
pub(super) struct TaskEntry {
    pub(super) task: Task,
    pub(super) timer: Arc<Timer>,
    /// The function with its interface, for messages.
    pub(super) function: Arc<str>,
}

/// The calls in progress, by wasmtime's names for their tasks.
#[derive(Default)]
pub(super) struct TaskTable {
    entries: HashMap<GuestTaskId, TaskEntry>,
    used: bool,
}

impl TaskTable {
    pub(super) fn insert(&mut self, id: GuestTaskId, entry: TaskEntry) {
        self.used = true;
        self.entries.insert(id, entry);
    }

    /// Returns a call.
    pub(super) fn get(&self, id: GuestTaskId) -> Option<&TaskEntry> {
        self.entries.get(&id)
    }

    pub(super) fn remove(&mut self, id: GuestTaskId) {
        self.entries.remove(&id);
    }

    /// Returns whether there ever was a call.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.used
    }

    /// Returns the function of the only call, if there is only one.
    pub(super) fn only_function(&self) -> Option<Arc<str>> {
        let mut entries = self.entries.values();
        match (entries.next(), entries.next()) {
            (Some(entry), None) => Some(entry.function.clone()),
            _ => None,
        }
    }
}
