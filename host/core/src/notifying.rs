//! A region's ledger, and the wake-ups of those that wait for it.
//!
//! A waiter that sleeps registers before it asks, so no turn is missed. One sleeper of each
//! region keeps the time for all. It sleeps at most until the next reservation ends. The others
//! look 100 ms later themselves, in case it is busy.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use crate::sync::{Mutex, MutexGuard, Notify};
use crate::time::Time;
use tombolo_region::{
    Access, Handle, Ledger, LedgerError, LedgerGuard, LedgerLock, LendId, RESERVATION, Span,
    WaitStatus, WaiterId, WindowEnd, WindowId,
};

/// A ledger that wakes lenders and waiters for windows.
#[derive(Debug)]
pub(crate) struct NotifyingLedger<P> {
    ledger: LedgerLock<P>,
    time: Time,
    /// Notified whenever a lend may be over.
    lends: Notify,
    /// The waiters that sleep until they are woken.
    sleepers: Mutex<Sleepers>,
}

/// The sleepers that wait for windows of one region. Each is woken by itself, so waking one costs
/// the others nothing.
#[derive(Debug, Default)]
struct Sleepers {
    all: BTreeMap<(WaiterId, u64), Arc<Notify>>,
    last: u64,
    /// The sleeper that wakes when the next reservation ends, for all of them. The ledger decides
    /// nothing by itself.
    keeps_time: Option<(WaiterId, u64)>,
}

impl Sleepers {
    /// Makes a sleeper keep the time if none does. It asks again, and learns until when.
    fn find_keeper(&mut self) {
        if self.keeps_time.is_none()
            && let Some((id, sleeper)) = self.all.first_key_value()
        {
            self.keeps_time = Some(*id);
            sleeper.notify_waiters();
        }
    }
}

/// A sleeper, until this is dropped.
struct Sleeper<'a> {
    sleepers: &'a Mutex<Sleepers>,
    id: (WaiterId, u64),
    told: Arc<Notify>,
}

impl<'a> Sleeper<'a> {
    fn new(sleepers: &'a Mutex<Sleepers>, id: WaiterId) -> Sleeper<'a> {
        let told = Arc::new(Notify::new());
        let mut all = lock(sleepers);
        all.last += 1;
        let id = (id, all.last);
        all.all.insert(id, told.clone());
        drop(all);
        Sleeper { sleepers, id, told }
    }

    /// Returns whether it is to wake when the next reservation ends, if there is any.
    fn keeps_time(&self, reserved: bool) -> bool {
        let mut all = lock(self.sleepers);
        match all.keeps_time {
            Some(keeper) if keeper != self.id => false,
            _ => {
                all.keeps_time = reserved.then_some(self.id);
                reserved
            }
        }
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let mut all = lock(self.sleepers);
        all.all.remove(&self.id);
        if all.keeps_time == Some(self.id) {
            all.keeps_time = None;
            all.find_keeper();
        }
    }
}

fn lock(sleepers: &Mutex<Sleepers>) -> MutexGuard<'_, Sleepers> {
    // Nothing panics between two changes.
    sleepers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P> NotifyingLedger<P> {
    pub(crate) fn new(ledger: LedgerLock<P>, time: Time) -> NotifyingLedger<P> {
        NotifyingLedger {
            ledger,
            time,
            lends: Notify::new(),
            sleepers: Mutex::new(Sleepers::default()),
        }
    }

    pub(crate) fn lock(&self) -> NotifyingGuard<'_, P> {
        let mut guard = self.ledger.lock();
        if guard.has_waiters() {
            guard.advance_some(self.time.now());
        }
        NotifyingGuard {
            guard: Some(guard),
            notifying: self,
        }
    }

    /// Returns the ledger, for operations that change nothing that anybody waits for.
    pub(crate) fn unnotified(&self) -> &LedgerLock<P> {
        &self.ledger
    }

    /// Closes a window that is unmapped. Returns whether that poisoned the region.
    pub(crate) fn close(&self, id: WindowId, end: WindowEnd) -> bool {
        let mut ledger = self.lock();
        let before = ledger.is_poisoned();
        ledger.close(id, end);
        ledger.is_poisoned() && !before
    }

    /// Ends a lend, except for its windows, which `look` may look for.
    pub(crate) fn revoke<R>(&self, lend: LendId, look: impl FnOnce(&Ledger<P>) -> R) -> R {
        let mut ledger = self.lock();
        ledger.revoke(lend);
        look(&ledger)
    }

    /// Waits until a lend, and all re-lends of it, have ended.
    pub(crate) async fn over(&self, lend: LendId) {
        loop {
            // Registered before the question, so that no notification gets lost.
            let told = self.lends.notified();
            if self.lock().is_over(lend) {
                return;
            }
            told.await;
        }
    }

    /// Begins to wait for a window. Refuses requests that waiting cannot help.
    pub(crate) fn wait(
        &self,
        handle: &Handle,
        span: Span,
        access: Access,
    ) -> Result<WaiterId, LedgerError> {
        self.lock().enqueue(handle, span, access, self.time.now())
    }

    /// Waits until it is this one's turn, or until there is nothing to wait for. Must be called on
    /// a tokio runtime with time.
    pub(crate) async fn ready(&self, id: WaiterId) {
        let sleeper = Sleeper::new(&self.sleepers, id);
        loop {
            // As above.
            let told = sleeper.told.notified();
            let waited = self.lock().poll_waiter(id, self.time.now());
            let until = match waited {
                WaitStatus::Ready => return,
                WaitStatus::Pending(until) => until,
            };
            let keeps_time = sleeper.keeps_time(until.is_some());
            // It asks again in all cases.
            match until {
                None => told.await,
                Some(until) if keeps_time => self.time.up_to(until, told).await,
                // The keeper may be busy with something else.
                Some(until) => self.time.up_to(until + RESERVATION, told).await,
            }
        }
    }
}

/// The locked ledger. Dropping it unlocks the ledger and wakes waiters whose turn it is.
pub(crate) struct NotifyingGuard<'a, P> {
    /// `None` only while it is dropped.
    guard: Option<LedgerGuard<'a, P>>,
    notifying: &'a NotifyingLedger<P>,
}

impl<P> Deref for NotifyingGuard<'_, P> {
    type Target = Ledger<P>;
    fn deref(&self) -> &Ledger<P> {
        self.guard.as_ref().expect("there until it is dropped")
    }
}

impl<P> DerefMut for NotifyingGuard<'_, P> {
    fn deref_mut(&mut self) -> &mut Ledger<P> {
        self.guard.as_mut().expect("there until it is dropped")
    }
}

impl<P> Drop for NotifyingGuard<'_, P> {
    fn drop(&mut self) {
        let notifying = self.notifying;
        let mut next = self.guard.take();
        while let Some(mut guard) = next.take() {
            let lends = guard.take_lends_over();
            let waiters = guard.has_waiters();
            let more = waiters && guard.advance_some(notifying.time.now());
            let told = guard.take_woken();
            let reserved = guard.next_expiry().is_some();
            // Others get the lock before the next step.
            drop(guard);
            if lends {
                notifying.lends.notify_waiters();
            }
            if waiters {
                let mut sleepers = lock(&notifying.sleepers);
                for id in told {
                    let all = sleepers.all.range((id, 0)..=(id, u64::MAX));
                    all.for_each(|(_, sleeper)| sleeper.notify_waiters());
                }
                if reserved {
                    sleepers.find_keeper();
                }
            }
            if more {
                next = Some(notifying.ledger.lock());
            }
        }
    }
}
