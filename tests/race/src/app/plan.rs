//! The shape of an app to explore, and the outcomes of its runs.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The shape of the app that is tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Guests that call, and are not called.
    pub commands: usize,
    /// Guests that are called, and call others meanwhile.
    pub servers: usize,
    /// The number of strands. Guests of a strand take turns.
    pub strands: usize,
    /// How much a guest does of its own, and for each call.
    pub acts: u32,
    /// How long a chain of calls is at most.
    pub depth: u32,
    /// How many guests are told to end.
    pub deaths: u32,
    /// How often each is started again.
    pub restarts: u32,
}

impl Plan {
    /// Returns the number of guests on a strand.
    pub(super) fn guests_on(&self, strand: usize) -> usize {
        let guests = 0..self.commands + self.servers;
        guests
            .filter(|guest| guest % self.strands == strand)
            .count()
    }
}

/// The outcomes over all schedules.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "they are what their names say")]
pub struct Seen {
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub refused: AtomicU64,
    pub closed: AtomicU64,
    pub cycles: AtomicU64,
    pub inline: AtomicU64,
    pub on_the_spot: AtomicU64,
    pub parked: AtomicU64,
    pub put_back: AtomicU64,
    pub inline_elsewhere: AtomicU64,
    pub taken_elsewhere: AtomicU64,
    pub aborted: AtomicU64,
    pub lent: AtomicU64,
    pub lent_on: AtomicU64,
    pub moved: AtomicU64,
    pub mapped: AtomicU64,
    pub conflicts: AtomicU64,
    pub abandoned: AtomicU64,
    pub restarted: AtomicU64,
    pub poisoned: AtomicU64,
}

pub(super) fn note(of: &AtomicU64) {
    of.fetch_add(1, SeqCst);
}
