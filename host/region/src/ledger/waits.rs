//! Who waits for a window, in which order, and whose turn it is.

use std::time::Duration;

use super::super::Span;
use super::queue::{Blocker, Waiter, WaiterState};
use super::{Access, ClaimId, Handle, Ledger, LedgerError, LendId, WaiterId, WindowId};

/// For how long a window is reserved for a waiter whose turn it is.
pub const RESERVATION: Duration = Duration::from_millis(100);

/// The number of waiters that one [step](Ledger::advance_some) looks at. One takes up to a few
/// microseconds.
const LOOKED_AT: usize = 50;

/// The most waiters in front of a borrower of which it is checked whether they wait for its
/// lender.
const IN_FRONT: usize = 64;

/// The most windows that are looked at for that: those of the claim, but not the lender's.
const BESIDE: usize = 256;

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// It should try: the window is reserved for it, or waiting is of no use.
    Ready,
    /// It waits on. Somebody tells it, or a reservation ends at this moment, at
    /// which it should ask again.
    Pending(Option<Duration>),
}

impl<P> Ledger<P> {
    /// Waits for a window: puts its claim, or its lend, at the end of the queue.
    /// It has one place there; waiting for something else gives up the first.
    ///
    /// # Errors
    ///
    /// As [`open`](Ledger::open), without [`LedgerError::WouldBlock`] and
    /// [`LedgerError::OtherStrand`]: what waiting does not cure.
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
        // Others' reservations end before it is looked whether this one can be.
        self.advance_some(now);
        Ok(id)
    }

    /// Tells a waiter whether it is its turn. One that let its turn go by waits
    /// again, as the last. One that is not there any more, since it has what it
    /// waited for or never will, should not wait.
    pub fn poll_waiter(&mut self, id: WaiterId, now: Duration) -> WaitStatus {
        self.advance_some(now);
        if self
            .queue
            .get(id)
            .is_some_and(|it| it.state == WaiterState::Expired)
        {
            let place = self.fresh();
            self.queue.again(id, place);
            self.advance_some(now);
        }
        match self.queue.get(id).map(|it| it.state) {
            Some(WaiterState::Waiting) => WaitStatus::Pending(self.next_expiry()),
            _ => WaitStatus::Ready,
        }
    }

    /// Does not wait any more.
    pub fn dequeue(&mut self, id: WaiterId) {
        self.queue.remove(id);
    }

    /// Whether anybody is in the queue, so that there is something to
    /// [advance](Ledger::advance) for.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.queue.has_woken() || !self.queue.is_empty()
    }

    /// Lets time pass: ends reservations, reserves for those whose turn it is, and
    /// forgets those for whom waiting is of no use any more. To be said before the
    /// ledger is asked for anything, and after it was changed. Tells whether
    /// anything was decided that a waiter should hear of.
    #[allow(dead_code, reason = "for those who do not share the ledger")]
    pub fn advance(&mut self, now: Duration) -> bool {
        while self.advance_some(now) {}
        !self.take_woken().is_empty()
    }

    /// As [`advance`](Ledger::advance), but looks at so few waiters that others do not wait
    /// for the ledger meanwhile. Returns whether there are more to look at. If nothing
    /// has changed, it takes no time.
    pub fn advance_some(&mut self, now: Duration) -> bool {
        let mut left = LOOKED_AT;
        self.leave_if_useless(&mut left);
        while left > 0 {
            let expired = self.queue.expire(now);
            // From then on, and not from when somebody looks.
            let at = expired.unwrap_or(now);
            while left > 0 {
                let Some(id) = self.queue.next_unsettled() else {
                    break;
                };
                left -= 1;
                self.look_at(id, at);
            }
            if expired.is_none() {
                break;
            }
            left = left.saturating_sub(1);
        }
        left == 0
    }

    /// Takes the waiters that are to be woken, since the last call.
    pub fn take_woken(&mut self) -> Vec<WaiterId> {
        self.queue.take_woken()
    }

    /// Returns when the next reservation ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.queue.next_expiry()
    }

    /// Looks whether it is a waiter's turn, or else what it waits for.
    fn look_at(&mut self, id: WaiterId, now: Duration) {
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

    /// Takes waiters out of the queue that can get no window by waiting, without a
    /// change by others that nobody can wait for.
    fn leave_if_useless(&mut self, left: &mut usize) {
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
        let useless = self.queue.iter();
        let useless = useless.filter(|it| all || it.access != Access::Read);
        let useless: Vec<WaiterId> = useless.take(*left).map(|it| it.id).collect();
        *left -= useless.len();
        self.only_readers_wait = self.frozen && *left > 0;
        for id in useless {
            self.queue.remove(id);
        }
    }

    /// Returns the waiter that is in the queue before such a window of a waiter at
    /// `place`: by a reservation, or by having waited for longer.
    ///
    /// A waiter for a window of its own claim blocks nobody. Nor is a borrower blocked by
    /// waiters for windows that are set aside for it: the owner of those waits for the
    /// borrower.
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
        // As many as can be looked at. A borrower does not wait for the others: they
        // may wait for its lender, who waits for it.
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

    /// Returns whether a waiter waits for a window that is set aside, or may do so: no more
    /// than so many windows are `left` to look at.
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

    /// Whether anybody in the queue comes before such a new window, or such new
    /// access of one.
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

    /// A window was opened: whoever waited for it does not any more.
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

    /// Notes that a claim, or a lend, waits for nothing any more.
    pub(super) fn leave_queue(&mut self, claim: ClaimId, via: Option<LendId>) {
        if let Some(id) = self.queue.of(claim, via).map(|it| it.id) {
            self.queue.remove(id);
        }
    }

    /// Notes that a claim and its lends wait for nothing any more.
    pub(super) fn leave_queue_whole(&mut self, claim: ClaimId) {
        let all: Vec<WaiterId> = self.queue.of_claim(claim).map(|it| it.id).collect();
        for id in all {
            self.queue.remove(id);
        }
    }

    /// Notes that a window is there, or sees more than before: waiters of its claim may
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

    /// Notes that a window has gone, or sees something else than before.
    pub(super) fn note_change(&mut self, id: WindowId, claim: ClaimId) {
        if self.queue.is_empty() {
            return;
        }
        let mut stand = false;
        for waiter in self.queue.release(Blocker::Window(id)) {
            let it = self.queue.get(waiter).expect("it waited for the window");
            if it.claim != claim || !it.waits_for_own() {
                continue;
            }
            match self.own_conflict(it) {
                Some(own) => self.queue.block_by_own(waiter, own),
                None => {
                    self.queue.not_by_own(waiter);
                    stand = true;
                }
            }
        }
        if stand {
            // Those behind it may be behind a lender by that.
            let lent = self.queue.iter().filter(|it| it.via.is_some());
            self.look_again(lent.map(|it| it.id).collect());
        }
    }

    /// Notes that a window of a claim sees something else than before. Others may wait for
    /// it now, and the claim's borrowers are no longer behind them.
    pub(super) fn note_aside(&mut self, claim: ClaimId) {
        let lent = self.queue.of_claim(claim).filter(|it| it.via.is_some());
        self.look_again(lent.map(|it| it.id).collect());
    }

    fn look_again(&mut self, waiters: Vec<WaiterId>) {
        for id in waiters {
            let it = self.queue.get(id).expect("it is in the queue");
            if it.waits() && !it.waits_for_own() {
                self.queue.unsettle(id);
            }
        }
    }
}
