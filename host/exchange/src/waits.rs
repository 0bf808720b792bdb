//! The graph of guests that wait for each other, so that no guest comes to wait for itself.
//!
//! A guest that begins to wait notes this in its own node, under a number that counts up.
//! Then it walks along what the others have noted. The last guest to note an edge of a cycle
//! finds the whole cycle, and is refused. So calls share no lock.
//!
//! A guest that takes several calls at a time has a node for each of them, because each waits by
//! itself. Such a call also waits for whatever its guest as a whole waits for: a plain call
//! suspends all of the guest. A call that awaits several others has an edge for each.
//!
//! An edge stands until the call has returned *and* what it lent is back. A callee that is
//! ended may have re-lent the region. The third guest keeps running, and must not wait for
//! the lender.

use std::collections::{BTreeMap, HashMap};
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

/// An incarnation of a guest, or one of its calls in progress, and what it waits for, whether that
/// call is queued or runs.
#[derive(Debug)]
pub(crate) struct WaitNode<L> {
    guest: GuestId,
    /// The node of the guest, if this is the node of a call.
    within: Option<Arc<WaitNode<L>>>,
    waits: Mutex<Waits<L>>,
}

/// The edges of a node.
#[derive(Debug)]
struct Waits<L> {
    /// The plain call that it makes, of which there is one at a time.
    plain: Option<Wait<L>>,
    /// The calls that it awaits, by the numbers of the edges. A guest may have thousands.
    awaited: BTreeMap<u64, Wait<L>>,
}

impl<L> Waits<L> {
    /// Returns the edge with this number, if it still stands.
    #[inline]
    fn get(&mut self, number: u64) -> Option<&mut Wait<L>> {
        match &mut self.plain {
            Some(wait) if wait.number == number => Some(wait),
            _ => self.awaited.get_mut(&number),
        }
    }

    /// Removes the edge with this number. Drop it without the lock.
    #[inline]
    fn take(&mut self, number: u64) -> Option<Wait<L>> {
        if matches!(&self.plain, Some(wait) if wait.number == number) {
            return self.plain.take();
        }
        self.awaited.remove(&number)
    }
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
    fn new(number: u64, to: &Arc<WaitNode<L>>) -> Wait<L> {
        Wait {
            number,
            to: to.clone(),
            lends: L::default(),
            returned: false,
        }
    }

