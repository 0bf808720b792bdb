//! The count of VMAs, at their worst.
//!
//! Each address at which a window ever began or ended in a memory may split a VMA for good: a
//! window at a place of its own takes two (see `tombolo_region::SplitPoints`). Splits are counted
//! before the kernel is asked, per guest (limit `vmas`) and for the process, up to half of
//! `vm.max_map_count`. Undoing an operation never needs a new VMA. If it fails all the same, the
//! range is made inaccessible and the guest is terminated.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The VMAs that windows and guards of this process may have made, at worst.
///
/// `vm.max_map_count` holds for the whole process. Beyond it `malloc`, new threads and even
/// unmapping fail. So the count belongs to the process and not to an embedder's object, and it
/// stops at half of the limit.
static USED: AtomicU64 = AtomicU64::new(0);

/// The default of Linux, if `/proc` does not tell.
const DEFAULT_MAX_MAP_COUNT: u64 = 65_530;

fn most() -> u64 {
    static MOST: OnceLock<u64> = OnceLock::new();
    *MOST.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(DEFAULT_MAX_MAP_COUNT)
            / 2
    })
}

/// A charge of some VMAs. Dropping it refunds them.
#[derive(Debug, Default)]
pub(crate) struct VmaCharge(u64);

impl VmaCharge {
    pub(crate) fn take(count: u64) -> Result<VmaCharge, TooManyVmas> {
        let mut charge = VmaCharge(0);
        charge.more(count)?;
        Ok(charge)
    }

    pub(crate) fn more(&mut self, count: u64) -> Result<(), TooManyVmas> {
        let most = most();
        USED.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(count).filter(|sum| *sum <= most)
        })
        .map_err(|_| TooManyVmas { asked: count, most })?;
        self.0 += count;
        Ok(())
    }

    /// Refunds some.
    pub(crate) fn less(&mut self, count: u64) {
        debug_assert!(count <= self.0, "no more is refunded than was charged");
        self.0 -= count;
        USED.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0
    }
}

impl Drop for VmaCharge {
    fn drop(&mut self) {
        USED.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// A refusal, because the process's share of VMAs is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "limit `vmas` of the host is used up: {asked} more asked for, {most} allowed (half of \
     vm.max_map_count)"
)]
pub struct TooManyVmas {
    asked: u64,
    most: u64,
}
