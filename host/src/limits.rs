use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::region::Quota;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What one guest may hold at a time. Whatever would go over a limit is refused
/// before anything is allocated, by an error that names the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Claims on regions: created, duplicated, received. Default 1024.
    pub regions: u32,
    /// Bytes of the regions that the guest has claims on, each claim counted in
    /// full. Default 16 GiB.
    pub claimed_bytes: u64,
    /// Bytes in one region. Default 16 GiB.
    pub region_bytes: u64,
    /// Handles to regions. Default 4096.
    pub handles: u32,
    /// Windows. Default 4096.
    pub windows: u32,
    /// Bytes of linear memory, all memories of the guest together. Default
    /// 4 GiB. Enforced where Tombolo runs the guest; an embedder has
    /// wasmtime's `ResourceLimiter`.
    pub memory_bytes: u64,
    /// Descriptors, streams and the like from WASI. Default 1024. Enforced
    /// where Tombolo runs the guest.
    pub descriptors: u32,
    /// How long a call to one of the guest's exports may take: its own running
    /// and its own waiting in host calls, without the time in which it waits
    /// for a guest that it called. `None` for no limit; default 60 seconds.
    /// Enforced where Tombolo runs the guest.
    pub call_time: Option<Duration>,
    /// The same for `wasi:cli/run`, of guests that are commands. Default no
    /// limit: other guests go on all the same.
    pub run_time: Option<Duration>,
    /// Kernel mappings into which one memory of the guest may be cut by windows.
    /// Default 8192. All guests together keep to half of `vm.max_map_count`
    /// besides.
    pub mappings: u32,
    /// Bytes per `read-at` and `write-at`. Default 16 MiB.
    pub copy_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            regions: 1024,
            claimed_bytes: 16 * GIB,
            region_bytes: 16 * GIB,
            handles: 4096,
            windows: 4096,
            memory_bytes: 4 * GIB,
            descriptors: 1024,
            call_time: Some(Duration::from_secs(60)),
            run_time: None,
            mappings: 8192,
            copy_bytes: 16 * MIB,
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
        }
    }
}

/// What all guests and the host program may hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostLimits {
    /// Regions. Each takes a file descriptor; by default half of the process's
    /// soft limit of those.
    pub regions: u64,
    /// Bytes of all regions, each counted once. Default: no limit beyond the
    /// guests'.
    pub region_bytes: u64,
}

impl Default for HostLimits {
    fn default() -> HostLimits {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        HostLimits {
            regions: descriptors / 2,
            region_bytes: u64::MAX,
        }
    }
}

impl HostLimits {
    pub(crate) fn quota(&self) -> Quota {
        Quota {
            regions: self.regions,
            claimed_bytes: self.region_bytes,
            handles: u64::MAX,
            windows: u64::MAX,
        }
    }
}