    #[inline]
    fn is_over(&self) -> bool {
        self.returned && self.lends.are_all_back()
    }
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl<L> WaitNode<L> {
    /// Makes the node of a guest.
    pub(crate) fn new(guest: GuestId) -> Arc<WaitNode<L>> {
        WaitNode::make(guest, None)
    }

    /// Makes the node of a call of the guest with this node.
    pub(crate) fn of_call(within: &Arc<WaitNode<L>>) -> Arc<WaitNode<L>> {
        WaitNode::make(within.guest, Some(within.clone()))
    }

    fn make(guest: GuestId, within: Option<Arc<WaitNode<L>>>) -> Arc<WaitNode<L>> {
        let waits = Waits {
            plain: None,
            awaited: BTreeMap::new(),
        };
        Arc::new(WaitNode {
            guest,
            within,
            waits: Mutex::new(waits),
        })
    }

    /// Returns the guest whose incarnation or call it is.
    pub(crate) fn guest(&self) -> GuestId {
        self.guest
    }

    #[inline]
    fn noted(&self) -> MutexGuard<'_, Waits<L>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step of a path through the graph.
struct Step<L> {
    node: Arc<WaitNode<L>>,
    /// The edges by which the path may go on.
    next: Vec<(Option<u64>, Arc<WaitNode<L>>)>,
    /// The edge by which it goes on. `None` if that is no edge: a call waits for its guest.
    by: Option<u64>,
}

impl<L: LentRegions> WaitNode<L> {
    /// Notes that this guest, in a plain call, waits for `to`, until the returned edge is dropped
    /// and the lends that the edge was told of are back.
    ///
    /// # Errors
    ///
    /// Returns the guests of the cycle that this would close, from this one to this one.
    pub(crate) fn wait(
        self: &Arc<WaitNode<L>>,
        to: &Arc<WaitNode<L>>,
    ) -> Result<WaitEdge<L>, Vec<GuestId>> {
        self.checked(self.note(to), to)
    }

    /// Notes that this call awaits `to`, beside others. Otherwise as [`wait`](WaitNode::wait).
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitNode::wait).
    pub(crate) fn wait_beside(
        self: &Arc<WaitNode<L>>,
        to: &Arc<WaitNode<L>>,
    ) -> Result<WaitEdge<L>, Vec<GuestId>> {
        let mut noted = self.noted();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        noted.awaited.insert(number, Wait::new(number, to));
        drop(noted);
        let waiting = WaitEdge {
            from: self.clone(),
            number,
        };
        self.checked(waiting, to)
    }

    fn checked(
        self: &Arc<WaitNode<L>>,
        waiting: WaitEdge<L>,
        to: &Arc<WaitNode<L>>,
    ) -> Result<WaitEdge<L>, Vec<GuestId>> {
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
        let last = noted.plain.replace(Wait::new(number, to));
        drop(noted);
        drop(last);
        WaitEdge {
            from: self.clone(),
            number,
        }
    }

    /// Returns the cycle from this node by way of `to`, if all others on it began to wait
    /// before this one did, by this number.
    fn cycle(self: &Arc<WaitNode<L>>, number: u64, to: &Arc<WaitNode<L>>) -> Option<Vec<GuestId>> {
        if Arc::ptr_eq(self, to) {
            return Some(vec![self.guest; 2]);
        }
        if to.within.is_none() && !to.is_waiting() {
            return None;
        }
        let mut path = vec![to.step(number)];
        // With the nodes themselves, so that no address is used again meanwhile.
        let mut met = HashMap::from([(Arc::as_ptr(to), to.clone())]);
        while let Some(step) = path.last_mut() {
            let Some((by, next)) = step.next.pop() else {
                path.pop();
                continue;
            };
            step.by = by;
            if Arc::ptr_eq(self, &next) {
                if path.iter().all(Step::stands) {
                    return Some(self.guests_of(&path));
                }
                continue;
            }
            // A cycle without this node is for the others to find.
            if met.insert(Arc::as_ptr(&next), next.clone()).is_some() {
                continue;
            }
            path.push(next.step(number));
        }
        None
    }

    /// Returns the guests of a cycle that begins and ends here. A step from a call to its guest
    /// adds none.
    fn guests_of(&self, path: &[Step<L>]) -> Vec<GuestId> {
        let mut guests = vec![self.guest];
        let between = path.iter().filter(|step| step.by.is_some());
        guests.extend(between.map(|step| step.node.guest));
        guests.push(self.guest);
        guests
    }

    /// Begins a step at this node, by edges with lower numbers than this.
    fn step(self: &Arc<WaitNode<L>>, number: u64) -> Step<L> {
        // A guest that began later looks for itself. A cycle that forms during this walk is for
        // the others to find: a cycle with this node has not changed since it noted its own edge.
        let edges = self.waits_for().into_iter();
        let edges = edges.filter(|(other, _)| *other < number);
        let mut next: Vec<_> = edges.map(|(other, to)| (Some(other), to)).collect();
        next.extend(self.within.clone().map(|guest| (None, guest)));
        Step {
            node: self.clone(),
            next,
            by: None,
        }
    }

    /// Returns the numbers of its edges, and where they lead.
    fn waits_for(&self) -> Vec<(u64, Arc<WaitNode<L>>)> {
        let mut noted = self.noted();
        let plain = noted.plain.take_if(|wait| wait.is_over());
        let awaited = &mut noted.awaited;
        let over: Vec<_> = awaited.extract_if(.., |_, wait| wait.is_over()).collect();
        let waits = noted.plain.iter().chain(noted.awaited.values());
        let waits = waits.map(|wait| (wait.number, wait.to.clone())).collect();
        drop(noted);
        drop((plain, over));
        waits
    }

    /// Returns whether it waits for a call to return, or for what it lent to be back.
    pub(crate) fn is_waiting(&self) -> bool {
        let noted = self.noted();
        let none = noted.plain.is_none() && noted.awaited.is_empty();
        drop(noted);
        !none && !self.waits_for().is_empty()
    }
}

impl<L: LentRegions> Step<L> {
    /// Returns whether the path still goes on from here. If all steps do, all of them wait at the
    /// same time, and not one after the other.
    fn stands(&self) -> bool {
        let Some(by) = self.by else {
            return true;
        };
        self.node
            .waits_for()
            .iter()
            .any(|(number, _)| *number == by)
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
        if let Some(wait) = self.from.noted().get(self.number) {
            wait.lends = lends;
        }
    }

