//! The best source of reports of memory pressure.

use std::fmt;
use std::path::Path;

use super::{Cgroup, MemoryEvents, PressureSource, Psi, Thresholds};

/// The best source of reports of memory pressure for this process; see [`detect`].
pub struct Detected {
    source: Option<Box<dyn PressureSource>>,
    note: String,
}

impl Detected {
    /// Returns one line for the operator: the source that was chosen, and why no better one was.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Returns the source, for
    /// [`RegionHost::watch_pressure`](crate::RegionHost::watch_pressure), if there is one.
    #[must_use]
    pub fn into_source(self) -> Option<Box<dyn PressureSource>> {
        self.source
    }
}

impl fmt::Debug for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detected")
            .field("note", &self.note)
            .finish_non_exhaustive()
    }
}

/// Finds the first source that works in this process:
///
/// 1. Pressure-stall triggers on the cgroup, or else on the system ([`Psi`]), with lmkd's
///    thresholds. Windows and thresholds are twice as long if the kernel refuses short ones to
///    unprivileged processes.
/// 2. The `memory.events` of the cgroup ([`MemoryEvents`]). These come late.
///
/// Reads and opens some files in `/proc` and `/sys`.
#[must_use]
pub fn detect(thresholds: Thresholds) -> Detected {
    detect_in(Path::new("/proc"), thresholds)
}

/// The same, where `/proc` is elsewhere.
fn detect_in(proc: &Path, thresholds: Thresholds) -> Detected {
    let cgroup = Cgroup::find(proc);
    let directory = cgroup.directory();
    let psi = |path| match Psi::open(path, thresholds) {
        Ok(psi) => Ok(Box::new(psi) as Box<dyn PressureSource>),
        Err(error) => Err(error.to_string()),
    };
    let ways: [&dyn Fn() -> Result<Box<dyn PressureSource>, String>; 3] = [
        &|| match directory {
            Some(directory) => psi(directory.join("memory.pressure")),
            None => Err("no cgroup v2 memory.pressure".into()),
        },
        &|| psi(proc.join("pressure/memory")),
        &|| match directory {
            Some(directory) => match MemoryEvents::open(directory) {
                Ok(events) => Ok(Box::new(events) as Box<dyn PressureSource>),
                Err(error) => Err(error.to_string()),
            },
            None => Err("no cgroup v2 memory.events".into()),
        },
    ];
    let mut refused = Vec::new();
    for way in ways {
        match way() {
            Ok(source) => {
                let mut note = format!("memory pressure: watched by {}", source.name());
                if !refused.is_empty() {
                    note += &format!("; not by {}", refused.join("; "));
                }
                return Detected {
                    source: Some(source),
                    note,
                };
            }
            Err(error) => refused.push(error),
        }
    }
    Detected {
        source: None,
        note: format!(
            "memory pressure: not watched: {}; the budget alone limits regions",
            refused.join("; ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_test_util::proc_tree::ProcTree;

    #[track_caller]
    fn detected(tree: &ProcTree) -> (bool, String) {
        let detected = detect_in(&tree.proc(), Thresholds::default());
        let note = detected
            .note()
            .replace(tree.path("").to_str().unwrap(), "/");
        (detected.into_source().is_some(), note)
    }

    #[test]
    fn pressure_of_the_own_cgroup_goes_first() {
        let tree = ProcTree::unified();
        for file in [
            "sys/fs/cgroup/app/memory.pressure",
            "sys/fs/cgroup/app/memory.events",
            "proc/pressure/memory",
        ] {
            tree.write(file, "");
        }
        let (found, note) = detected(&tree);
        assert!(found);
        assert_eq!(
            note,
            "memory pressure: watched by /sys/fs/cgroup/app/memory.pressure (some 70ms, full \
             700ms in 1s)"
        );
        // The file has the last text that was written to it.
        let told = std::fs::read(tree.path("sys/fs/cgroup/app/memory.pressure")).unwrap();
        assert_eq!(told, b"full 700000 1000000\0");
    }

    #[test]
    fn pressure_of_the_system_goes_next() {
        let tree = ProcTree::unified();
        tree.write("sys/fs/cgroup/app/memory.events", "");
        tree.write("proc/pressure/memory", "");
        let (found, note) = detected(&tree);
        assert!(found);
        assert_eq!(
            note,
            "memory pressure: watched by /proc/pressure/memory (some 70ms, full 700ms in 1s); \
             not by /sys/fs/cgroup/app/memory.pressure: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn events_of_the_own_cgroup_go_last() {
        let tree = ProcTree::unified();
        tree.write("sys/fs/cgroup/app/memory.events", "");
        // It cannot be opened.
        tree.write("proc/pressure/memory/directory", "");
        let (found, note) = detected(&tree);
        assert!(found);
        let by = "memory pressure: watched by /sys/fs/cgroup/app/memory.events (high and max are \
                  moderate, oom and oom_kill critical); not by ";
        assert!(note.starts_with(by), "{note}");
        let why = "/proc/pressure/memory: Is a directory (os error 21)";
        assert!(note.ends_with(why), "{note}");
    }

    #[test]
    fn note_says_why_nothing_is_watched() {
        let tree = ProcTree::new("0::/\n", &[]);
        let (found, note) = detected(&tree);
        assert!(!found);
        assert_eq!(
            note,
            "memory pressure: not watched: no cgroup v2 memory.pressure; /proc/pressure/memory: \
             No such file or directory (os error 2); no cgroup v2 memory.events; the budget alone \
             limits regions"
        );
    }
}
