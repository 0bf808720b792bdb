//! Limits on what guests and the whole host may hold.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::pressure::Cgroup;
use tombolo_region::Quota;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The largest margin by default.
const MOST_MARGIN: u64 = 256 * MIB;

/// The most bytes of ended regions that are kept by default.
const MOST_SPARE: u64 = 256 * MIB;

/// Limits on what one guest may hold at a time. A request over a limit is refused before
/// anything is allocated, by an error that names the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Claims on regions: created, duplicated, received. Default 1024, or an
    /// eighth of the process's soft limit of file descriptors if that is less.
    pub regions: u32,
    /// Bytes of the regions that the guest has claims on, each claim in full. Default half of
    /// the memory that the process could use: the machine's, or its cgroup's limit if that is
    /// less.
    pub claimed_bytes: u64,
    /// Bytes in one region. Default as for `claimed_bytes`.
    pub region_bytes: u64,
    /// Handles to regions, and to resources that other guests define. Default
    /// 4096.
    pub handles: u32,
    /// Windows, and waits for windows by async functions. Default 4096.
    pub windows: u32,
    /// Bytes of linear memory, all memories of the guest together. Default 4 GiB. Enforced only
    /// if Tombolo runs the guest. For an embedder's stores see wasmtime's `ResourceLimiter`.
    pub memory_bytes: u64,
    /// Descriptors, streams, pollables and the like from WASI, and ends of channels, publications
    /// and watches. Default as for regions, but at least 16: most of them take no file descriptor.
    /// Enforced only if Tombolo runs the guest.
    pub descriptors: u32,
    /// Calls that the guest may answer at a time, if it has async functions, at least 1. Further
    /// calls wait. Default 16. Enforced only if Tombolo runs the guest.
    pub tasks: u32,
    /// The longest time that a call to one of the guest's exports may take. The guest's own
    /// running and waiting in host calls count, but not the time in which it waits for a guest
    /// that it called. `None` for no limit. Default 60 seconds. Enforced only if Tombolo runs
    /// the guest.
    pub call_time: Option<Duration>,
    /// The same for `wasi:cli/run`, of guests that are commands. Default no limit, because other
    /// guests go on meanwhile.
    pub run_time: Option<Duration>,
    /// VMA splits that the windows of the guest may make in its memories. Default 8192. All
    /// guests together also keep to half of `vm.max_map_count`.
    pub vmas: u32,
    /// Bytes per `read-at` and `write-at`. Default 16 MiB.
    pub copy_bytes: u64,
    /// Separate runs of bytes that the guest's claims do not pin, all claims together. Each takes
    /// some dozens of bytes of the host's memory. Default 16,384.
    pub unpinned_spans: u32,
    /// `host-memory`: bytes of the host's own memory that the guest makes the host
    /// allocate, apart from its linear memories and regions. These are for its core
    /// instances, globals, tables and element segments, for its open streams and
    /// directories, for the values of calls under way, and for waits by async functions. Default
    /// 128 MiB. Except for those waits, enforced only if Tombolo runs the guest. For an embedder's stores see `Store::set_hostcall_fuel` and
    /// wasmtime's `ResourceLimiter`.
    pub host_memory_bytes: u64,
}

/// Returns half of the memory that this process could use: the machine's, or its cgroup's limit
/// if that is less. 1 GiB if neither is known.
pub fn half_of_available() -> u64 {
    half_of_available_in(Path::new("/proc"))
}

/// Does the same for another `/proc`.
fn half_of_available_in(proc: &Path) -> u64 {
    let machine = std::fs::read_to_string(proc.join("meminfo"))
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemTotal:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        })
        .map(|kib| kib.saturating_mul(1024));
    let cgroup = Cgroup::find(proc).memory_limit();
    let available = machine.into_iter().chain(cgroup).min();
    available.map_or(GIB, |bytes| bytes / 2)
}

/// Returns the process's soft limit of file descriptors.
fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns one part in `part` of the whole, from 1 to `most`.
fn share(whole: u64, part: u64, most: u32) -> u32 {
    u32::try_from(whole / part).map_or(most, |share| share.clamp(1, most))
}

impl Default for Limits {
    fn default() -> Limits {
        let half = half_of_available();
        Limits {
            regions: share(descriptors(), 8, 1024),
            claimed_bytes: half,
            region_bytes: half,
            handles: 4096,
            windows: 4096,
            memory_bytes: 4 * GIB,
            descriptors: share(descriptors(), 8, 1024).max(16),
            tasks: 16,
            call_time: Some(Duration::from_secs(60)),
            run_time: None,
            vmas: 8192,
            copy_bytes: 16 * MIB,
            unpinned_spans: 16_384,
            host_memory_bytes: 128 * MIB,
        }
    }
}