    /// Returns the means to remove the edge while the call goes on.
    pub(crate) fn canceller(&self) -> WaitCanceller<L> {
        WaitCanceller {
            from: self.from.clone(),
            number: self.number,
        }
    }
}

impl<L: LentRegions> Drop for WaitEdge<L> {
    #[inline]
    fn drop(&mut self) {
        let mut noted = self.from.noted();
        if let Some(wait) = noted.get(self.number) {
            wait.returned = true;
            // An edge that is not over is removed by a later walk.
            if wait.is_over() {
                let over = noted.take(self.number);
                drop(noted);
                drop(over);
            }
        }
    }
}

/// Removes an edge, for a caller that does not wait any more. The call goes on.
#[derive(Debug)]
pub struct WaitCanceller<L> {
    from: Arc<WaitNode<L>>,
    number: u64,
}

impl<L> WaitCanceller<L> {
    /// Removes the edge, if it still stands. Does not block.
    pub fn cancel(&self) {
        let cancelled = self.from.noted().take(self.number);
        drop(cancelled); // Without the lock.
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

    fn beside(from: &Node, to: &Node) -> Result<WaitEdge<Lends>, Vec<usize>> {
        let indices = |cycle: Vec<GuestId>| cycle.into_iter().map(GuestId::index).collect();
        from.wait_beside(to).map_err(indices)
    }

    // rule 11
    #[test]
    fn calls_of_one_guest_wait_each_by_itself() {
        let [a, x] = [0, 1].map(node);
        let [first, second] = [(); 2].map(|()| WaitNode::of_call(&x));
        // `a` takes one call at a time, and awaits the first call.
        let waiting = beside(&a, &first).unwrap();
        assert_eq!(beside(&first, &a).unwrap_err(), [1, 0, 1]);
        let other = beside(&second, &a).expect("`a` will be free again");
        assert_eq!(
            wait(&x, &a).unwrap_err(),
            [1, 0, 1],
            "it suspends the first"
        );
        drop(waiting);
        assert!(beside(&first, &a).is_ok());
        drop(other);
    }

    // rule 11
    #[test]
    fn plain_call_suspends_all_of_its_guest() {
        let [x, y] = [0, 1].map(node);
        let in_y = WaitNode::of_call(&y);
        let plain = wait(&x, &in_y).unwrap();
        let back = WaitNode::of_call(&x);
        assert_eq!(beside(&in_y, &back).unwrap_err(), [1, 0, 1]);
        let stranger = WaitNode::of_call(&y);
        assert!(beside(&stranger, &back).is_ok(), "`x` goes on later");
        drop(plain);
        assert!(beside(&in_y, &back).is_ok());
        let again = beside(&in_y, &back).unwrap();
        assert_eq!(wait(&x, &in_y).unwrap_err(), [0, 1, 0]);
        drop(again);
    }

    // rule 11
    #[test]
    fn call_awaits_several_others() {
        let [x, y, z] = [0, 1, 2].map(node);
        let call = WaitNode::of_call(&x);
        let waits = [&y, &z].map(|to| beside(&call, to).unwrap());
        for back in [&y, &z] {
            assert!(beside(back, &call).is_err());
        }
        let [to_y, to_z] = waits;
        drop(to_y);
        assert!(beside(&y, &call).is_ok() && beside(&z, &call).is_err());
        drop(to_z);
        assert!(!call.is_waiting());
    }

    // rule 11
    #[test]
    fn cancelled_wait_closes_no_cycle() {
        let [a, b] = [0, 1].map(node);
        let (lends, _revoke) = lend();
        let waiting = beside(&a, &b).unwrap();
        waiting.for_lends(lends);
        assert!(wait(&b, &a).is_err());
        waiting.canceller().cancel();
        assert!(wait(&b, &a).is_ok());
        drop(waiting);
        assert!(!a.is_waiting());
    }
}
