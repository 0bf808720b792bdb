//! The graph of guests that wait for each other, so that no guest comes to wait for itself.
//!
//! A guest that begins to wait notes this in its own node, under a number that counts up.
//! Then it walks along what the others have noted. The last guest to note an edge of a cycle
//! finds the whole cycle, and is refused. So calls share no lock.
//!
//! An edge stands until the call has returned *and* what it lent is back. A callee that is
//! ended may have re-lent the region. The third guest keeps running, and must not wait for
//! the lender.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use crate::guest_id::GuestId;
use crate::sync::{Mutex, MutexGuard};

/// The regions that a caller lent in a call. The caller waits until the call has returned and all
/// of them are back.
pub trait LentRegions: Default + Send + 'static {
    /// Returns whether all of them are back. That is final.
    fn are_all_back(&self) -> bool;
}

/// An incarnation of a guest, and the one that it waits for. A guest that calls waits for one
/// other guest, whether the call is queued or runs.
#[derive(Debug)]
pub(crate) struct WaitNode<L> {
    guest: GuestId,
    wait: Mutex<Option<Wait<L>>>,
}

/// An edge: a guest waits for another, first for the call to return, and then for what it
/// lent to be back.
///
/// While that is not back, a guest that borrowed it must not wait for the lender. This holds
/// even if the lender has ended and waits no more, because guests that lent to it wait for
/// the same. A restarted lender makes no difference: its next incarnation waits for nothing
/// of this.
#[derive(Debug)]
struct Wait<L> {
    /// A number that tells this edge from the next one of the same guest. A guest that learns
    /// of the end of a call may call again before that end is noted here.
    number: u64,
    to: Arc<WaitNode<L>>,
    lends: L,
    returned: bool,
}

impl<L: LentRegions> Wait<L> {
    #[inline]
    fn is_over(&self) -> bool {
        self.returned && self.lends.are_all_back()
    }
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl<L> WaitNode<L> {
    pub(crate) fn new(guest: GuestId) -> Arc<WaitNode<L>> {
        Arc::new(WaitNode {
            guest,
            wait: Mutex::new(None),
        })
    }

    /// Returns the guest whose incarnation it is.
    pub(crate) fn guest(&self) -> GuestId {
        self.guest
    }

    #[inline]
    fn noted(&self) -> MutexGuard<'_, Option<Wait<L>>> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: LentRegions> WaitNode<L> {
    /// Notes that this guest waits for `to`, until the returned edge is dropped and the lends
    /// that the edge was told of are back.
    ///
    /// # Errors
    ///
    /// Returns the guests of the cycle that this would close, from this one to this one.
    pub(crate) fn wait(
        self: &Arc<WaitNode<L>>,
        to: &Arc<WaitNode<L>>,
    ) -> Result<WaitEdge<L>, Vec<GuestId>> {
        let waiting = self.note(to);
        match self.cycle(waiting.number, to) {
            Some(cycle) => Err(cycle), // Dropping `waiting` removes the edge.
            None => Ok(waiting),
        }
    }

    /// Notes that this guest waits for `to`, which is idle and in this guest's hands: it waits
    /// for nobody, so this closes no cycle. Others find the edge as any other.
    #[inline]
    pub(crate) fn wait_idle(self: &Arc<WaitNode<L>>, to: &Arc<WaitNode<L>>) -> WaitEdge<L> {
        self.note(to)
    }

    #[inline]
    fn note(self: &Arc<WaitNode<L>>, to: &Arc<WaitNode<L>>) -> WaitEdge<L> {
        let mut noted = self.noted();
        // Numbered under the lock, so that a guest with a lower number than another has
        // noted its edge when the other one looks.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let last = noted.replace(Wait {
            number,
            to: to.clone(),
            lends: L::default(),
            returned: false,
        });
        drop(noted);
        drop(last);
        WaitEdge {
            from: self.clone(),
            number,
        }
    }

    /// Returns the cycle from this guest by way of `to`, if all others on it began to wait
    /// before this one did, by this number.
    fn cycle(self: &Arc<WaitNode<L>>, number: u64, to: &Arc<WaitNode<L>>) -> Option<Vec<GuestId>> {
        let (mut met, mut at) = (Vec::new(), to.clone());
        while !Arc::ptr_eq(self, &at) {
            let (next_number, next) = at.waits_for()?;
            // A guest that began later looks for itself. A cycle without this guest, or one
            // that forms during this walk, is for the others to find: a cycle with this
            // guest has not changed since it noted its own edge.
            let again = met.iter().any(|(node, _)| Arc::ptr_eq(node, &at));
            if next_number > number || again {
                return None;
            }
            met.push((at, next_number));
            at = next;
        }
        // Tells whether all of them wait at the same time, or one after the other.
        for (node, number) in &met {
            match node.waits_for() {
                Some((still, _)) if still == *number => {}
                _ => return None,
            }
        }
        let met = met.iter().map(|(node, _)| node.guest);
        let ends = [self.guest];
        Some(ends.into_iter().chain(met).chain(ends).collect())
    }

    /// Returns the number of its edge, and the guest that it waits for, if it waits.
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

    /// Returns whether it waits for a call to return, or for what it lent to be back.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits_for().is_some()
    }
}

