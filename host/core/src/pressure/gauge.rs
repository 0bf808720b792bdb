//! The memory that is left.
//!
//! *Free* is the smallest of several figures: the rest of each cgroup's limit, from the
//! process's own cgroup up to the root, and the machine's `MemAvailable`. Page cache counts as
//! free, because the kernel takes it back by itself. The pages of regions are shared memory,
//! which only looks like page cache. They count as used until they are purged. Free swap space
//! can avert a refusal, but not a purge.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::cgroup::{Cgroup, Hierarchy};
use super::threshold;

/// The memory that can still be used before the kernel has to kill a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Headroom {
    /// Bytes of memory. Page cache that the kernel can take back by itself counts as
    /// free.
    pub memory: u64,
    /// Bytes of swap space, which can be used in addition.
    pub swap: u64,
}

impl Headroom {
    /// Returns so many bytes of memory, and of swap space.
    #[must_use]
    pub fn new(memory: u64, swap: u64) -> Headroom {
        Headroom { memory, swap }
    }
}

/// Measures how much memory is left; see [`SystemGauge`] for the kernel's figures.
pub trait MemoryGauge: Send + Sync {
    /// Returns a noun for the measured memory, for messages.
    fn name(&self) -> String;

    /// Measures the memory that is left. If this is at least `enough` bytes, it may return
    /// any figure from `enough` up to the exact one, which may be cheaper to find.
    ///
    /// Called at growths of linear memories, at commits of regions, and up to a
    /// thousand times a second if memory is short. It should take microseconds.
    ///
    /// # Errors
    ///
    /// If the memory cannot be measured. Then the margin refuses and purges nothing.
    fn headroom(&self, enough: u64) -> io::Result<Headroom>;

    /// Returns a descriptor that becomes readable, as an eventfd does, when less than
    /// `left` bytes are left, if the kernel can tell that. Besides that, the gauge is
    /// polled.
    fn alarm(&self, left: u64) -> Option<OwnedFd> {
        let _ = left;
        None
    }
}

/// A gauge that asks the kernel for the rest of each cgroup's limit, from the cgroup of
/// this process up to the root, and for the machine's `MemAvailable`. The smallest counts.
///
/// | | usage | limits | page cache | swap |
/// |---|---|---|---|---|
/// | cgroup v2 | `memory.current` | `memory.max`, `memory.high` | `memory.stat` | `memory.swap.max` |
/// | cgroup v1 | `memory.usage_in_bytes` | `memory.limit_in_bytes` | `memory.stat` | `memory.memsw.limit_in_bytes` |
/// | machine | | | `MemAvailable` | `SwapFree` |
///
/// The gauge asks for a cgroup's page cache only if less than `enough` is left without it.
/// Of the page cache, the kernel can take back `inactive_file` and `active_file`; it writes
/// dirty pages first, as for `MemAvailable`. Regions are shared memory, which these do not
/// include: they count as used.
pub struct SystemGauge {
    proc: PathBuf,
    cgroup: Cgroup,
}

impl SystemGauge {
    /// Creates the gauge of this process.
    #[must_use]
    pub fn of_this_process() -> SystemGauge {
        SystemGauge::find(Path::new("/proc"))
    }

    /// Does the same for another `/proc`.
    pub(crate) fn find(proc: &Path) -> SystemGauge {
        SystemGauge {
            proc: proc.to_owned(),
            cgroup: Cgroup::find(proc),
        }
    }

    /// Returns the memory that the machine has left.
    fn machine(&self) -> io::Result<Headroom> {
        let path = self.proc.join("meminfo");
        let text = fs::read_to_string(&path).map_err(|error| super::about(&path, error))?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
            Some(kib.saturating_mul(1024))
        };
        Ok(Headroom {
            // Kernels before 3.14 do not report it.
            memory: bytes("MemAvailable:").unwrap_or(u64::MAX),
            swap: bytes("SwapFree:").unwrap_or(0),
        })
    }
}

impl MemoryGauge for SystemGauge {
    fn name(&self) -> String {
        let mut names: Vec<String> = self
            .cgroup
            .levels()
            .filter_map(|(hierarchy, directory)| {
                let (file, _) = hierarchy.limit(&directory)?;
                Some(directory.join(file).display().to_string())
            })
            .collect();
        names.push(format!(
            "MemAvailable of {}",
            self.proc.join("meminfo").display()
        ));
        names.join(", ")
    }

    fn headroom(&self, enough: u64) -> io::Result<Headroom> {
        let machine = self.machine()?;
        let mut memory = machine.memory;
        let mut total = machine.memory.saturating_add(machine.swap);
        for (hierarchy, directory) in self.cgroup.levels() {
            let Some(level) = hierarchy.left(&directory, enough) else {
                continue;
            };
            memory = memory.min(level.memory);
            let swap = match machine.swap {
                0 => 0,
                free => hierarchy.swap(&directory, level.memory).min(free),
            };
            total = total.min(level.memory.saturating_add(swap));
        }
        Ok(Headroom {
            memory,
            swap: total.saturating_sub(memory),
        })
    }

