//! Who waits for a window, in which order, and whose turn it is.

use std::time::Duration;

use super::super::Span;
use super::{Access, ClaimId, Handle, Ledger, LendId, Refusal, Waiter, WaiterId};

/// For how long a window is reserved for a waiter whose turn it is.
pub const RESERVED: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Waiting,
    /// Nobody else gets what would conflict, up to this moment.
    Reserved(Duration),
    /// It did not take what was reserved. It stands in nobody's way, and goes to
    /// the end of the queue if it asks again.
    Lapsed,
}

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It should try: the window is reserved for it, or waiting is of no use.
    Ready,
    /// It waits on. Somebody tells it, or a reservation ends at this moment, at
    /// which it should ask again.
    NotYet(Option<Duration>),
}

impl Waiter {
    fn conflicts(&self, span: Span, access: Access) -> bool {
        self.span.overlaps(span) && !self.access.goes_with(access)
    }

    /// Whether this is the waiter for such a window, or for more than that.
    fn is_for(&self, claim: ClaimId, via: Option<LendId>, span: Span, access: Access) -> bool {
        self.claim == claim
            && self.via == via
            && self.span.contains(span)
            && access.within(self.access)
    }
}

impl<P> Ledger<P> {
    /// Waits for a window: puts its claim, or its lend, at the end of the queue.
    /// It has one place there; waiting for something else gives up the first.
    ///
    /// # Errors
    ///
    /// As [`open`](Ledger::open), without [`Refusal::WouldBlock`] and
    /// [`Refusal::OtherStrand`]: what waiting does not cure.
    pub fn wait(
        &mut self,
        handle: &Handle,
        span: Span,
        access: Access,
        now: Duration,
    ) -> Result<WaiterId, Refusal> {
        self.may_open(handle, access.needs(), access)?;
        self.check_pinned(handle.claim, span)?;
        self.remove_waiters(|it| it.claim == handle.claim && it.via == handle.via);
        let id = WaiterId(self.fresh());
        self.waiters.push(Waiter {
            id,
            claim: handle.claim,
            via: handle.via,
            span,
            access,
            turn: Turn::Waiting,
        });
        // Others' reservations end before it is looked whether this one can be.
        self.told |= self.pass(now);
        Ok(id)
    }

    /// Tells a waiter whether it is its turn. One that let its turn go by waits
    /// again, as the last. One that is not there any more, since it has what it
    /// waited for or never will, should not wait.
    pub fn waited(&mut self, id: WaiterId, now: Duration) -> Waited {
        self.told |= self.pass(now);
        let Some(at) = self.waiters.iter().position(|it| it.id == id) else {
            return Waited::Ready;
        };
        if self.waiters[at].turn == Turn::Lapsed {
            let mut waiter = self.waiters.remove(at);
            waiter.turn = Turn::Waiting;
            self.waiters.push(waiter);
            self.told |= self.pass(now);
        }
        let mut waiters = self.waiters.iter();
        match waiters.find(|it| it.id == id).map(|it| it.turn) {
            Some(Turn::Waiting) => Waited::NotYet(self.next_lapse()),
            _ => Waited::Ready,
        }
    }

    /// Does not wait any more.
    pub fn forget(&mut self, id: WaiterId) {
        self.remove_waiters(|it| it.id == id);
    }

