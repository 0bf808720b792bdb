//! Memory that is being asked for.

use std::sync::atomic::Ordering;

use tombolo_region::{Exhausted, GRANULE};

use crate::host::RegionHost;

/// Asks for memory for granules that the budget is about to commit. They count as asked
/// for until [`commit_done`].
pub(crate) fn ask_to_commit(host: &RegionHost, granules: u64) -> Result<(), Exhausted> {
    let margin = host.margin();
    let bytes = granules.saturating_mul(GRANULE);
    let asked = margin.recall(host, bytes);
    let asked = asked.and_then(|()| margin.allow(host, bytes, &[&margin.asked]));
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