impl Limits {
    pub(crate) fn quota(&self) -> Quota {
        Quota {
            regions: self.regions.into(),
            claimed_bytes: self.claimed_bytes,
            handles: self.handles.into(),
            windows: self.windows.into(),
            unpinned_spans: self.unpinned_spans.into(),
            host_memory: self.host_memory_bytes,
        }
    }
}

/// Limits on what all guests and the host program may hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostLimits {
    /// Regions. Each takes a file descriptor; by default half of the process's
    /// soft limit of those.
    pub regions: u64,
    /// Bytes that all regions may commit, in whole granules, each region once: pinned bytes, and
    /// unpinned bytes that were not purged yet. Default half of the memory that the process
    /// could use: the machine's, or its cgroup's limit if that is less.
    pub budget: u64,
    /// Bytes of memory that the host keeps free, beside those that it has promised to its guests; 0
    /// to keep none. When less is left, it purges bytes that nobody pins, the least recently
    /// unpinned first. When less than half of the margin is left and there is nothing to purge, it
    /// refuses growths of linear memories and commits of regions, and an app may terminate guests.
    /// Default an eighth of the memory that the process could use, 256 MiB at most.
    ///
    /// [`SystemGauge`](crate::pressure::SystemGauge) describes which memory counts. A
    /// linear memory counts with its size, and a region with all its committed bytes,
    /// touched or not. See also [`RegionHost::keep_margin`].
    ///
    /// [`RegionHost::keep_margin`]: crate::RegionHost::keep_margin
    pub margin: u64,
    /// Bytes of ended regions that the host keeps, to create the next regions of the same
    /// lengths faster; 0 to keep none. They are given up before the budget or the margin
    /// refuses or purges anything, under memory pressure, and after 10 seconds of disuse.
    /// Default a quarter of the budget's default, 256 MiB at most.
    ///
    /// [`RegionHost::keep_margin`] notices disuse. Without it, or with a margin of 0, only the end
    /// of another region does.
    ///
    /// The kernel may still have bytes of a guard that were passed to it by reference, with
    /// `vmsplice`, `MSG_ZEROCOPY` or io_uring. Keep the guard until it is done with them, or set 0:
    /// otherwise it may send bytes of a later region.
    ///
    /// [`RegionHost::keep_margin`]: crate::RegionHost::keep_margin
    pub spare: u64,
}

impl Default for HostLimits {
    fn default() -> HostLimits {
        HostLimits {
            regions: descriptors() / 2,
            budget: half_of_available(),
            margin: (half_of_available() / 4).min(MOST_MARGIN),
            spare: (half_of_available() / 4).min(MOST_SPARE),
        }
    }
}

impl HostLimits {
    pub(crate) fn quota(&self) -> Quota {
        Quota {
            regions: self.regions,
            claimed_bytes: u64::MAX,
            handles: u64::MAX,
            windows: u64::MAX,
            unpinned_spans: u64::MAX,
            host_memory: u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_test_util::proc_tree::ProcTree;

    // rule 10
    #[test]
    fn half_of_the_machine_without_a_smaller_limit() {
        let tree = ProcTree::unified();
        tree.write("proc/meminfo", "MemTotal:    4096 kB\nMemFree: 1 kB\n");
        assert_eq!(half_of_available_in(&tree.proc()), 2 * MIB);
        tree.write("sys/fs/cgroup/app/memory.max", "max\n");
        assert_eq!(half_of_available_in(&tree.proc()), 2 * MIB);
        // A limit can be larger than the machine.
        tree.write("sys/fs/cgroup/app/memory.max", "8388608\n");
        assert_eq!(half_of_available_in(&tree.proc()), 2 * MIB);
    }

    // rule 10
    #[test]
    fn half_of_the_cgroups_limit_if_that_is_smaller() {
        let tree = ProcTree::unified();
        tree.write("proc/meminfo", "MemTotal:    4096 kB\n");
        tree.write("sys/fs/cgroup/app/memory.max", "1048576\n");
        assert_eq!(half_of_available_in(&tree.proc()), MIB / 2);
    }

    // rule 10
    #[test]
    fn half_of_the_cgroups_limit_without_meminfo() {
        let tree = ProcTree::unified();
        assert_eq!(half_of_available_in(&tree.proc()), GIB);
        tree.write("sys/fs/cgroup/app/memory.max", "1048576\n");
        assert_eq!(half_of_available_in(&tree.proc()), MIB / 2);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(half_of_available() > 0);
    }
}
