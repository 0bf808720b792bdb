//! A region's ledger, and the wake-ups of lenders and waiters.
//!
//! A waiter that sleeps registers before it asks, so no turn is missed. One sleeper of each
//! region keeps the time for all. It sleeps at most until the next reservation ends. The others
//! look 100 ms later themselves, in case it is busy.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::ledger::{
    Access, Handle, Ledger, LedgerError, LendId, RESERVATION, WaitStatus, WaiterId, WindowEnd,
    WindowId,
};
use crate::lock::{LedgerGuard, LedgerLock};
use crate::span::Span;
use crate::sync::{Mutex, MutexGuard, Notify};

/// The time of a host, counted from its start.
pub trait Time {
    /// Returns how much time has passed.
    fn now(&self) -> Duration;

    /// Waits for `what`, but only until `moment`.
    fn up_to(
        &self,
        moment: Duration,
        what: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = ()> + Send;
}

/// A ledger that wakes lenders and waiters for windows.
#[derive(Debug)]
pub struct NotifyingLedger<P, T> {
    ledger: LedgerLock<P>,
    time: T,
    /// Notified whenever a lend may be over, if any lender waits for one.
    lends: Notify,
    /// The lenders that wait. Each is counted before it locks the ledger, and the count is read
    /// with the ledger locked. So a lender that is not counted finds the end of its lend in the
    /// ledger.
    lenders: AtomicUsize,
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

impl<P, T: Time> NotifyingLedger<P, T> {
    /// Creates a ledger that nobody waits for yet.
    pub fn new(ledger: LedgerLock<P>, time: T) -> NotifyingLedger<P, T> {
        NotifyingLedger {
            ledger,
            time,
            lends: Notify::new(),
            lenders: AtomicUsize::new(0),
            sleepers: Mutex::new(Sleepers::default()),
        }
    }

    /// Locks the ledger. Blocks as [`LedgerLock::lock`] does.
    #[inline]
    pub fn lock(&self) -> NotifyingGuard<'_, P, T> {
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
    pub fn unnotified(&self) -> &LedgerLock<P> {
        &self.ledger
    }

    /// Closes a window that is unmapped. Returns whether that poisoned the region.
    pub fn close(&self, id: WindowId, end: WindowEnd) -> bool {
        let mut ledger = self.lock();
        let before = ledger.is_poisoned();
        ledger.close(id, end);
        ledger.is_poisoned() && !before
    }

    /// Ends a lend, except for its windows, which `look` may look for.
    #[inline]
    pub fn revoke<R>(&self, lend: LendId, look: impl FnOnce(&Ledger<P>) -> R) -> R {
        let mut ledger = self.lock();
        ledger.revoke(lend);
        look(&ledger)
    }

    /// Waits until a lend, and all re-lends of it, have ended. Dropping the future changes
    /// nothing.
    pub async fn over(&self, lend: LendId) {
        let _waiting = WaitingLender::new(&self.lenders);
        loop {
            // Registered before the question, so that no notification gets lost.
            let told = self.lends.notified();
            if self.lock().is_over(lend) {
                return;
            }
            told.await;
        }
    }

    /// Begins to wait for a window, until [`Ledger::dequeue`].
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError`] as [`Ledger::enqueue`] does, if waiting cannot help.
    pub fn wait(
        &self,
        handle: &Handle,
        span: Span,
        access: Access,
    ) -> Result<WaiterId, LedgerError> {
        self.lock().enqueue(handle, span, access, self.time.now())
    }

    /// Waits until it is this one's turn, or until there is nothing to wait for. Dropping the
    /// future changes nothing.
    pub async fn ready(&self, id: WaiterId) {
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
#[derive(Debug)]
#[must_use = "the ledger is locked until this is dropped"]
pub struct NotifyingGuard<'a, P, T: Time> {
    /// `None` only while it is dropped.
    guard: Option<LedgerGuard<'a, P>>,
    notifying: &'a NotifyingLedger<P, T>,
}

impl<P, T: Time> Deref for NotifyingGuard<'_, P, T> {
    type Target = Ledger<P>;
    #[inline]
    fn deref(&self) -> &Ledger<P> {
        self.guard.as_ref().expect("there until it is dropped")
    }
}

impl<P, T: Time> DerefMut for NotifyingGuard<'_, P, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Ledger<P> {
        self.guard.as_mut().expect("there until it is dropped")
    }
}

impl<P, T: Time> Drop for NotifyingGuard<'_, P, T> {
    #[inline]
    fn drop(&mut self) {
        let Some(mut guard) = self.guard.take() else {
            return;
        };
        if guard.has_waiters() {
            return self.notifying.wake(guard);
        }
        let lends = self.notifying.ends_wait(&mut guard);
        drop(guard);
        if lends {
            self.notifying.lends.notify_waiters();
        }
    }
}

/// A lender that waits for the end of a lend, until this is dropped.
struct WaitingLender<'a>(&'a AtomicUsize);

impl<'a> WaitingLender<'a> {
    fn new(lenders: &'a AtomicUsize) -> WaitingLender<'a> {
        // Relaxed: the lock of the ledger puts this in order.
        lenders.fetch_add(1, Ordering::Relaxed);
        WaitingLender(lenders)
    }
}

impl Drop for WaitingLender<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<P, T: Time> NotifyingLedger<P, T> {
    /// Returns whether any lend has ended, and any lender waits for one.
    #[inline]
    fn ends_wait(&self, guard: &mut LedgerGuard<'_, P>) -> bool {
        guard.take_lends_over() && self.lenders.load(Ordering::Relaxed) > 0
    }

    /// Unlocks the ledger, and wakes lenders, and waiters whose turn it is.
    fn wake<'a>(&'a self, guard: LedgerGuard<'a, P>) {
        let mut next = Some(guard);
        while let Some(mut guard) = next.take() {
            let lends = self.ends_wait(&mut guard);
            let waiters = guard.has_waiters();
            let more = waiters && guard.advance_some(self.time.now());
            let told = guard.take_woken();
            let reserved = guard.next_expiry().is_some();
            // Others get the lock before the next step.
            drop(guard);
            if lends {
                self.lends.notify_waiters();
            }
            if waiters {
                let mut sleepers = lock(&self.sleepers);
                for id in told {
                    let all = sleepers.all.range((id, 0)..=(id, u64::MAX));
                    all.for_each(|(_, sleeper)| sleeper.notify_waiters());
                }
                if reserved {
                    sleepers.find_keeper();
                }
            }
            if more {
                next = Some(self.ledger.lock());
            }
        }
    }
}
