//! Waiting for windows: the order of waiters, and reservations.
//!
//! The ledger has one queue of waiters. Each has a claim, the lend by which its holder has the
//! claim, a span and an access. A waiter is *ready* when its window would conflict with no
//! window, with no reservation, and with no earlier waiter. From then on the window is reserved
//! for 100 ms. A window that the claim opens uses up the reservation. An unused one expires. An
//! expired waiter blocks nobody until it asks again, and then it is the last.
//!
//! New windows, more access, copies and guards are refused if they conflict with a reservation
//! or a waiter. So the front of the queue is served first, and not the holder that retries.
//! Giving up access is never refused for that reason.
//!
//! - A claim never blocks itself. It has one place in the queue, and one more for each lend of
//!   it. A second wait gives up the first, which becomes ready.
//! - A waiter may wait for windows that a lend sets aside for a borrower. It does not come
//!   before that borrower: the lender waits for the borrower and would wait for ever. The same
//!   holds for waiters behind such a waiter. A borrower looks at the first 64 waiters and 256
//!   windows for this. It does not wait for those behind them.
//! - A waiter for a window of its own claim does not block others. Waiters behind it do.
//!   Otherwise a guest could starve a writer by waiting for itself.
//! - The end of the claim or the lend, a move, freezing, poison and unpinning end a wait that
//!   can no longer succeed. The waiter becomes ready, and opening the window gives the reason.
//!
//! # Time
//!
//! Time is a parameter of the ledger. A thread that locks a ledger first lets it
//! [advance](Ledger::advance), and again before it unlocks it. It then wakes the waiters about
//! which the ledger decided, and no others.
//!
//! # Cost
//!
//! Each waiter notes one *blocker*: a window or an earlier waiter in its way. While that blocker
//! stays, the waiter is not examined again. When a window closes or loses access, the waiters
//! that noted it become *unsettled*. The next thread that advances the ledger examines them. If
//! nothing has changed, advancing costs nothing. Waiters for the same bytes each note the one
//! before them, so usually one waiter is examined when a window closes. At worst each is
//! examined once. Examining one takes a few thousand instructions, which grow with the logarithm
//! of the number of windows and waiters. After every 50 of them the ledger is unlocked for
//! other threads.
//!
//! `tests/instructions` counts instructions with 12,000 windows, 1024 waiters, 1024 lends and
//! 4096 unpinned runs. They range from 850 (poll a waiter) to 29,150 (wait behind 513 others
//! and give up).

use std::time::Duration;

use super::queue::{Blocker, Waiter, WaiterState};
use super::{Access, ClaimId, Handle, Ledger, LedgerError, LendId, WaiterId, WindowId};
use crate::span::Span;

/// The time for which a window is reserved for a ready waiter: 100 ms.
pub const RESERVATION: Duration = Duration::from_millis(100);

/// The number of waiters that [`advance_some`](Ledger::advance_some) examines at most. Each
/// takes up to a few microseconds.
const EXAMINED: usize = 50;

/// The maximum number of waiters in front of a borrower that are checked for waiting for its
/// lender.
const IN_FRONT: usize = 64;

/// The maximum number of windows that are examined for that: windows of the claim that are not
/// the lender's.
const BESIDE: usize = 256;

/// The state of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// It should try to open its window: the window is reserved, or waiting does not help.
    Ready,
    /// It waits on until it is [woken](Ledger::take_woken). If there is a moment, it should
    /// poll again then, because a reservation expires.
    Pending(Option<Duration>),
}

impl<P> Ledger<P> {
    /// Puts a claim, or a lend, at the end of the queue for a window. It gives up the place that
    /// it had there before. Does not block: [poll](Ledger::poll_waiter) the waiter.
    ///
    /// # Errors
    ///
    /// Returns an error as [`open`](Ledger::open) does, except [`LedgerError::WouldBlock`] and
    /// [`LedgerError::OtherStrand`].
    pub fn enqueue(
        &mut self,
        handle: &Handle,
        span: Span,
        access: Access,
        now: Duration,
    ) -> Result<WaiterId, LedgerError> {
        self.may_open(handle, access.needs(), access)?;
        self.check_pinned(handle.claim, span)?;
        self.leave_queue(handle.claim, handle.via);
        let id = WaiterId(self.fresh());
        self.queue
            .push(id, (handle.claim, handle.via), span, access);
        // Reservations of others expire before this waiter is examined.
        self.advance_some(now);
        Ok(id)
    }

    /// Returns whether a waiter is ready. A waiter whose reservation expired waits again, as
    /// the last. A waiter that has left the queue is ready: its claim has the window, or waiting
    /// does not help.
    pub fn poll_waiter(&mut self, id: WaiterId, now: Duration) -> WaitStatus {
        self.advance_some(now);
        if self
            .queue
            .get(id)
            .is_some_and(|it| it.state == WaiterState::Expired)
        {
            let place = self.fresh();
            self.queue.requeue(id, place);
            self.advance_some(now);
        }
        match self.queue.get(id).map(|it| it.state) {
            Some(WaiterState::Waiting) => WaitStatus::Pending(self.next_expiry()),
            _ => WaitStatus::Ready,
        }
    }

