//! The queue of waiters for windows: their places, their order, and the blocker of each.
//! The module `waits` says who comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::place_tree::{PlaceTree, QueuePlace};
use super::{Access, ClaimId, LendId, WaiterId, WindowId};
use crate::span::Span;

/// The state of a waiter in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaiterState {
    Waiting,
    /// Its window is reserved until this moment.
    Reserved(Duration),
    /// Its reservation expired unused. It blocks nobody, and goes to the end of the queue if it
    /// is polled again.
    Expired,
}

/// The blocker of a waiter: one window or one other waiter, of all that may block it. While
/// this one does, the others need not be examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blocker {
    Window(WindowId),
    Waiter(WaiterId),
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) claim: ClaimId,
    pub(super) via: Option<LendId>,
    pub(super) span: Span,
    pub(super) access: Access,
    pub(super) state: WaiterState,
    /// Its place, which is smaller for earlier waiters.
    place: u64,
    /// Whether it waits for a window of its own claim, so that it blocks nobody.
    waits_for_own: bool,
    blocker: Option<Blocker>,
}

impl Waiter {
    pub(super) fn conflicts(&self, span: Span, access: Access) -> bool {
        self.span.overlaps(span) && !self.access.is_compatible_with(access)
    }

    /// Returns whether it waits for such a window, or for more than that.
    pub(super) fn is_for(&self, span: Span, access: Access) -> bool {
        self.span.contains(span) && access.within(self.access)
    }

    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// Returns whether it waits without a reservation.
    pub(super) fn waits(&self) -> bool {
        self.state == WaiterState::Waiting
    }

    pub(super) fn waits_for_own(&self) -> bool {
        self.waits_for_own
    }

    /// Returns its place among the waiters that block others, if it blocks any. A
    /// reservation blocks all others, even those that came first.
    fn blocking_place(&self) -> Option<QueuePlace> {
        match self.state {
            WaiterState::Waiting if !self.waits_for_own => Some((self.place, self.id)),
            WaiterState::Reserved(_) => Some((0, self.id)),
            _ => None,
        }
    }
}

/// The queue of a region.
///
/// Each waiter without a reservation has one [`Blocker`], or is `unsettled`: it must be
/// examined. A change in the queue or among the windows unsettles only the waiters that noted
/// it as their blocker. So the cost of a change depends on the waiters that it may serve, not
/// on all of them.
#[derive(Debug)]
pub(super) struct Queue {
    granules: u64,
    waiters: BTreeMap<WaiterId, Waiter>,
    places: BTreeMap<(ClaimId, Option<LendId>), WaiterId>,
    /// The waiters that block others, by the access for which they wait.
    blocking: BTreeMap<Access, PlaceTree>,
    /// The same, in their order.
    order: BTreeSet<QueuePlace>,
    /// The ends of reservations.
    expiries: BTreeSet<(Duration, WaiterId)>,
    blocked: BTreeSet<(Blocker, WaiterId)>,
    unsettled: BTreeSet<QueuePlace>,
    /// The waiters that must be woken.
    woken: Vec<WaiterId>,
}

