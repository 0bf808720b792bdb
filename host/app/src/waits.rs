//! Who waits for whom, so that nobody comes to wait for itself.
//!
//! Each life of a guest has a place of its own where it notes for whom it waits, with
//! a number that is higher than all that were given before. Who comes to wait notes
//! that first and looks afterwards, from one to the next. If a cycle is closed, then
//! the last one to note is on it, finds all the others noted, and is refused. There is
//! no lock that all calls share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::guest_id::GuestId;
use crate::sync::{Mutex, MutexGuard};

/// What a caller lent, which it waits for as well.
pub(super) trait LentRegions: Default {
    /// Tells whether all of it is back. It does not change again then.
    fn are_all_back(&self) -> bool;
}

/// A guest, in one of its lives, and for whom it waits: one that calls waits for one
/// other, queued or not.
#[derive(Debug)]
pub(super) struct WaitNode<L> {
    /// The guest's index.
    guest: GuestId,
    wait: Mutex<Option<Wait<L>>>,
}

/// That a guest waits for another. It does not only wait for the call to
/// return, but then for what it lent to be back; and while that is not back, as
/// when the callee lent it on before it was ended, whoever borrowed it must not
/// wait for the lender. That holds as well where the lender was ended itself and
/// waits no more: those who lent to it wait for the same. Whether it was started
/// again makes no difference to that, and its next life waits for nothing of it.
#[derive(Debug)]
struct Wait<L> {
    /// Also since whoever hears of the end of a call may call again before this is
    /// noted.
    number: u64,
    to: Arc<WaitNode<L>>,
    lends: L,
    returned: bool,
}

impl<L: LentRegions> Wait<L> {
    fn is_over(&self) -> bool {
        self.returned && self.lends.are_all_back()
    }
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl<L> WaitNode<L> {
    pub(super) fn new(guest: GuestId) -> Arc<WaitNode<L>> {
        Arc::new(WaitNode {
            guest,
            wait: Mutex::new(None),
        })
    }

    /// The guest's index.
    pub(super) fn guest(&self) -> GuestId {
        self.guest
    }

    fn noted(&self) -> MutexGuard<'_, Option<Wait<L>>> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: LentRegions> WaitNode<L> {
    /// Notes that this guest waits for `to`, until what is returned is dropped, and
    /// what it was told of is back.
    ///
    /// # Errors
    ///
    /// The guests of the cycle that this would close, from this one to this one.
    pub(super) fn wait(
        self: &Arc<WaitNode<L>>,
        to: &Arc<WaitNode<L>>,
    ) -> Result<WaitEdge<L>, Vec<GuestId>> {
        let mut noted = self.noted();
        // With the lock: who has a lower number than another, and is looked for by
        // that one, is found.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let last = noted.replace(Wait {
            number,
            to: to.clone(),
            lends: L::default(),
            returned: false,
        });
        drop(noted);
        drop(last);
        let waiting = WaitEdge {
            from: self.clone(),
            number,
        };
        match self.cycle(number, to) {
            Some(cycle) => Err(cycle), // And what is noted goes again.
            None => Ok(waiting),
        }
    }

    /// The cycle from this guest by way of `to`, if all others on it began to wait
    /// before it did, by this number.
    fn cycle(self: &Arc<WaitNode<L>>, number: u64, to: &Arc<WaitNode<L>>) -> Option<Vec<GuestId>> {
        let (mut met, mut at) = (Vec::new(), to.clone());
        while !Arc::ptr_eq(self, &at) {
            let (next_number, next) = at.waits_for()?;
            // Whoever began later looks for itself. And a cycle of others, or one that
            // comes to be while this looks, is theirs: one with this guest has stood
            // still since it noted its own part.
            let again = met.iter().any(|(life, _)| Arc::ptr_eq(life, &at));
            if next_number > number || again {
                return None;
            }
            met.push((at, next_number));
            at = next;
        }
        // Whether they all wait at once, or one did before the other.
        for (life, number) in &met {
            match life.waits_for() {
                Some((still, _)) if still == *number => {}
                _ => return None,
            }
        }
        let met = met.iter().map(|(life, _)| life.guest);
        let ends = [self.guest];
        Some(ends.into_iter().chain(met).chain(ends).collect())
    }

    /// For whom it waits now, if for anybody, and by which number.
    fn waits_for(&self) -> Option<(u64, Arc<WaitNode<L>>)> {
        let mut noted = self.noted();
        let wait = noted.as_ref()?;
        if wait.is_over() {
            let over = noted.take();
            drop(noted);
            drop(over);
            return None;
        }
        Some((wait.number, wait.to.clone()))
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> bool {
        self.waits_for().is_some()
    }
}

/// That a guest waits for another to return, until this is dropped.
#[derive(Debug)]
pub(super) struct WaitEdge<L: LentRegions> {
    from: Arc<WaitNode<L>>,
    number: u64,
}

impl<L: LentRegions> WaitEdge<L> {
    /// The caller.
    pub(super) fn from(&self) -> GuestId {
        self.from.guest
    }

    /// The guest waits for these besides.
    pub(super) fn for_lends(&self, lends: L) {
        if let Some(wait) = self.own(&mut self.from.noted()) {
            wait.lends = lends;
        }
    }

    fn own<'a>(&self, noted: &'a mut Option<Wait<L>>) -> Option<&'a mut Wait<L>> {
        let wait = noted.as_mut()?;
        (wait.number == self.number).then_some(wait)
    }
}

impl<L: LentRegions> Drop for WaitEdge<L> {
    fn drop(&mut self) {
        let mut noted = self.from.noted();
        if let Some(wait) = self.own(&mut noted) {
            wait.returned = true;
            // Others look after what is left, when they come by.
            if wait.is_over() {
                let over = noted.take();
                drop(noted);
                drop(over);
            }
        }
    }
}
