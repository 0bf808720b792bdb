//! What happened while an app ran.

use std::time::Duration;

use tombolo::{BudgetUsage, RegionUsage};

/// What the guests of an app did: plain data, for whoever prints it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The guests, in the order in which they were named.
    pub guests: Vec<GuestReport>,
    /// How many regions were created.
    pub regions_created: u64,
    /// How many of those went back to the kernel.
    pub regions_freed: u64,
    /// The bytes of the regions that more than one guest had a window on.
    pub bytes_shared: u64,
    /// The bytes that the host copied into and out of regions, for `read-at`
    /// and `write-at`.
    pub bytes_copied_regions: u64,
    /// The bytes that the host copied between guests as values of calls.
    pub bytes_copied_calls: u64,
    /// The calls between guests, a function each.
    pub calls: Vec<CallReport>,
    /// What went through channels.
    pub channels: Vec<ChannelReport>,
    /// The guests that were ended for want of memory, or would have been, in
    /// that order; the last ones.
    pub kills: Vec<KillReport>,
    /// How many it were, whether or not they are listed.
    pub kills_total: u64,
    /// What regions might commit, and did.
    pub budget: BudgetUsage,
}

/// A guest that was ended for want of memory, or would have been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KillReport {
    /// The guest.
    pub guest: String,
    /// Its score, from 0 to 1000.
    pub score: u16,
    /// What its callers were told.
    pub reason: String,
    /// The bytes that this freed: the resident bytes of its linear memories and of regions
    /// that nobody else had a claim on, and the host's own memory on its account, in steps
    /// of 64 KiB.
    pub bytes: u64,
    /// It was not ended, since only [counting](super::OnPressure::DryRun) was
    /// asked for.
    pub dry_run: bool,
}

/// What one guest did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GuestReport {
    /// Its name.
    pub name: String,
    /// How it ended, in a few words.
    pub end: String,
    /// The windows that it mapped, those of the same kind together; the last
    /// kinds of them.
    pub windows: Vec<WindowReport>,
    /// How many windows it mapped, whether or not they are listed.
    pub windows_total: u64,
    /// The regions that it had claims on when it ended, and what it pinned of
    /// them.
    pub regions: Vec<RegionUsage>,
    /// The regions that it had claims on before, and what it pinned of them: each as it
    /// was when it dropped its last claim, or is now, if it moved it; the last ones.
    pub regions_released: Vec<RegionUsage>,
    /// How many it were, whether or not they are listed.
    pub regions_released_total: u64,
    /// How many regions it created.
    pub regions_created: u64,
    /// How many regions went back to the kernel as it let go of them.
    pub regions_freed: u64,
    /// How it failed before and was started again, the last times. What is counted
    /// here is counted over all its lives; windows and regions are those of the last.
    pub restarts: Vec<RestartReport>,
    /// How often it was started again, whether or not it is listed.
    pub restarts_total: u64,
    /// The growths of its memory that were refused because the host was short of memory.
    pub growths_refused: u64,
}

/// How many restarts of a guest, and how many kills, are remembered: an app may run
/// for long.
pub(super) const RECORDS: usize = 64;

/// A guest failed and was started again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestartReport {
    /// How it failed.
    pub failure: String,
    /// How long it had lived.
    pub lived: Duration,
    /// How long it waited for its next start.
    pub delay: Duration,
}

/// A window, as it was mapped.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WindowReport {
    /// The address in the guest's memory.
    pub address: u32,
    /// The name of the region.
    pub region: String,
    /// The identity of the region.
    pub region_id: u64,
    /// The offset in the region.
    pub offset: u64,
    /// The length in bytes.
    pub length: u64,
    /// What it let the guest do.
    pub access: String,
    /// How often the guest mapped it like this.
    pub count: u64,
}

/// What went through a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelReport {
    /// Its name.
    pub name: String,
    /// How many messages were sent.
    pub sent: u64,
    /// How many of them were received.
    pub received: u64,
    /// How many of them were dropped, since their receiver had gone.
    pub dropped: u64,
    /// How many bytes they had, which were copied.
    pub bytes: u64,
    /// How many regions moved in them.
    pub regions: u64,
}

/// The calls of one function of one guest by another.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallReport {
    /// The guest that called.
    pub caller: String,
    /// The guest that was called.
    pub callee: String,
    /// The function, with its interface.
    pub function: String,
    /// How often.
    pub count: u64,
    /// How long all of them took together.
    pub total: Duration,
    /// How long the median one took.
    pub median: Duration,
}
