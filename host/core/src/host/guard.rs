//! The guards by which the host program reads and writes regions in place.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use tombolo_region::{Charge, WindowEnd, WindowId};

use super::RegionInner;
use crate::sys::{View, ViewMut};

/// A window of the host program in the ledger, for a guard or a copy.
pub(crate) struct HostLock {
    pub(crate) region: Arc<RegionInner>,
    pub(crate) id: WindowId,
    pub(crate) _charge: Charge,
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // As a lock of the standard library: a thread that panics while it may write may have
        // left a half-written value.
        let end = if std::thread::panicking() {
            WindowEnd::Died
        } else {
            WindowEnd::Orderly
        };
        self.region.ledger.close(self.id, end);
        self.region.settle();
    }
}

/// A guard that reads a part of a region in place; see [`Region::try_read`](crate::Region::try_read) and
/// [`Region::read`](crate::Region::read).
///
/// It counts as a `read` window until it is dropped. It owns all that it needs, so it can
/// outlive the handle, the host and all guests. Dropping it takes at most a few system calls.
///
/// If its bytes are passed to the kernel by reference (`vmsplice`, `MSG_ZEROCOPY`, io_uring), keep
/// it until the kernel is done with them. A later region may have the same memory.
pub struct ReadGuard {
    /// `None` for no bytes. Fields drop in order, so the view is unmapped before the lock is
    /// released.
    pub(crate) view: Option<(View, HostLock)>,
    /// The bytes, within the view.
    pub(crate) inside: Range<usize>,
}

impl Deref for ReadGuard {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.view
            .as_ref()
            .map_or(&[], |(view, _)| &view.bytes()[self.inside.clone()])
    }
}

/// Lets a guard own bytes that go elsewhere, as `bytes::Bytes::from_owner` takes them.
impl AsRef<[u8]> for ReadGuard {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for ReadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadGuard")
            .field("length", &self.len())
            .finish_non_exhaustive()
    }
}

/// A guard that writes a part of a region in place; see [`Region::try_write`](crate::Region::try_write) and
/// [`Region::write`](crate::Region::write).
///
/// It counts as a `write` window until it is dropped. It owns all that it needs, so it can
/// outlive the handle, the host and all guests. Dropping it takes at most a few system calls. If
/// it is dropped in a panic, it poisons the region.
///
/// If its bytes are passed to the kernel by reference, keep it as long as a [`ReadGuard`].
pub struct WriteGuard {
    /// `None` for no bytes.
    pub(crate) view: Option<(ViewMut, HostLock)>,
    /// The bytes, within the view.
    pub(crate) inside: Range<usize>,
}

impl Deref for WriteGuard {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.view
            .as_ref()
            .map_or(&[], |(view, _)| &view.bytes()[self.inside.clone()])
    }
}

impl DerefMut for WriteGuard {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.view {
            Some((view, _)) => &mut view.bytes_mut()[self.inside.clone()],
            None => &mut [],
        }
    }
}

impl fmt::Debug for WriteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard")
            .field("length", &self.len())
            .finish_non_exhaustive()
    }
}
