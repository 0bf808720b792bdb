//! A ledger that threads share.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use crate::budget::{Budget, CommitCharge, Idle, PurgeRequest, RegionNumber};
use crate::ledger::{Handle, Ledger, PinError, PinUndo};
use crate::pins::Pinned;
use crate::span::Span;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A ledger that threads share: some pin and unpin, others purge to make room.
///
/// Returning memory to the kernel takes milliseconds, and is done without any lock. First the
/// granules are marked as being purged, then they are returned, and then they are recorded as
/// lost. A thread that pins some of them meanwhile waits until then, so its answer is right.
///
/// # Order of locks
///
/// The order is: a channel or scope, a ledger, the budget. No thread holds the locks of two
/// ledgers. Releasing a ledger may purge, so release it without any lock that other threads
/// need meanwhile.
#[derive(Debug)]
pub struct LedgerLock<P> {
    number: RegionNumber,
    budget: Arc<Budget>,
    ledger: Mutex<Ledger<P>>,
    /// Signals that granules are no longer being purged or paid for.
    settled: Condvar,
}

/// A locked ledger.
///
/// Dropping the guard reports to the budget how much can be purged. If the host is over its
/// budget, it also purges the excess, which blocks while memory goes back to the kernel.
#[derive(Debug)]
#[must_use = "the ledger is locked until this is dropped"]
pub struct LedgerGuard<'a, P> {
    /// `None` only while this is dropped.
    ledger: Option<MutexGuard<'a, Ledger<P>>>,
    lock: &'a LedgerLock<P>,
    noted: Idle,
}

impl<P> LedgerLock<P> {
    /// Creates the shared ledger of a region. `number` is the one by which the region is
    /// [registered](Budget::register) with the budget.
    pub fn new(number: RegionNumber, budget: &Arc<Budget>, ledger: Ledger<P>) -> LedgerLock<P> {
        LedgerLock {
            number,
            budget: budget.clone(),
            ledger: Mutex::new(ledger),
            settled: Condvar::new(),
        }
    }

    /// Locks the ledger. Blocks while another thread holds it, which is less than a
    /// millisecond.
    #[inline]
    pub fn lock(&self) -> LedgerGuard<'_, P> {
        // The ledger's operations do not panic between two changes.
        self.guard(self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[inline]
    fn guard<'a>(&'a self, ledger: MutexGuard<'a, Ledger<P>>) -> LedgerGuard<'a, P> {
        let noted = ledger.idle();
        LedgerGuard {
            ledger: Some(ledger),
            lock: self,
            noted,
        }
    }

    /// Pins a span for the claim of `handle`, and commits memory for it if needed. Returns
    /// whether bytes were lost, and the locked ledger. So the caller can map the windows again
    /// before other threads see the change, or undo the pin if mapping fails.
    ///
    /// This blocks while a part of the span is being purged, for some milliseconds. It also
    /// blocks while another thread commits memory for a part of it, so that it is paid for
    /// once, and as [`Budget::commit`] does.
    ///
    /// # Errors
    ///
    /// Returns [`PinError`] as [`Ledger::pin`] does, and if the budget is exhausted. Nothing
    /// has changed then.
    pub fn pin(
        &self,
        handle: &Handle,
        span: Span,
    ) -> Result<(Pinned, PinUndo, LedgerGuard<'_, P>), PinError> {
        let ledger = self.lock();
        ledger.may_change_pins(handle)?;
        let mut ledger = self.wait(ledger, span);
        let unpaid = ledger.unpaid(span);
        let mut commit = None;
        if unpaid > 0 {
            ledger.may_pin(handle, span)?;
            // Memory that is there already must not be purged to make room for the rest.
            let held = ledger.hold(span);
            drop(ledger);
            let taken = self.budget.commit(unpaid);
            // Other claims may have pinned and unpinned what is held. Nobody purged it or
            // paid for the rest.
            ledger = self.lock();
            ledger.release_hold(held);
            self.settled.notify_all();
            commit = Some(taken?);
        }
        let (pinned, undo) = ledger.pin(handle, span, commit)?;
        Ok((pinned, undo, ledger))
    }

    /// Waits until no part of the span is being purged or paid for.
    fn wait<'a>(&'a self, guard: LedgerGuard<'a, P>, span: Span) -> LedgerGuard<'a, P> {
        if !guard.is_busy(span) {
            return guard;
        }
        drop(guard);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        while ledger.is_busy(span) {
            let waited = self.settled.wait(ledger);
            ledger = waited.unwrap_or_else(PoisonError::into_inner);
        }
        self.guard(ledger)
    }

    /// Purges as the budget requests. `punch` returns a span to the kernel; it is called
    /// without any lock. Returns the charge of the purged granules.
    pub fn purge(&self, request: PurgeRequest, punch: impl Fn(Span)) -> CommitCharge {
        let mut ledger = self.lock();
        let (ranges, mut commit) = ledger.begin_purge(request);
        if ranges.is_empty() {
            return commit;
        }
        let idle = ledger.idle();
        self.budget.begin_purge(self.number, idle, &mut commit);
        ledger.noted = idle;
        drop(ledger);
        for range in &ranges {
            punch(super::pins::span(range));
        }
        self.lock().end_purge(&ranges);
        self.settled.notify_all();
        commit
    }
}

impl<P> Deref for LedgerGuard<'_, P> {
    type Target = Ledger<P>;
    #[inline]
    fn deref(&self) -> &Ledger<P> {
        self.ledger
            .as_ref()
            .expect("present until the guard is dropped")
    }
}

impl<P> DerefMut for LedgerGuard<'_, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Ledger<P> {
        self.ledger
            .as_mut()
            .expect("present until the guard is dropped")
    }
}

impl<P> Drop for LedgerGuard<'_, P> {
    #[inline]
    fn drop(&mut self) {
        let idle = self.idle();
        let (number, budget) = (self.lock.number, &self.lock.budget);
        if idle != self.noted && budget.note(number, idle) {
            self.ledger = None;
            budget.enforce();
        }
    }
}
