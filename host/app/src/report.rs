//! Reports of what happened while an app ran.
//!
//! With the feature `serde`, the types here serialize under the names of their fields. Sizes
//! are in bytes, and times in nanoseconds.

use std::fmt;
use std::time::Duration;

use tombolo::{BudgetUsage, RegionUsage};

/// How many restarts of a guest, and how many kills, a report lists. An app may run for
/// long.
pub(super) const RECORDS: usize = 64;

/// A report of what the guests of an app did. It is plain data.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The guests, in the order in which they were added.
    pub guests: Vec<GuestReport>,
    /// The calls between guests, by function.
    pub calls: Vec<CallReport>,
    /// The channels.
    pub channels: Vec<ChannelReport>,
    /// The guests that were ended because memory was short, or would have been in a dry run.
    /// They are in that order, and only the last 64.
    pub kills: Vec<KillReport>,
    /// The number of those guests, listed or not.
    pub kills_total: u64,
    /// The bytes that regions could commit, and did.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::budget"))]
    pub budget: BudgetUsage,
    /// The number of regions that were created.
    pub regions_created: u64,
    /// The number of regions that ended.
    pub regions_freed: u64,
    /// The bytes of the regions on which more than one guest had a window.
    pub bytes_shared: u64,
    /// The bytes that the host copied into and out of regions, for `read-at` and `write-at`.
    pub bytes_copied_regions: u64,
    /// The bytes that the host copied between guests as values of calls.
    pub bytes_copied_calls: u64,
}

/// A guest that was ended because memory was short, or would have been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KillReport {
    /// The guest's name.
    pub guest: String,
    /// The guest's OOM score, from 0 to 1000.
    pub score: u16,
    /// The reason that its callers were told.
    pub reason: String,
    /// The bytes that this freed. They are the resident bytes of its linear memories and of
    /// regions on which no other guest had a claim, and the host memory on its account, in
    /// steps of 64 KiB.
    pub bytes: u64,
    /// Whether this was a [dry run](super::OnPressure::DryRun), so that the guest was not
    /// ended.
    pub dry_run: bool,
}

/// How a guest ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestEnd {
    /// It ended by itself, with this exit code.
    Exit(u8),
    /// It answered calls until no command ran any more.
    Served,
    /// It trapped, or was ended for what it did.
    Failed,
    /// It was told to end, for this reason.
    Stopped(String),
    /// It was still there when the app ended.
    #[default]
    EndedWithApp,
}

impl fmt::Display for GuestEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuestEnd::Exit(code) => write!(f, "exit {code}"),
            GuestEnd::Served => f.write_str("served"),
            GuestEnd::Failed => f.write_str("failed"),
            GuestEnd::Stopped(reason) => write!(f, "ended: {reason}"),
            GuestEnd::EndedWithApp => f.write_str("ended with the app"),
        }
    }
}

/// A report of what one guest did, over all its incarnations.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GuestReport {
    /// The guest's name.
    pub name: String,
    /// How it ended.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::text"))]
    pub end: GuestEnd,
    /// The regions on which it had claims when it ended, and what it pinned of them.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::regions"))]
    pub regions: Vec<RegionUsage>,
    /// The regions on which it had claims before, and what it pinned of them. Each is as it
    /// was when the guest dropped its last claim, or as it is now if the guest moved the
    /// claim. Only the last ones are listed.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::regions"))]
    pub regions_released: Vec<RegionUsage>,
    /// The number of those regions, listed or not.
    pub regions_released_total: u64,
    /// The windows that it mapped, with equal ones together. Only the last ones are listed.
    pub windows: Vec<WindowReport>,
    /// The number of windows that it mapped, listed or not.
    pub windows_total: u64,
    /// The number of regions that it created.
    pub regions_created: u64,
    /// The number of regions that ended when it released them.
    pub regions_freed: u64,
    /// How it failed before and was restarted: the last 64 times. Numbers here count all its
    /// incarnations; windows and regions are those of the last.
    pub restarts: Vec<RestartReport>,
    /// The number of restarts, listed or not.
    pub restarts_total: u64,
    /// The growths of its memory that were refused because the host was short of memory.
    pub growths_refused: u64,
}