    fn alarm(&self, left: u64) -> Option<OwnedFd> {
        // Only for the smallest limit. The others are polled.
        let (limit, directory) = self
            .cgroup
            .levels()
            .filter(|(hierarchy, _)| *hierarchy == Hierarchy::First)
            .filter_map(|(hierarchy, directory)| Some((hierarchy.limit(&directory)?.1, directory)))
            .min()?;
        threshold::register(&directory, limit.saturating_sub(left))
            .inspect_err(|error| tracing::debug!(%error, "no threshold of memory use"))
            .ok()
    }
}

impl fmt::Debug for SystemGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemGauge")
            .field("cgroup", &self.cgroup)
            .finish_non_exhaustive()
    }
}

/// Reads a file that consists of a number. A word, such as `max`, is none.
fn number(directory: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    text.trim().parse().ok()
}

impl Hierarchy {
    /// Returns the smallest limit of the cgroup itself, and the file that has it.
    fn limit(self, directory: &Path) -> Option<(&'static str, u64)> {
        let files: &[&str] = match self {
            Hierarchy::Second => &["memory.max", "memory.high"],
            Hierarchy::First => &["memory.limit_in_bytes"],
        };
        let limits = files
            .iter()
            .filter_map(|file| Some((*file, number(directory, file)?)));
        limits
            .filter(|(_, limit)| *limit < super::cgroup::UNLIMITED)
            .min_by_key(|(_, limit)| *limit)
    }

    /// Returns the rest of the limit. `None` without a limit.
    fn left(self, directory: &Path, enough: u64) -> Option<Headroom> {
        let (_, limit) = self.limit(directory)?;
        let usage = match self {
            Hierarchy::Second => number(directory, "memory.current")?,
            Hierarchy::First => number(directory, "memory.usage_in_bytes")?,
        };
        let mut left = limit.saturating_sub(usage);
        if left < enough {
            let used = usage.saturating_sub(self.reclaimable(directory));
            left = limit.saturating_sub(used);
        }
        Some(Headroom {
            memory: left,
            swap: 0,
        })
    }

    /// Returns the page cache that the kernel can take back by itself. Pages of regions
    /// are not on these lists.
    fn reclaimable(self, directory: &Path) -> u64 {
        let Ok(text) = fs::read_to_string(directory.join("memory.stat")) else {
            return 0;
        };
        // In cgroups v1 only the totals include the cgroups below.
        let [inactive, active] = match self {
            Hierarchy::Second => ["inactive_file", "active_file"],
            Hierarchy::First => ["total_inactive_file", "total_active_file"],
        }
        .map(|name| {
            let mut lines = text.lines();
            lines
                .find_map(|line| {
                    line.strip_prefix(name)?
                        .strip_prefix(' ')?
                        .parse::<u64>()
                        .ok()
                })
                .unwrap_or(0)
        });
        inactive.saturating_add(active)
    }

