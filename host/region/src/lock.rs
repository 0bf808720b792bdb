use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use super::budget::{Budget, CommitCharge, Idle, PurgeRequest};
use super::sync::{Condvar, Mutex, MutexGuard};
use super::{Handle, Ledger, PinError, PinUndo, Pinned, Span};

/// A ledger, for the threads of one process: who pins, who unpins, and who
/// purges to make room for somebody else.
///
/// Giving memory back to the kernel takes its time, and is done without any
/// lock: what is to be purged is first taken out of what can be pinned, then
/// given back, and then noted as lost. Whoever wants to pin a part of it
/// meanwhile waits, and is then told the truth.
///
/// Locks are taken in this order: a channel's or a scope's, a ledger's, the
/// budget's. Nobody has two
/// ledgers' locks; and whoever lets go of a ledger may have to purge, so that nobody
/// does that with a lock that others need meanwhile.
#[derive(Debug)]
pub struct LedgerLock<P> {
    id: u64,
    budget: Arc<Budget>,
    ledger: Mutex<Ledger<P>>,
    /// Something is not being purged or paid for any more.
    settled: Condvar,
}

/// The ledger, to oneself. When it is let go, the budget is told what there is
/// to purge; and if more is committed than the budget has, that is purged at once.
#[derive(Debug)]
pub struct LedgerGuard<'a, P> {
    /// `None` only while it is dropped.
    ledger: Option<MutexGuard<'a, Ledger<P>>>,
    lock: &'a LedgerLock<P>,
    noted: Idle,
}

impl<P> LedgerLock<P> {
    /// The ledger of the region with this identity, which is the one by which
    /// the budget knows it.
    pub fn new(id: u64, budget: &Arc<Budget>, ledger: Ledger<P>) -> LedgerLock<P> {
        LedgerLock {
            id,
            budget: budget.clone(),
            ledger: Mutex::new(ledger),
            settled: Condvar::new(),
        }
    }

    /// Waits for the ledger, which nobody has for long.
    pub fn lock(&self) -> LedgerGuard<'_, P> {
        // The ledger's operations do not panic between two changes.
        self.guard(self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn guard<'a>(&'a self, ledger: MutexGuard<'a, Ledger<P>>) -> LedgerGuard<'a, P> {
        let noted = ledger.idle();
        LedgerGuard {
            ledger: Some(ledger),
            lock: self,
            noted,
        }
    }

    /// Says that the claim needs the bytes of a span, makes room for them if need
    /// be, and says what became of them. The ledger stays locked, so that windows
    /// can be shown again before anybody sees that they should be; and the pin
    /// undone where they cannot.
    ///
    /// Waits while a part of the span is being purged, for some milliseconds, and
    /// while another pin makes room for it, so that it is paid for once.
    ///
    /// # Errors
    ///
    /// [`PinError`]; nothing has changed.
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
            // What is there already must not be what is purged to make room.
            let held = ledger.hold(span);
            drop(ledger);
            let taken = self.budget.commit(unpaid);
            // Others may have pinned and unpinned what was paid for, but nobody
            // purged it or paid for the rest.
            ledger = self.lock();
            ledger.release_hold(held);
            self.settled.notify_all();
            commit = Some(taken?);
        }
        let (pinned, undo) = ledger.pin(handle, span, commit)?;
        Ok((pinned, undo, ledger))
    }

    /// Waits until nothing of the span is being purged or paid for.
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

    /// Purges when it is the region's turn; `give_back` gives spans back to the
    /// kernel. Gives what had been paid for them.
    pub fn purge(&self, request: PurgeRequest, give_back: impl Fn(Span)) -> CommitCharge {
        let mut ledger = self.lock();
        let (ranges, mut commit) = ledger.begin_purge(request);
        if ranges.is_empty() {
            return commit;
        }
        let idle = ledger.idle();
        self.budget.begin_purge(self.id, idle, &mut commit);
        ledger.noted = idle;
        drop(ledger);
        for range in &ranges {
            give_back(super::pins::span(range));
        }
        self.lock().end_purge(&ranges);
        self.settled.notify_all();
        commit
    }
}

impl<P> Deref for LedgerGuard<'_, P> {
    type Target = Ledger<P>;
    fn deref(&self) -> &Ledger<P> {
        self.ledger.as_ref().expect("there until it is dropped")
    }
}

impl<P> DerefMut for LedgerGuard<'_, P> {
    fn deref_mut(&mut self) -> &mut Ledger<P> {
        self.ledger.as_mut().expect("there until it is dropped")
    }
}

impl<P> Drop for LedgerGuard<'_, P> {
    fn drop(&mut self) {
        let idle = self.idle();
        let (id, budget) = (self.lock.id, &self.lock.budget);
        if idle != self.noted && budget.note(id, idle) {
            self.ledger = None;
            budget.enforce();
        }
    }
}