    /// Removes a waiter from the queue. Does nothing if it has left.
    pub fn dequeue(&mut self, id: WaiterId) {
        self.queue.remove(id);
    }

    /// Returns whether there are waiters, so that the ledger must
    /// [advance](Ledger::advance).
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.queue.has_woken() || !self.queue.is_empty()
    }

    /// Advances the ledger to a moment: ends reservations, reserves windows for ready waiters,
    /// and removes waiters for which waiting no longer helps. Call this before other operations
    /// and after changes. Returns whether a waiter must be woken, and forgets which one.
    ///
    /// A ledger that threads share uses [`advance_some`](Ledger::advance_some) instead.
    pub fn advance(&mut self, now: Duration) -> bool {
        while self.advance_some(now) {}
        !self.take_woken().is_empty()
    }

    /// Advances the ledger as [`advance`](Ledger::advance) does, but examines at most 50
    /// waiters, so that it can be unlocked for other threads. Returns whether there may be more
    /// to examine. If nothing has changed, this takes constant time.
    pub fn advance_some(&mut self, now: Duration) -> bool {
        let mut left = EXAMINED;
        self.remove_hopeless(&mut left);
        while left > 0 {
            let expired = self.queue.expire(now);
            // The next reservation starts when this one ended, not when a thread notices.
            let at = expired.unwrap_or(now);
            while left > 0 {
                let Some(id) = self.queue.next_unsettled() else {
                    break;
                };
                left -= 1;
                self.examine(id, at);
            }
            if expired.is_none() {
                break;
            }
            left = left.saturating_sub(1);
        }
        left == 0
    }

    /// Takes the waiters that must be woken, since the last call.
    pub fn take_woken(&mut self) -> Vec<WaiterId> {
        self.queue.take_woken()
    }

    /// Returns the moment at which the next reservation expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.queue.next_expiry()
    }

    /// Examines a waiter: reserves its window or notes its blocker.
    fn examine(&mut self, id: WaiterId, now: Duration) {
        let Some(it) = self.queue.get(id) else {
            return;
        };
        if let Some(own) = self.own_conflict(it) {
            self.queue.block_by_own(id, own);
            return;
        }
        let (claim, span, access, place) = (it.claim, it.span, it.access, it.place());
        let before = match it.via {
            None => self.queue.latest(claim, span, access, place),
            via => self.before(claim, via, span, access, place),
        };
        if let Some(before) = before.map(|it| it.id) {
            self.queue.block(id, Blocker::Waiter(before));
            return;
        }
        match self.conflict(it.claim, it.via, it.span, it.access, None) {
            Some(window) => self.queue.block(id, Blocker::Window(window)),
            None => self.queue.reserve(id, now + RESERVATION),
        }
    }

    /// Removes waiters that cannot get their window by waiting, because the region is purged,
    /// poisoned or frozen, or the claim unpinned the bytes.
    fn remove_hopeless(&mut self, left: &mut usize) {
        for claim in std::mem::take(&mut self.unpinned_by) {
            let waiting = self.queue.of_claim(claim);
            let waiting: Vec<_> = waiting.map(|it| (it.id, it.span)).collect();
            for (id, span) in waiting {
                if self.check_pinned(claim, span).is_err() {
                    self.queue.remove(id);
                }
            }
        }
        let all = self.purged || self.poisoned;
        if self.queue.is_empty() || !(all || self.frozen && !self.only_readers_wait) {
            return;
        }
        let hopeless = self.queue.iter();
        let hopeless = hopeless.filter(|it| all || it.access != Access::Read);
        let hopeless: Vec<WaiterId> = hopeless.take(*left).map(|it| it.id).collect();
        *left -= hopeless.len();
        self.only_readers_wait = self.frozen && *left > 0;
        for id in hopeless {
            self.queue.remove(id);
        }
    }

    /// Returns a waiter that comes before such a window of a waiter at `place`: by a
    /// reservation, or because it has waited longer.
    ///
    /// A waiter for a window of its own claim blocks nobody. A borrower is not blocked by
    /// waiters for windows that are set aside for it: their owner waits for the borrower.
    fn before(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        place: u64,
    ) -> Option<&Waiter> {
        let first = self.queue.earliest(claim, span, access, place)?;
        if via.is_none() || !first.waits() {
            return Some(first);
        }
        let mut held: Vec<&Waiter> = Vec::new();
        let mut windows = BESIDE;
        let in_front = self.queue.in_order().filter(|it| it.claim != claim);
        // A borrower does not wait for those further behind: they may wait for its lender,
        // which waits for it.
        for it in in_front.take(IN_FRONT) {
            if it.place() >= place {
                break;
            }
            let mut before = held.iter();
            if self.waits_for_aside(it, (claim, via), &mut windows)
                || before.any(|one| one.claim != it.claim && one.conflicts(it.span, it.access))
            {
                held.push(it);
            } else if it.conflicts(span, access) {
                return Some(it);
            }
        }
        None
    }

    /// Returns whether a waiter waits for a window that is set aside, or may do so because no
    /// windows are `left` to examine.
    fn waits_for_aside(
        &self,
        waiter: &Waiter,
        (claim, via): (ClaimId, Option<LendId>),
        left: &mut usize,
    ) -> bool {
        let (span, access) = (waiter.span, waiter.access);
        let aside = self
            .windows
            .find_against(claim, span, access, &[], |id, window| {
                *left = left.saturating_sub(1);
                *left == 0 || self.is_aside(id, window, via)
            });
        aside.is_some()
    }

    /// Returns a window of its own claim that a waiter waits for.
    fn own_conflict(&self, it: &Waiter) -> Option<WindowId> {
        let aside = self.tags_aside(it.claim, it.via);
        self.windows
            .find_against(it.claim, it.span, it.access, &aside, |id, window| {
                !self.is_aside(id, window, it.via)
            })
    }

    /// Returns whether any waiter comes before such a new window or such new access of one.
    pub(super) fn is_behind(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
    ) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let own = self.queue.of(claim, via);
        let own = own.filter(|it| it.state != WaiterState::Expired && it.is_for(span, access));
        let place = own.map_or(u64::MAX, Waiter::place);
        self.before(claim, via, span, access, place).is_some()
    }

    /// Ends the wait for a window that was opened.
    pub(super) fn consume(
        &mut self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
    ) {
        let own = self.queue.of(claim, via);
        if let Some(id) = own.filter(|it| it.is_for(span, access)).map(|it| it.id) {
            self.queue.remove(id);
        }
    }

    /// Ends the wait of a claim or a lend.
    pub(super) fn leave_queue(&mut self, claim: ClaimId, via: Option<LendId>) {
        if let Some(id) = self.queue.of(claim, via).map(|it| it.id) {
            self.queue.remove(id);
        }
    }

    /// Ends the waits of a claim and its lends.
    pub(super) fn leave_queue_whole(&mut self, claim: ClaimId) {
        let all: Vec<WaiterId> = self.queue.of_claim(claim).map(|it| it.id).collect();
        for id in all {
            self.queue.remove(id);
        }
    }

    /// Notes that a window is open or has more access than before. Waiters of its claim may
    /// wait for it now.
    pub(super) fn note_window(&mut self, id: WindowId) {
        if self.queue.is_empty() {
            return;
        }
        let Some(window) = self.windows.get(id) else {
            return;
        };
        let claim = window.claim;
        let waits_now = |it: &&Waiter| {
            it.waits()
                && !it.waits_for_own()
                && it.conflicts(window.span, window.access)
                && !self.is_aside(id, window, it.via)
        };
        let waiters = self.queue.of_claim(claim).filter(waits_now);
        let waiters: Vec<WaiterId> = waiters.map(|it| it.id).collect();
        for waiter in waiters {
            self.queue.block_by_own(waiter, id);
        }
    }

    /// Notes that a window is closed or has another access than before.
    pub(super) fn note_change(&mut self, id: WindowId, claim: ClaimId) {
        if self.queue.is_empty() {
            return;
        }
        let mut unblocked = false;
        for waiter in self.queue.release(Blocker::Window(id)) {
            let it = self.queue.get(waiter).expect("it waited for the window");
            if it.claim != claim || !it.waits_for_own() {
                continue;
            }
            match self.own_conflict(it) {
                Some(own) => self.queue.block_by_own(waiter, own),
                None => {
                    self.queue.unblock_by_own(waiter);
                    unblocked = true;
                }
            }
        }
        if unblocked {
            // Waiters behind it may now be behind a lender.
            let lent = self.queue.iter().filter(|it| it.via.is_some());
            self.unsettle_all(lent.map(|it| it.id).collect());
        }
    }

    /// Notes that a window of a claim has another access than before. Other claims may wait for
    /// it now, and then the claim's borrowers are no longer behind them.
    pub(super) fn note_aside(&mut self, claim: ClaimId) {
        let lent = self.queue.of_claim(claim).filter(|it| it.via.is_some());
        self.unsettle_all(lent.map(|it| it.id).collect());
    }

    /// Unsettles waiters that wait for others.
    fn unsettle_all(&mut self, waiters: Vec<WaiterId>) {
        for id in waiters {
            let it = self.queue.get(id).expect("it is in the queue");
            if it.waits() && !it.waits_for_own() {
                self.queue.unsettle(id);
            }
        }
    }
}
