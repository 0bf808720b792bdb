//! Memory that is being asked for.

use std::sync::atomic::Ordering;

use tombolo_region::{Exhausted, GRANULE};

use crate::host::RegionHost;

/// Bytes that are being asked for.
pub(super) struct Asked<'h>(&'h RegionHost, u64);

impl Asked<'_> {
    pub(super) fn new(host: &RegionHost, bytes: u64) -> Asked<'_> {
        host.margin().asked.fetch_add(bytes, Ordering::SeqCst);
        Asked(host, bytes)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.margin().asked.fetch_sub(self.1, Ordering::SeqCst);
    }
}

/// Asks for memory for granules that the budget is about to commit. They count as asked
/// for until [`commit_done`].
pub(crate) fn ask_to_commit(host: &RegionHost, granules: u64) -> Result<(), Exhausted> {
    let margin = host.margin();
    let bytes = granules.saturating_mul(GRANULE);
    let asked = margin.recall(host, bytes).and_then(|()| {
        margin.asked.fetch_add(bytes, Ordering::SeqCst);
        let allowed = margin.allow(host, bytes);
        allowed.inspect_err(|_| commit_done(host, granules))
    });
    asked.map_err(|short| {
        let mut exhausted = Exhausted::new("the host", "margin");
        exhausted.used = host.budget().committed;
        exhausted.asked = bytes;
        exhausted.most = short.left;
        exhausted
    })
}

/// Notes that the budget counts the granules itself now, or has refused them.
pub(crate) fn commit_done(host: &RegionHost, granules: u64) {
    let bytes = granules.saturating_mul(GRANULE);
    host.margin().asked.fetch_sub(bytes, Ordering::SeqCst);
}