    /// Whether anybody is in the queue, so that there is something to
    /// [pass](Ledger::pass) for.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.told || !self.waiters.is_empty()
    }

    /// Lets time pass: ends reservations, reserves for those whose turn it is, and
    /// forgets those for whom waiting is of no use any more. To be said before the
    /// ledger is asked for anything, and after it was changed. Tells whether
    /// anything was decided that a waiter should hear of.
    pub fn pass(&mut self, now: Duration) -> bool {
        let mut told = std::mem::take(&mut self.told);
        if self.waiters.is_empty() {
            return told;
        }
        let there = self.waiters.len();
        let (keep, _): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|it| self.is_of_use(it));
        self.waiters = keep;
        told |= self.waiters.len() < there;
        while let Some(until) = self.next_lapse().filter(|until| *until <= now) {
            for waiter in &mut self.waiters {
                if waiter.turn == Turn::Reserved(until) {
                    waiter.turn = Turn::Lapsed;
                }
            }
            // From then on, and not from when somebody looks.
            self.reserve(until);
            told = true;
        }
        self.reserve(now) | told
    }

    fn reserve(&mut self, now: Duration) -> bool {
        let mut told = false;
        for at in 0..self.waiters.len() {
            let it = &self.waiters[at];
            if it.turn == Turn::Waiting
                && self.free(it.claim, it.via, it.span, it.access, None)
                && !self.is_before(it.claim, it.via, it.span, it.access, at)
            {
                self.waiters[at].turn = Turn::Reserved(now + RESERVED);
                told = true;
            }
        }
        told
    }

    fn next_lapse(&self) -> Option<Duration> {
        let until = |it: &Waiter| match it.turn {
            Turn::Reserved(until) => Some(until),
            _ => None,
        };
        self.waiters.iter().filter_map(until).min()
    }

    /// Whether a window may still come of waiting, without a change by others that
    /// nobody can wait for.
    fn is_of_use(&self, waiter: &Waiter) -> bool {
        !self.purged
            && self.claims.contains_key(&waiter.claim)
            && self.check_lend(waiter.via).is_ok()
            && self.check_state(waiter.access).is_ok()
            && self.check_pinned(waiter.claim, waiter.span).is_ok()
    }

    /// Whether anybody in the queue comes before such a window, of somebody whose
    /// place there is `at`: by a reservation, or by having waited for longer.
    ///
    /// Those who have to wait for windows that are set aside for this one do not:
    /// whoever has those waits for whoever opens this one. Nor does who waits for
    /// a window of its own.
    fn is_before(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        at: usize,
    ) -> bool {
        let mut held: Vec<&Waiter> = Vec::new();
        for (place, it) in self.waiters.iter().enumerate() {
            let waits = match it.turn {
                Turn::Lapsed => continue,
                Turn::Reserved(_) => false,
                Turn::Waiting if place >= at => continue,
                Turn::Waiting => true,
            };
            if it.claim == claim {
                continue;
            }
            if waits && (self.waits_for_aside(it, claim, via) || self.waits_for_itself(it)) {
                held.push(it);
                continue;
            }
            let mut before = held.iter();
            if waits && before.any(|one| one.claim != it.claim && one.conflicts(it.span, it.access))
            {
                held.push(it);
                continue;
            }
            if it.conflicts(span, access) {
                return true;
            }
        }
        false
    }

    fn waits_for_aside(&self, waiter: &Waiter, claim: ClaimId, via: Option<LendId>) -> bool {
        self.windows.iter().any(|(id, window)| {
            window.claim == claim
                && waiter.conflicts(window.span, window.access)
                && self.is_aside(*id, window, via)
        })
    }

    fn waits_for_itself(&self, waiter: &Waiter) -> bool {
        self.windows.iter().any(|(id, window)| {
            window.claim == waiter.claim
                && waiter.conflicts(window.span, window.access)
                && !self.is_aside(*id, window, waiter.via)
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
        if self.waiters.is_empty() {
            return false;
        }
        let own = self
            .waiters
            .iter()
            .position(|it| it.turn != Turn::Lapsed && it.is_for(claim, via, span, access));
        let at = own.unwrap_or(self.waiters.len());
        self.is_before(claim, via, span, access, at)
    }

    /// A window was opened: whoever waited for it does not any more.
    pub(super) fn consume(
        &mut self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
    ) {
        self.remove_waiters(|it| it.is_for(claim, via, span, access));
    }

    pub(super) fn remove_waiters(&mut self, which: impl Fn(&Waiter) -> bool) {
        let there = self.waiters.len();
        self.waiters.retain(|it| !which(it));
        self.told |= self.waiters.len() < there;
    }
}
