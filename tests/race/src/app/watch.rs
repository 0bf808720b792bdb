//! Watches of what must not happen: guests of a strand that run at once, and refused cycles that
//! are none.

use std::sync::Mutex as Notes;

use shuttle::thread::{self, ThreadId};
use tombolo_region::sync::step;

/// Notices guests of a strand that run at once.
#[derive(Debug, Default)]
pub(super) struct Floor(pub(super) Notes<(Option<ThreadId>, usize)>);

impl Floor {
    /// Runs a part of a guest, perhaps inside of another one of the strand.
    pub(super) fn run<R>(&self, act: impl FnOnce() -> R) -> R {
        let here = thread::current().id();
        let mut floor = self.0.lock().expect("nobody panics");
        let (thread, depth) = &mut *floor;
        assert!(*depth == 0 || *thread == Some(here), "two run at once");
        (*thread, *depth) = (Some(here), *depth + 1);
        drop(floor);
        step();
        let result = act();
        self.0.lock().expect("nobody panics").1 -= 1;
        result
    }
}

/// The waits that really happen, and their times.
#[derive(Default)]
pub(super) struct Log(pub(super) Notes<(u64, Vec<Waited>)>);

pub(super) struct Waited {
    pub(super) edge: (usize, usize),
    /// Of one that died, never.
    pub(super) ended: Option<u64>,
}

impl Log {
    pub(super) fn with<R>(&self, act: impl FnOnce(u64, &mut Vec<Waited>) -> R) -> R {
        let mut log = self.0.lock().expect("nobody panics with it");
        log.0 += 1;
        let (now, waits) = &mut *log;
        act(*now, waits)
    }

    pub(super) fn begin(&self, from: usize, to: usize) -> (usize, u64) {
        self.with(|now, waits| {
            waits.push(Waited {
                edge: (from, to),
                ended: None,
            });
            (waits.len() - 1, now)
        })
    }

    pub(super) fn end(&self, (at, _): (usize, u64)) {
        self.with(|now, waits| waits[at].ended = Some(now));
    }

    /// Everybody on the cycle waited for the next one, after the call was begun.
    pub(super) fn check(&self, cycle: &[usize], (_, since): (usize, u64)) {
        assert_eq!(cycle.first(), cycle.last());
        self.with(|_, waits| {
            for edge in cycle.windows(2).map(|edge| (edge[0], edge[1])) {
                let waited = waits
                    .iter()
                    .any(|it| it.edge == edge && it.ended.is_none_or(|ended| ended > since));
                assert!(waited, "{edge:?} is no edge of {cycle:?}");
            }
        });
    }
}
