//! A region's ledger, and who hears of what is decided there.

use std::ops::{Deref, DerefMut};

use crate::region::{
    Access, End, Handle, Ledger, LedgerGuard, LedgerLock, LendId, Refusal, Span, Waited, WaiterId,
    WindowId,
};
use crate::sync::Notify;
use crate::time::Time;

/// A ledger that lenders and those who wait for windows watch.
#[derive(Debug)]
pub(crate) struct Watched<P> {
    ledger: LedgerLock<P>,
    time: Time,
    /// Told whenever a lend may be over.
    lends: Notify,
    /// Told whenever there is something to hear for those who wait for windows.
    windows: Notify,
}

impl<P> Watched<P> {
    pub(crate) fn new(ledger: LedgerLock<P>, time: Time) -> Watched<P> {
        Watched {
            ledger,
            time,
            lends: Notify::new(),
            windows: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> Decisions<'_, P> {
        let mut guard = self.ledger.lock();
        let told = guard.has_waiters() && guard.pass(self.time.now());
        Decisions {
            guard: Some(guard),
            watched: self,
            told,
        }
    }

    /// The ledger, for what changes nothing that anybody waits for.
    pub(crate) fn unwatched(&self) -> &LedgerLock<P> {
        &self.ledger
    }

    /// Closes a window, which shows nothing any more. Says whether that poisoned
    /// the region.
    pub(crate) fn close(&self, id: WindowId, end: End) -> bool {
        let mut ledger = self.lock();
        let before = ledger.is_poisoned();
        ledger.close(id, end);
        let poisoned = ledger.is_poisoned() && !before;
        drop(ledger);
        self.lends.notify_waiters();
        poisoned
    }

    /// Ends a lend, but for its windows, which `look` may look for.
    pub(crate) fn revoke<R>(&self, lend: LendId, look: impl FnOnce(&Ledger<P>) -> R) -> R {
        let mut ledger = self.lock();
        ledger.revoke(lend);
        let seen = look(&ledger);
        drop(ledger);
        self.lends.notify_waiters();
        seen
    }

    /// Waits until a lend, and all that was lent on from it, has ended.
    pub(crate) async fn over(&self, lend: LendId) {
        loop {
            // Before it is asked, so that nothing that is said meanwhile gets lost.
            let told = self.lends.notified();
            if self.lock().is_over(lend) {
                return;
            }
            told.await;
        }
    }

    /// Waits for a window, from now on. Refuses what waiting does not cure.
    pub(crate) fn wait(
        &self,
        handle: &Handle,
        span: Span,
        access: Access,
    ) -> Result<WaiterId, Refusal> {
        self.lock().wait(handle, span, access, self.time.now())
    }

    /// Waits until it is this one's turn, or until there is nothing to wait for. To
    /// be called on a tokio runtime with time.
    pub(crate) async fn ready(&self, id: WaiterId) {
        loop {
            // As above.
            let told = self.windows.notified();
            let waited = self.lock().waited(id, self.time.now());
            match waited {
                Waited::Ready => return,
                Waited::NotYet(None) => told.await,
                // It asks again in both cases.
                Waited::NotYet(Some(until)) => self.time.up_to(until, told).await,
            }
        }
    }
}

/// The ledger, to oneself. Those who wait for windows hear of what is decided.
pub(crate) struct Decisions<'a, P> {
    /// `None` only while it is dropped.
    guard: Option<LedgerGuard<'a, P>>,
    watched: &'a Watched<P>,
    told: bool,
}

impl<P> Deref for Decisions<'_, P> {
    type Target = Ledger<P>;
    fn deref(&self) -> &Ledger<P> {
        self.guard.as_ref().expect("there until it is dropped")
    }
}

impl<P> DerefMut for Decisions<'_, P> {
    fn deref_mut(&mut self) -> &mut Ledger<P> {
        self.guard.as_mut().expect("there until it is dropped")
    }
}

impl<P> Drop for Decisions<'_, P> {
    fn drop(&mut self) {
        let mut told = self.told;
        if self.has_waiters() {
            let now = self.watched.time.now();
            told |= self.pass(now);
        }
        self.guard = None;
        if told {
            self.watched.windows.notify_waiters();
        }
    }
}