/// An edge of the graph: a guest waits for another to return until this is dropped.
#[derive(Debug)]
pub(crate) struct WaitEdge<L: LentRegions> {
    from: Arc<WaitNode<L>>,
    number: u64,
}

impl<L: LentRegions> WaitEdge<L> {
    /// Returns the caller.
    #[inline]
    pub(crate) fn caller(&self) -> GuestId {
        self.from.guest
    }

    /// Makes the guest wait for these lends as well.
    pub(crate) fn for_lends(&self, lends: L) {
        if let Some(wait) = self.own(&mut self.from.noted()) {
            wait.lends = lends;
        }
    }

    #[inline]
    fn own<'a>(&self, noted: &'a mut Option<Wait<L>>) -> Option<&'a mut Wait<L>> {
        let wait = noted.as_mut()?;
        (wait.number == self.number).then_some(wait)
    }
}

impl<L: LentRegions> Drop for WaitEdge<L> {
    #[inline]
    fn drop(&mut self) {
        let mut noted = self.from.noted();
        if let Some(wait) = self.own(&mut noted) {
            wait.returned = true;
            // An edge that is not over is removed by a later walk.
            if wait.is_over() {
                let over = noted.take();
                drop(noted);
                drop(over);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Lends that are over once this is set.
    #[derive(Clone, Debug, Default)]
    struct Lends(Option<Arc<AtomicBool>>);

    impl LentRegions for Lends {
        fn are_all_back(&self) -> bool {
            let over = self.0.as_ref();
            over.is_none_or(|over| over.load(Ordering::SeqCst))
        }
    }

    type Node = Arc<WaitNode<Lends>>;

    fn node(guest: usize) -> Node {
        WaitNode::new(GuestId::new(guest))
    }

    fn wait(from: &Node, to: &Node) -> Result<WaitEdge<Lends>, Vec<usize>> {
        let indices = |cycle: Vec<GuestId>| cycle.into_iter().map(GuestId::index).collect();
        from.wait(to).map_err(indices)
    }

    /// Returns a lend, and a function that ends it.
    fn lend() -> (Lends, impl FnOnce()) {
        let over = Arc::new(AtomicBool::new(false));
        let lends = Lends(Some(over.clone()));
        (lends, move || over.store(true, Ordering::SeqCst))
    }

    // rule 11
    #[test]
    fn cycle_is_refused_until_a_call_returns() {
        let [a, b, c] = [0, 1, 2].map(node);
        let first = wait(&a, &b).unwrap();
        let second = wait(&b, &c).unwrap();
        assert_eq!(wait(&c, &a).unwrap_err(), [2, 0, 1, 2]);
        drop(second);
        assert!(wait(&c, &a).is_ok());
        drop(first);
        assert!([a, b, c].iter().all(|it| !it.is_waiting()));
    }

    // rule 11
    #[test]
    fn returned_caller_waits_for_its_lends() {
        let [a, b, c] = [0, 1, 2].map(node);
        let (lends, revoke) = lend();
        let first = wait(&a, &b).unwrap();
        first.for_lends(lends);
        let second = wait(&b, &c).unwrap();
        // `b` has died. `c` goes on with the region that `b` re-lent.
        drop(first);
        assert!(wait(&c, &a).is_err());
        revoke();
        assert!(wait(&c, &a).is_ok());
        drop(second);
    }

    // rule 11
    #[test]
    fn new_incarnation_inherits_no_waits() {
        let [a, b, c] = [0, 1, 2].map(node);
        // `a` is ended while `b` works for it, and is restarted.
        let old = wait(&a, &b).unwrap();
        let a = node(0);
        // `b` may call it.
        drop(wait(&b, &a).unwrap());
        // It calls `c`. That `b` returns changes nothing about it.
        let new = wait(&a, &c).unwrap();
        drop(old);
        assert!(wait(&c, &a).is_err(), "`a` waits for `c`");
        drop(new);
        assert!(wait(&c, &a).is_ok());
    }

    // rule 11
    #[test]
    fn lends_to_an_old_incarnation_are_waited_for() {
        let [x, a, b] = [0, 1, 2].map(node);
        // `x` lent to `a`, which re-lent to `b` and was ended.
        let (lends, revoke) = lend();
        let outer = wait(&x, &a).unwrap();
        outer.for_lends(lends);
        let inner = wait(&a, &b).unwrap();
        drop(outer);
        let restarted = node(1);
        let new = wait(&restarted, &b).unwrap();
        assert!(wait(&b, &x).is_err(), "`x` waits for what `b` has");
        revoke();
        assert!(wait(&b, &x).is_ok());
        drop((inner, new));
        assert!(!a.is_waiting() && !restarted.is_waiting());
    }
}
