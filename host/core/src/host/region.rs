//! One region, as all its holders share it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tombolo_region::{
    Charge, ChargeKind, CommitCharge, GRANULE, Handle, Ledger, LedgerLock, NotifyingGuard,
    NotifyingLedger, PurgeRequest, Purgeable, RegionName, RegionNumber, Span,
};

use super::RegionHost;
use crate::error::RegionError;
use crate::identity::RegionId;
use crate::sys::{MemoryRecord, RegionFile};
use crate::time::HostTime;

/// The location of a guest's window.
#[derive(Clone)]
pub(crate) struct WindowLocation {
    pub(crate) memory: Arc<MemoryRecord>,
    /// The first address.
    pub(crate) start: usize,
    /// Distinguishes the window from later ones at the same address.
    pub(crate) key: u64,
}

impl fmt::Debug for WindowLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowLocation({:#x})", self.start)
    }
}

/// The state of one region, which all its holders share.
pub(crate) struct RegionInner {
    /// The identity, which all holders may see.
    pub(crate) id: RegionId,
    /// The number of the region, counted from the first one. Guests must not see it, because
    /// it reveals how many regions others create.
    number: RegionNumber,
    pub(crate) name: RegionName,
    pub(crate) size: u64,
    /// `None` once nobody has a claim. A revoked handle can live for longer.
    body: Mutex<Option<Body>>,
    pub(crate) ledger: NotifyingLedger<Option<WindowLocation>, HostTime>,
    /// The name of the first guest that had a window on it, and whether another had one too.
    seen: Mutex<(Option<String>, bool)>,
    host: RegionHost,
}

/// The memory of a region, and its cost to the host.
struct Body {
    file: Arc<RegionFile>,
    _charge: Charge,
}

impl RegionInner {
    /// Creates a region. Returns it with its creator's handle.
    pub(crate) fn create(
        host: &RegionHost,
        name: RegionName,
        size: u64,
        pinned: bool,
        claim: Vec<Charge>,
    ) -> Result<(Arc<RegionInner>, Handle), RegionError> {
        let charge = host.account().charge(ChargeKind::Regions, 1)?;
        let budget = host.ledger_budget();
        let commit = match pinned {
            true => Some(budget.commit(Span::whole(size).length() / GRANULE)?),
            false => None,
        };
        let file = Arc::new(RegionFile::new(&name, size)?);
        let (ledger, handle) = Ledger::new(size, budget, commit, claim);
        let (number, id) = host.next_identity();
        let lock = LedgerLock::new(number, budget, ledger);
        let region = Arc::new(RegionInner {
            id,
            number,
            name,
            size,
            body: Mutex::new(Some(Body {
                file,
                _charge: charge,
            })),
            ledger: NotifyingLedger::new(lock, host.time().clone()),
            seen: Mutex::default(),
            host: host.clone(),
        });
        let weak: Weak<RegionInner> = Arc::downgrade(&region);
        budget.register(number, weak.clone());
        host.add_region(number, weak);
        tracing::debug!(region = %region.name, id = %region.id, size, pinned, "region created");
        Ok((region, handle))
    }

    /// Locks the ledger. Waiters are woken when the guard is dropped.
    #[inline]
    pub(crate) fn ledger(&self) -> NotifyingGuard<'_, Option<WindowLocation>, HostTime> {
        self.ledger.lock()
    }

    pub(crate) fn ledger_lock(&self) -> &LedgerLock<Option<WindowLocation>> {
        self.ledger.unnotified()
    }

    pub(crate) fn host(&self) -> &RegionHost {
        &self.host
    }

    /// Returns the memory. To be called with a window in the ledger, which keeps a claim.
    ///
    /// # Errors
    ///
    /// [`RegionError::Gone`] if nobody has a claim any more.
    pub(crate) fn file(&self) -> Result<Arc<RegionFile>, RegionError> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.as_ref()
            .map(|body| body.file.clone())
            .ok_or(RegionError::Gone)
    }

    /// Returns the bytes that the kernel has allocated for the region.
    pub(crate) fn resident(&self) -> u64 {
        self.file().map_or(0, |file| file.allocated())
    }

    /// Frees the memory if nobody has a claim any more, and returns whether it was freed now. To
    /// be called after a claim, a window or a lend has ended.
    pub(crate) fn settle(&self) -> bool {
        if self.ledger().claims() > 0 {
            return false;
        }
        let body = self
            .body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if body.is_none() {
            return false;
        }
        drop(body);
        drop(self.ledger().release_commit());
        self.host.ledger_budget().unregister(self.number);
        self.host.remove_region(self.number);
        tracing::debug!(region = %self.name, id = %self.id, "region freed");
        true
    }

    /// Counts a window that a guest made.
    pub(crate) fn count_window(&self, guest: &str) {
        self.host.count_window();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            (None, _) => seen.0 = Some(guest.to_owned()),
            (Some(first), false) if first != guest => {
                seen.1 = true;
                self.host.count_shared(self.size);
            }
            _ => {}
        }
    }
}

impl Purgeable for RegionInner {
    fn purge(&self, request: PurgeRequest) -> CommitCharge {
        let Ok(file) = self.file() else {
            return CommitCharge::none(self.host.ledger_budget());
        };
        let commit = self.ledger_lock().purge(request, |span| {
            if let Err(error) = file.punch(span) {
                // The next pin reports the bytes as lost in any case.
                tracing::error!(region = %self.name, %error, "the kernel does not take pages back");
            }
        });
        tracing::debug!(
            region = %self.name,
            id = %self.id,
            bytes = commit.granules() * GRANULE,
            "region purged"
        );
        commit
    }
}

impl fmt::Debug for RegionInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionInner")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
