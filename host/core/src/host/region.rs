//! One region, as all its holders share it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::io::Errno;
use tokio::sync::OwnedSemaphorePermit;
use tombolo_region::{
    Charge, ChargeKind, CommitCharge, Exhausted, GRANULE, Handle, Ledger, LedgerLock,
    NotifyingGuard, NotifyingLedger, PurgeRequest, Purgeable, RegionName, RegionNumber, Span,
    WindowId,
};

use super::RegionHost;
use crate::error::RegionError;
use crate::identity::RegionId;
use crate::pressure::Level;
use crate::sys::recycling::{KeptFile, Recycler};
use crate::sys::{Bequest, MemoryRecord, RegionFile};
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

/// Windows of a guest that show zero pages while their claim is lent.
#[derive(Debug, Default)]
pub(crate) struct MaskedWindows(pub(crate) Vec<(WindowId, WindowLocation)>);

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
    /// Whether its memory is a pool's, and so committed for good.
    pub(crate) is_pooled: bool,
    /// `None` once nobody has a claim. A revoked handle can live for longer.
    body: Mutex<Option<Body>>,
    pub(crate) ledger: NotifyingLedger<Option<WindowLocation>, HostTime>,
    /// The name of the first guest that had a window on it, and whether another had one too.
    seen: Mutex<(Option<String>, bool)>,
    host: RegionHost,
}

/// The place of a taken region in its pool, and the memory that comes back there.
pub(super) struct PoolSlot {
    pub(super) recycler: Arc<Recycler>,
    /// Released when the memory has come back.
    pub(super) permit: OwnedSemaphorePermit,
}

/// The memory of a region, and its cost to the host.
struct Body {
    file: Arc<RegionFile>,
    /// The pool that the memory goes back to.
    slot: Option<PoolSlot>,
    _charge: Charge,
}

impl RegionInner {
    /// Creates a region. Returns it with its creator's handle.
    pub(super) fn create(
        host: &RegionHost,
        name: RegionName,
        size: u64,
        pinned: bool,
        slot: Option<PoolSlot>,
        claim: Vec<Charge>,
    ) -> Result<(Arc<RegionInner>, Handle), RegionError> {
        let charge = host.account().charge(ChargeKind::Regions, 1)?;
        let budget = host.ledger_budget();
        let granules = Span::whole(size).length() / GRANULE;
        let (kept, commit) = match &slot {
            Some(PoolSlot { recycler, .. }) => {
                let commit = recycler.commit(budget, granules)?;
                (recycler.take(size), Some(commit))
            }
            // A kept file has pages, so that it takes a commit.
            None if pinned => {
                let (kept, commit) = committed(host, size, granules)?;
                (kept, Some(commit))
            }
            None => (None, None),
        };
        let file = match file(host, &name, size, kept) {
            Ok(file) => Arc::new(file),
            Err(error) => {
                if let (Some(slot), Some(commit)) = (&slot, commit) {
                    slot.recycler.give_back(commit);
                }
                return Err(error.into());
            }
        };
        let is_pooled = slot.is_some();
        let (ledger, handle) = Ledger::new(size, budget, commit, claim);
        let (number, id) = host.next_identity();
        let lock = LedgerLock::new(number, budget, ledger);
        let region = Arc::new(RegionInner {
            id,
            number,
            name,
            size,
            is_pooled,
            body: Mutex::new(Some(Body {
                file,
                slot,
                _charge: charge,
            })),
            ledger: NotifyingLedger::new(lock, host.time().clone()),
            seen: Mutex::default(),
            host: host.clone(),
        });
        let weak: Weak<RegionInner> = Arc::downgrade(&region);
        if !is_pooled {
            budget.register(number, weak.clone());
        }
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
        let Some(Body {
            file,
            slot,
            _charge,
        }) = body
        else {
            return false;
        };
        let mut ledger = self.ledger();
        let in_order = !ledger.is_poisoned() && !ledger.is_frozen();
        let commit = ledger.release_commit();
        drop(ledger);
        file.bequeath(match slot {
            Some(PoolSlot { recycler, permit }) => Bequest {
                to: recycler,
                commit,
                is_fit: in_order,
                permit: Some(permit),
            },
            None => Bequest {
                to: self.host.recycler().clone(),
                commit,
                is_fit: in_order && self.host.pressure() == Level::Normal,
                permit: None,
            },
        });
        drop(file);
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

/// Commits memory for a region: that of a kept file if there is one, or else new memory.
fn committed(
    host: &RegionHost,
    size: u64,
    granules: u64,
) -> Result<(Option<KeptFile>, CommitCharge), Exhausted> {
    if let Some(mut kept) = host.recycler().take(size) {
        if let Some(commit) = host.commit_kept(&mut kept) {
            return Ok((Some(kept), commit));
        }
        // Closing it may make room.
        drop(kept);
    }
    Ok((None, host.ledger_budget().commit(granules)?))
}

/// Returns a file of zeros: the kept one if there is one, or a new one.
fn file(
    host: &RegionHost,
    name: &RegionName,
    size: u64,
    kept: Option<KeptFile>,
) -> io::Result<RegionFile> {
    if let Some(kept) = kept {
        match RegionFile::recycled(kept) {
            Ok(file) => {
                host.count_recycled();
                return Ok(file);
            }
            Err(error) => tracing::debug!(%error, "a kept file is not used again"),
        }
    }
    match RegionFile::new(name, size) {
        // Kept files take descriptors and memory.
        Err(error) if is_used_up(&error) && host.give_up_spare() > 0 => RegionFile::new(name, size),
        created => created,
    }
}

/// Returns whether the kernel has no descriptor or memory left.
fn is_used_up(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
    )
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