impl Queue {
    pub(super) fn new(granules: u64) -> Queue {
        Queue {
            granules,
            waiters: BTreeMap::new(),
            places: BTreeMap::new(),
            blocking: BTreeMap::new(),
            order: BTreeSet::new(),
            expiries: BTreeSet::new(),
            blocked: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            woken: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    #[inline]
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    #[inline]
    pub(super) fn take_woken(&mut self) -> Vec<WaiterId> {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn get(&self, id: WaiterId) -> Option<&Waiter> {
        self.waiters.get(&id)
    }

    fn get_mut(&mut self, id: WaiterId) -> &mut Waiter {
        self.waiters.get_mut(&id).expect("it is in the queue")
    }

    /// Returns the waiter of a claim, or of a lend of it.
    #[inline]
    pub(super) fn of(&self, claim: ClaimId, via: Option<LendId>) -> Option<&Waiter> {
        self.places.get(&(claim, via)).map(|id| &self.waiters[id])
    }

    /// Returns the waiters of a claim and of all of its lends.
    pub(super) fn of_claim(&self, claim: ClaimId) -> impl Iterator<Item = &Waiter> {
        self.places
            .range((claim, None)..)
            .take_while(move |((other, _), _)| *other == claim)
            .map(|(_, id)| &self.waiters[id])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.values()
    }

    /// Returns the waiters that block others, without reservations, in their order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Waiter> {
        let reserved = (1, WaiterId(0));
        self.order
            .range(reserved..)
            .map(|(_, id)| &self.waiters[id])
    }

    /// Puts a claim or a lend at the end of the queue, at a place larger than all before it.
    pub(super) fn push(
        &mut self,
        id: WaiterId,
        (claim, via): (ClaimId, Option<LendId>),
        span: Span,
        access: Access,
    ) {
        let waiter = Waiter {
            id,
            claim,
            via,
            span,
            access,
            state: WaiterState::Waiting,
            place: id.0,
            waits_for_own: false,
            blocker: None,
        };
        self.waiters.insert(id, waiter);
        self.places.insert((claim, via), id);
        self.start_blocking(id);
        self.unsettled.insert((id.0, id));
    }

    /// Removes a waiter from the queue and wakes it. Does nothing if it is not there.
    pub(super) fn remove(&mut self, id: WaiterId) {
        if !self.waiters.contains_key(&id) {
            return;
        }
        self.stop_blocking(id);
        self.unblock(id);
        let waiter = self.waiters.remove(&id).expect("found above");
        self.unsettled.remove(&(waiter.place, id));
        self.places.remove(&(waiter.claim, waiter.via));
        if let WaiterState::Reserved(until) = waiter.state {
            self.expiries.remove(&(until, id));
        }
        self.woken.push(id);
    }

    /// Puts an expired waiter at the end, at a place larger than all before it.
    pub(super) fn requeue(&mut self, id: WaiterId, place: u64) {
        let waiter = self.get_mut(id);
        debug_assert_eq!(
            waiter.state,
            WaiterState::Expired,
            "only expired waiters have no place"
        );
        (waiter.state, waiter.place) = (WaiterState::Waiting, place);
        self.start_blocking(id);
        self.unsettled.insert((place, id));
    }

    /// Reserves a waiter's window until a moment, and wakes it.
    pub(super) fn reserve(&mut self, id: WaiterId, until: Duration) {
        // Waiters that it blocks stay blocked by its reservation.
        self.withdraw(id);
        self.get_mut(id).state = WaiterState::Reserved(until);
        self.start_blocking(id);
        self.expiries.insert((until, id));
        self.woken.push(id);
    }

    /// Ends the earliest reservations, if they end at or before a moment. Returns when they
    /// ended.
    pub(super) fn expire(&mut self, now: Duration) -> Option<Duration> {
        let until = self.next_expiry().filter(|until| *until <= now)?;
        while let Some((_, id)) = self
            .expiries
            .first()
            .filter(|(at, _)| *at == until)
            .copied()
        {
            self.expiries.pop_first();
            self.stop_blocking(id);
            self.get_mut(id).state = WaiterState::Expired;
            self.woken.push(id);
        }
        Some(until)
    }

    #[inline]
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first().map(|(until, _)| *until)
    }

    /// Returns the unsettled waiter that has waited longest.
    pub(super) fn next_unsettled(&self) -> Option<WaiterId> {
        self.unsettled.first().map(|(_, id)| *id)
    }

    /// Notes the blocker of a waiter, which is not examined until the blocker changes.
    pub(super) fn block(&mut self, id: WaiterId, blocker: Blocker) {
        self.unblock(id);
        let waiter = self.get_mut(id);
        waiter.blocker = Some(blocker);
        let place = waiter.place;
        self.unsettled.remove(&(place, id));
        self.blocked.insert((blocker, id));
    }

    /// Notes that a waiter waits for a window of its own claim, and blocks nobody.
    pub(super) fn block_by_own(&mut self, id: WaiterId, window: WindowId) {
        self.stop_blocking(id);
        self.get_mut(id).waits_for_own = true;
        self.block(id, Blocker::Window(window));
    }

    /// Notes that a waiter no longer waits for a window of its own claim.
    pub(super) fn unblock_by_own(&mut self, id: WaiterId) {
        self.get_mut(id).waits_for_own = false;
        self.start_blocking(id);
        self.unsettle(id);
    }

    /// Notes that a waiter must be examined.
    pub(super) fn unsettle(&mut self, id: WaiterId) {
        self.unblock(id);
        let waiter = &self.waiters[&id];
        if waiter.waits() {
            self.unsettled.insert((waiter.place, id));
        }
    }

    /// Unsettles the waiters that noted this blocker, and returns them.
    pub(super) fn release(&mut self, blocker: Blocker) -> Vec<WaiterId> {
        let all = (blocker, WaiterId(0))..=(blocker, WaiterId(u64::MAX));
        let released: Vec<WaiterId> = self.blocked.range(all).map(|(_, id)| *id).collect();
        for id in &released {
            self.unsettle(*id);
        }
        released
    }

    fn unblock(&mut self, id: WaiterId) {
        if let Some(blocker) = self.get_mut(id).blocker.take() {
            self.blocked.remove(&(blocker, id));
        }
    }

    /// Makes a waiter block others, if its state says so.
    fn start_blocking(&mut self, id: WaiterId) {
        let waiter = &self.waiters[&id];
        if let Some(place) = waiter.blocking_place() {
            let tree = self.blocking.entry(waiter.access);
            let tree = tree.or_insert_with(|| PlaceTree::new(self.granules));
            tree.insert(place, waiter.span, waiter.claim);
            self.order.insert(place);
        }
    }

    /// Makes a waiter block others no longer, and unsettles those that it blocked.
    fn stop_blocking(&mut self, id: WaiterId) {
        self.withdraw(id);
        self.release(Blocker::Waiter(id));
    }

    /// Removes a waiter from those that block others and from the unsettled ones.
    fn withdraw(&mut self, id: WaiterId) {
        let waiter = &self.waiters[&id];
        if let Some(place) = waiter.blocking_place() {
            if let Some(tree) = self.blocking.get_mut(&waiter.access) {
                tree.remove(place, waiter.span);
                if tree.is_empty() {
                    self.blocking.remove(&waiter.access);
                }
            }
            self.order.remove(&place);
        }
        let place = waiter.place;
        self.unsettled.remove(&(place, id));
    }

    /// Returns the first waiter with which such a window of this claim conflicts, if it comes
    /// before a place: by a reservation, or because it has waited longer.
    pub(super) fn earliest(
        &self,
        claim: ClaimId,
        span: Span,
        access: Access,
        place: u64,
    ) -> Option<&Waiter> {
        let kinds = self.blocking.iter();
        let kinds = kinds.filter(|(other, _)| !access.is_compatible_with(**other));
        let first = kinds
            .filter_map(|(_, tree)| tree.earliest(span, claim))
            .min()?;
        (first.0 < place).then(|| &self.waiters[&first.1])
    }

    /// Returns the last such waiter instead of the [first](Queue::earliest). If each waiter is
    /// blocked by the one before it, few are blocked by the same one.
    pub(super) fn latest(
        &self,
        claim: ClaimId,
        span: Span,
        access: Access,
        place: u64,
    ) -> Option<&Waiter> {
        let kinds = self.blocking.iter();
        let kinds = kinds.filter(|(other, _)| !access.is_compatible_with(**other));
        let last = kinds.filter_map(|(_, tree)| tree.latest(span, claim, place));
        last.max().map(|(_, id)| &self.waiters[&id])
    }
}
