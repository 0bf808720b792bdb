//! Who waits for whom, so that nobody comes to wait for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::sync::{Mutex, MutexGuard};

/// What a caller lent, which it waits for as well.
pub(super) trait Back: Default {
    /// Tells whether all of it is back. It does not change again then.
    fn are_back(&self) -> bool;
}

/// A guest, in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// The guest's index.
    pub(super) guest: usize,
    /// Told apart from all other lives, of this guest and others.
    pub(super) life: u64,
}

/// All who wait for others, by life: a guest that calls waits for one other, queued
/// or not.
#[derive(Debug)]
pub(super) struct Waits<L>(Mutex<Graph<L>>);

#[derive(Debug)]
struct Graph<L> {
    waits: BTreeMap<u64, Wait<L>>,
    /// How many there have been.
    numbers: u64,
}

/// That a guest waits for another. It does not only wait for the call to
/// return, but then for what it lent to be back; and while that is not back, as
/// when the callee lent it on before it was ended, whoever borrowed it must not
/// wait for the lender. That holds as well where the lender was ended itself and
/// waits no more: those who lent to it wait for the same. Whether it was started
/// again makes no difference to that, and its next life waits for nothing of it.
#[derive(Debug)]
struct Wait<L> {
    /// Whoever hears of the end of a call may call again before this is noted.
    number: u64,
    to: Life,
    lends: L,
    returned: bool,
}

impl<L: Back> Wait<L> {
    fn is_over(&self) -> bool {
        self.returned && self.lends.are_back()
    }
}

impl<L> Default for Waits<L> {
    fn default() -> Waits<L> {
        Waits(Mutex::new(Graph {
            waits: BTreeMap::new(),
            numbers: 0,
        }))
    }
}

impl<L> Waits<L> {
    fn graph(&self) -> MutexGuard<'_, Graph<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Back> Waits<L> {
    /// Notes that `from` waits for `to`, until what is returned is dropped, and
    /// what it was told of is back.
    ///
    /// # Errors
    ///
    /// The guests of the cycle that this would close, from `from` to `from`.
    pub(super) fn wait(
        self: &Arc<Waits<L>>,
        from: Life,
        to: Life,
    ) -> Result<Waiting<L>, Vec<usize>> {
        let mut graph = self.graph();
        let mut cycle = vec![from.guest, to.guest];
        let mut at = to;
        while at != from {
            match graph.waits.get(&at.life) {
                Some(next) if !next.is_over() => {
                    at = next.to;
                    cycle.push(at.guest);
                }
                _ => {
                    graph.numbers += 1;
                    let wait = Wait {
                        number: graph.numbers,
                        to,
                        lends: L::default(),
                        returned: false,
                    };
                    let number = wait.number;
                    graph.waits.insert(from.life, wait);
                    return Ok(Waiting {
                        waits: self.clone(),
                        from,
                        number,
                    });
                }
            }
        }
        Err(cycle)
    }

    /// Forgets what is over, where nobody comes by any more for what is left.
    pub(super) fn tidy(&self) {
        self.graph().waits.retain(|_, wait| !wait.is_over());
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.graph().waits.is_empty()
    }
}

/// That a guest waits for another to return, until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting<L: Back> {
    waits: Arc<Waits<L>>,
    from: Life,
    number: u64,
}

impl<L: Back> Waiting<L> {
    /// The caller.
    pub(super) fn from(&self) -> usize {
        self.from.guest
    }

    /// The guest waits for these besides.
    pub(super) fn for_lends(&self, lends: L) {
        let mut graph = self.waits.graph();
        if let Some(wait) = self.own(&mut graph) {
            wait.lends = lends;
        }
    }

    fn own<'a>(&self, graph: &'a mut Graph<L>) -> Option<&'a mut Wait<L>> {
        let wait = graph.waits.get_mut(&self.from.life)?;
        (wait.number == self.number).then_some(wait)
    }
}

impl<L: Back> Drop for Waiting<L> {
    fn drop(&mut self) {
        let mut graph = self.waits.graph();
        if let Some(wait) = self.own(&mut graph) {
            wait.returned = true;
            // Others look after what is left, when they come by.
            if wait.is_over() {
                graph.waits.remove(&self.from.life);
            }
        }
    }
}