    /// Returns how much more the cgroup may have in swap, if it has `memory` bytes left.
    fn swap(self, directory: &Path, memory: u64) -> u64 {
        match self {
            Hierarchy::Second => match number(directory, "memory.swap.max") {
                Some(most) => {
                    let used = number(directory, "memory.swap.current").unwrap_or(0);
                    most.saturating_sub(used)
                }
                None => u64::MAX,
            },
            // It limits memory and swap space together.
            Hierarchy::First => {
                let limit = number(directory, "memory.memsw.limit_in_bytes");
                let usage = number(directory, "memory.memsw.usage_in_bytes");
                match (limit, usage) {
                    (Some(limit), Some(usage)) => {
                        limit.saturating_sub(usage).saturating_sub(memory)
                    }
                    _ => u64::MAX,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_test_util::proc_tree::ProcTree;

    const ROOM: Headroom = Headroom {
        memory: 1 << 30,
        swap: 0,
    };

    /// Has the machine 1 GiB available and this much swap space.
    fn machine(tree: &ProcTree, swap: u64) {
        let kib = swap / 1024;
        let text = format!("MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\nSwapFree: {kib} kB\n");
        tree.write("proc/meminfo", &text);
    }

    fn write(tree: &ProcTree, group: &str, files: &[(&str, &str)]) {
        for (file, text) in files {
            tree.write(&format!("sys/fs/cgroup/{group}/{file}"), text);
        }
    }

    fn headroom(tree: &ProcTree) -> Headroom {
        let gauge = SystemGauge::find(&tree.proc());
        gauge.headroom(u64::MAX).unwrap()
    }

    #[track_caller]
    fn assert_left(tree: &ProcTree, memory: u64) {
        assert_eq!(headroom(tree), Headroom { memory, swap: 0 });
    }

    #[test]
    fn without_cgroups_the_machine_counts() {
        let tree = ProcTree::new("", &[]);
        machine(&tree, 8192);
        let expected = Headroom { swap: 8192, ..ROOM };
        assert_eq!(headroom(&tree), expected);
        let gauge = SystemGauge::find(Path::new("/not/there"));
        let error = gauge.headroom(0).unwrap_err().to_string();
        assert!(error.contains("/not/there/meminfo"), "{error}");
    }

    #[test]
    fn smaller_of_max_and_high_counts() {
        let tree = ProcTree::unified();
        machine(&tree, 0);
        write(
            &tree,
            "app",
            &[("memory.current", "300"), ("memory.max", "max")],
        );
        assert_eq!(headroom(&tree), ROOM);
        write(&tree, "app", &[("memory.max", "1000")]);
        assert_left(&tree, 700);
        write(&tree, "app", &[("memory.high", "800")]);
        assert_left(&tree, 500);
        // Usage may be above the limit for a moment.
        write(&tree, "app", &[("memory.current", "900")]);
        assert_left(&tree, 0);
    }

    #[test]
    fn fullest_cgroup_up_to_the_root_counts() {
        let tree = ProcTree::new(
            "0::/slice/app\n",
            &[("/", "sys/fs/cgroup", "cgroup2", "rw")],
        );
        machine(&tree, 0);
        let limits = |current, max| [("memory.current", current), ("memory.max", max)];
        write(&tree, "slice/app", &limits("100", "1000"));
        assert_left(&tree, 900);
        write(&tree, "slice", &limits("5000", "5300"));
        assert_left(&tree, 300);
    }

    #[test]
    fn page_cache_is_free_and_shared_memory_is_not() {
        let tree = ProcTree::unified();
        machine(&tree, 0);
        let stat = "anon 100\nfile 700\nshmem 300\ninactive_anon 250\nactive_anon 150\n\
                    inactive_file 250\nactive_file 150\nfile_dirty 30\n";
        let files = [
            ("memory.current", "900"),
            ("memory.max", "1000"),
            ("memory.stat", stat),
        ];
        write(&tree, "app", &files);
        assert_left(&tree, 1000 - (900 - 400));
        // Nobody looks, where there is enough without.
        let gauge = SystemGauge::find(&tree.proc());
        assert_eq!(gauge.headroom(100).unwrap().memory, 100);
        assert_eq!(gauge.headroom(101).unwrap().memory, 500);
    }

    #[test]
    fn first_kind_counts_with_the_cgroups_below() {
        let tree = ProcTree::new(
            "4:memory:/box\n0::/\n",
            &[("/", "sys/fs/cgroup", "cgroup", "rw,memory")],
        );
        machine(&tree, 0);
        let stat = "inactive_file 1\nactive_file 1\ntotal_inactive_file 200\n\
                    total_active_file 100\n";
        let files = [
            ("memory.usage_in_bytes", "900"),
            ("memory.limit_in_bytes", "1000"),
            ("memory.stat", stat),
        ];
        write(&tree, "box", &files);
        assert_left(&tree, 1000 - (900 - 300));
        write(
            &tree,
            "box",
            &[("memory.limit_in_bytes", "9223372036854771712")],
        );
        assert_eq!(headroom(&tree), ROOM);
    }

    #[test]
    fn swap_is_what_cgroup_and_machine_have_both() {
        let tree = ProcTree::unified();
        machine(&tree, 1 << 20);
        write(
            &tree,
            "app",
            &[("memory.current", "300"), ("memory.max", "1000")],
        );
        let swap = || headroom(&tree).swap;
        assert_eq!(swap(), 1 << 20);
        let files = [("memory.swap.max", "5000"), ("memory.swap.current", "1000")];
        write(&tree, "app", &files);
        assert_eq!(swap(), 4000);
        machine(&tree, 0);
        assert_eq!(swap(), 0);
    }

    #[test]
    fn first_kinds_limit_of_both_limits_swap() {
        let tree = ProcTree::new(
            "4:memory:/box\n",
            &[("/", "sys/fs/cgroup", "cgroup", "rw,memory")],
        );
        machine(&tree, 1 << 20);
        let files = [
            ("memory.usage_in_bytes", "900"),
            ("memory.limit_in_bytes", "1000"),
        ];
        write(&tree, "box", &files);
        assert_eq!(headroom(&tree).swap, 1 << 20);
        let files = [
            ("memory.memsw.usage_in_bytes", "1000"),
            ("memory.memsw.limit_in_bytes", "1500"),
        ];
        write(&tree, "box", &files);
        let expected = Headroom {
            memory: 100,
            swap: 400,
        };
        assert_eq!(headroom(&tree), expected);
    }

    #[test]
    fn limit_that_changes_is_followed() {
        let tree = ProcTree::unified();
        machine(&tree, 0);
        let gauge = SystemGauge::find(&tree.proc());
        write(
            &tree,
            "app",
            &[("memory.current", "300"), ("memory.max", "1000")],
        );
        assert_eq!(gauge.headroom(u64::MAX).unwrap().memory, 700);
        write(&tree, "app", &[("memory.max", "500")]);
        assert_eq!(gauge.headroom(u64::MAX).unwrap().memory, 200);
        let name = gauge.name();
        assert!(
            name.contains("cgroup/app/memory.max, MemAvailable"),
            "{name}"
        );
    }

    #[test]
    fn this_process_has_memory_left() {
        let gauge = SystemGauge::of_this_process();
        assert!(gauge.headroom(u64::MAX).unwrap().memory > 0);
    }
}