/// A failure of a guest that was restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RestartReport {
    /// The text of the failure.
    pub failure: String,
    /// How long the incarnation ran.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::nanoseconds"))]
    pub lived: Duration,
    /// How long the guest waited for its next start.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::nanoseconds"))]
    pub delay: Duration,
}

/// The access that a window gives a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum WindowAccess {
    /// Reads, while no guest writes.
    #[default]
    Read,
    /// Reads and writes, while no other guest has a window there.
    Write,
    /// Reads, while guests of the same strand may write.
    LiveRead,
    /// Reads and writes, while guests of the same strand may do so too.
    LiveWrite,
}

impl fmt::Display for WindowAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WindowAccess::Read => "read",
            WindowAccess::Write => "write",
            WindowAccess::LiveRead => "live-read",
            WindowAccess::LiveWrite => "live-write",
        })
    }
}

impl From<tombolo_region::Access> for WindowAccess {
    fn from(access: tombolo_region::Access) -> WindowAccess {
        match access {
            tombolo_region::Access::Read => WindowAccess::Read,
            tombolo_region::Access::Write => WindowAccess::Write,
            tombolo_region::Access::LiveRead(_) => WindowAccess::LiveRead,
            tombolo_region::Access::LiveWrite(_) => WindowAccess::LiveWrite,
        }
    }
}

/// A window, as it was mapped.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WindowReport {
    /// The address in the guest's memory.
    pub address: u32,
    /// The name of the region.
    pub region: String,
    /// The identity of the region.
    pub region_id: u64,
    /// The offset in the region, in bytes.
    pub offset: u64,
    /// The length in bytes.
    pub length: u64,
    /// The access that it gave.
    pub access: WindowAccess,
    /// How often the guest mapped it like this.
    pub count: u64,
}

/// A report of what passed through a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ChannelReport {
    /// The channel's name.
    pub name: String,
    /// The number of messages that were sent.
    pub sent: u64,
    /// The number of messages that were received.
    pub received: u64,
    /// The number of messages that were skipped, or dropped because their receiver was gone.
    pub dropped: u64,
    /// The bytes of all messages, which were copied.
    pub bytes: u64,
    /// The number of regions that moved in messages.
    pub regions: u64,
}

/// The calls of one function of one guest by another.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CallReport {
    /// The name of the guest that called.
    pub caller: String,
    /// The name of the guest that was called.
    pub callee: String,
    /// The function, with its interface.
    pub function: String,
    /// The number of calls.
    pub count: u64,
    /// How long all of them took together.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::nanoseconds"))]
    pub total: Duration,
    /// How long the median one took, of the first 1024.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::nanoseconds"))]
    pub median: Duration,
}

/// How the parts are serialized that have no `Serialize` of their own.
#[cfg(feature = "serde")]
mod json {
    use std::fmt::Display;
    use std::time::Duration;

    use serde::{Serialize, Serializer};
    use tombolo::{BudgetUsage, RegionUsage};

    #[derive(Serialize)]
    struct RegionJson<'a> {
        id: u64,
        name: &'a str,
        size: u64,
        resident: u64,
        pinned: u64,
        purgeable: u64,
        purged: u64,
        holders: u64,
        pss: u64,
    }

    #[derive(Serialize)]
    struct BudgetJson {
        budget: u64,
        committed: u64,
        committed_peak: u64,
        purgeable: u64,
        purges: u64,
        purged: u64,
    }

    pub(super) fn text<S: Serializer>(text: &impl Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(text)
    }

    pub(super) fn nanoseconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn regions<S: Serializer>(all: &[RegionUsage], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(|region| RegionJson {
            id: region.id.into(),
            name: &region.name,
            size: region.size,
            resident: region.resident,
            pinned: region.pinned,
            purgeable: region.purgeable,
            purged: region.purged,
            holders: region.holders,
            pss: region.pss,
        }))
    }

    pub(super) fn budget<S: Serializer>(usage: &BudgetUsage, to: S) -> Result<S::Ok, S::Error> {
        BudgetJson {
            budget: usage.budget,
            committed: usage.committed,
            committed_peak: usage.committed_peak,
            purgeable: usage.purgeable,
            purges: usage.purges,
            purged: usage.purged,
        }
        .serialize(to)
    }
}
