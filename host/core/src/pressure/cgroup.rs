//! The cgroup of this process, and its limits.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The smallest number by which cgroups v1 mean no limit. The kernel writes the largest number
/// of whole pages in 63 bits.
pub(super) const UNLIMITED: u64 = 1 << 62;

/// The cgroup of this process, as far as the process can see it.
///
/// There are two versions of cgroups, and a process can be in one of each. Systems with both
/// keep the limit of memory in v1, and the pressure in v2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroup {
    unified: Option<MountedDirectory>,
    /// The v1 cgroup with the controller `memory`.
    memory: Option<MountedDirectory>,
}

/// A version of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hierarchy {
    First,
    Second,
}

/// A cgroup's directory, in the mount where it is visible.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MountedDirectory {
    mount: PathBuf,
    directory: PathBuf,
}

impl Cgroup {
    /// Finds the cgroup of this process. Reads two files in `/proc`.
    #[must_use]
    pub fn of_this_process() -> Cgroup {
        Cgroup::find(Path::new("/proc"))
    }

    /// Does the same for another `/proc`.
    pub(crate) fn find(proc: &Path) -> Cgroup {
        let read = |file| fs::read_to_string(proc.join(file)).unwrap_or_default();
        let (paths, mounts) = (read("self/cgroup"), read("self/mountinfo"));
        // Each line is `number:controllers:path`. Version 2 has the number 0 and no controllers.
        let mut cgroup = Cgroup::default();
        for line in paths.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if number == "0" && controllers.is_empty() {
                cgroup.unified = place(&mounts, Path::new(path), |mount| mount.kind == "cgroup2");
            } else if controllers.split(',').any(|it| it == "memory") {
                cgroup.memory = place(&mounts, Path::new(path), |mount| {
                    mount.kind == "cgroup" && mount.options.split(',').any(|it| it == "memory")
                });
            }
        }
        cgroup
    }

    /// Returns the directory of the cgroup v2.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.unified.as_ref().map(|place| &*place.directory)
    }

    /// Returns the directories of the cgroups that may limit the memory of the process, for each
    /// version from its own cgroup upwards.
    pub(super) fn levels(&self) -> impl Iterator<Item = (Hierarchy, PathBuf)> {
        let of = |hierarchy, place: &Option<MountedDirectory>| {
            let place = place.clone();
            let all: Vec<PathBuf> = place.iter().flat_map(MountedDirectory::upwards).collect();
            all.into_iter().map(move |directory| (hierarchy, directory))
        };
        of(Hierarchy::Second, &self.unified).chain(of(Hierarchy::First, &self.memory))
    }

    /// Returns the memory that the process may use, together with all others in its cgroup: the
    /// smallest limit on the way from it to the root. `None` for no limit.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        let unified = self
            .unified
            .as_ref()
            .and_then(|place| place.smallest("memory.max"));
        let memory = self
            .memory
            .as_ref()
            .and_then(|place| place.smallest("memory.limit_in_bytes"))
            .filter(|limit| *limit < UNLIMITED);
        unified.into_iter().chain(memory).min()
    }
}

impl MountedDirectory {
    /// Returns the cgroup's directory and those above it.
    fn upwards(&self) -> impl Iterator<Item = PathBuf> {
        let all = self.directory.ancestors();
        all.take_while(|directory| directory.starts_with(&self.mount))
            .map(Path::to_owned)
    }

    /// Returns the smallest number in the files of this name, from the cgroup upwards. A word, such
    /// as `max`, does not count.
    fn smallest(&self, file: &str) -> Option<u64> {
        self.upwards()
            .filter_map(|directory| fs::read_to_string(directory.join(file)).ok())
            .filter_map(|text| text.trim().parse().ok())
            .min()
    }
}

/// A line of `mountinfo`.
struct Mount<'a> {
    /// The directory of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        Some(Mount {
            root: unescape(root),
            point: unescape(point),
            kind: after.next()?,
            options: after.nth(1)?,
        })
    }
}

/// Finds the directory of the cgroup `path` in one of the mounts that `fit`.
fn place(mounts: &str, path: &Path, fit: impl Fn(&Mount<'_>) -> bool) -> Option<MountedDirectory> {
    mounts
        .lines()
        .filter_map(Mount::parse)
        .filter(fit)
        .find_map(|mount| {
            // A path that leads out of the process's own namespace has `..`.
            let below = path.strip_prefix(&mount.root).ok()?;
            if below.components().any(|it| it == Component::ParentDir) {
                return None;
            }
            let directory: PathBuf = mount.point.join(below).components().collect();
            directory.is_dir().then_some(MountedDirectory {
                mount: mount.point,
                directory,
            })
        })
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), after),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo_test_util::proc_tree::ProcTree;

    fn limit(tree: &ProcTree) -> Option<u64> {
        Cgroup::find(&tree.proc()).memory_limit()
    }

    fn directory(tree: &ProcTree) -> Option<PathBuf> {
        Cgroup::find(&tree.proc()).directory().map(Path::to_owned)
    }

    #[test]
    fn smallest_limit_on_the_way_to_the_root_counts() {
        let tree = ProcTree::new(
            "0::/slice/app/part\n",
            &[("/", "sys/fs/cgroup", "cgroup2", "rw,nsdelegate")],
        );
        tree.write("sys/fs/cgroup/slice/app/part/memory.max", "max\n");
        assert_eq!(limit(&tree), None);
        tree.write("sys/fs/cgroup/slice/app/memory.max", "3000\n");
        assert_eq!(limit(&tree), Some(3000));
        tree.write("sys/fs/cgroup/slice/memory.max", "2000\n");
        assert_eq!(limit(&tree), Some(2000));
        tree.write("sys/fs/cgroup/slice/app/part/memory.max", "1000\n");
        assert_eq!(limit(&tree), Some(1000));
        // Not a cgroup: above the mount.
        tree.write("sys/fs/memory.max", "1\n");
        assert_eq!(limit(&tree), Some(1000));
    }

    #[test]
    fn cgroup_is_found_wherever_it_is_mounted() {
        let tree = ProcTree::new("0::/app\n", &[("/", "sys/fs/my cgroup", "cgroup2", "rw")]);
        tree.write("sys/fs/my cgroup/app/memory.max", "4096\n");
        assert_eq!(directory(&tree), Some(tree.path("sys/fs/my cgroup/app")));
        assert_eq!(limit(&tree), Some(4096));
    }

    #[test]
    fn cgroup_is_found_where_only_a_part_is_mounted() {
        let tree = ProcTree::new(
            "0::/pods/one/app\n",
            &[
                ("/pods/two", "other", "cgroup2", "rw"),
                ("/pods/one", "mine", "cgroup2", "rw"),
            ],
        );
        tree.write("mine/app/memory.max", "77\n");
        assert_eq!(directory(&tree), Some(tree.path("mine/app")));
        assert_eq!(limit(&tree), Some(77));
    }

    #[test]
    fn cgroup_that_cannot_be_seen_is_none() {
        for path in ["/../elsewhere", "/not/there"] {
            let tree = ProcTree::new(
                &format!("0::{path}\n"),
                &[("/", "sys/fs/cgroup", "cgroup2", "rw")],
            );
            tree.write("sys/fs/elsewhere/memory.max", "5\n");
            assert_eq!(Cgroup::find(&tree.proc()), Cgroup::default(), "{path}");
        }
        let nowhere = Cgroup::find(Path::new("/there/is/nothing"));
        assert_eq!(nowhere, Cgroup::default());
        assert_eq!(nowhere.memory_limit(), None);
    }

    #[test]
    fn limit_is_that_of_v1_if_it_has_the_controller() {
        let tree = ProcTree::new(
            "9:name=systemd:/\n4:hugetlb,memory:/box/app\n3:cpuset:/\n0::/\n",
            &[
                ("/", "sys/fs/cgroup/cpuset", "cgroup", "rw,cpuset"),
                ("/", "sys/fs/cgroup/memory", "cgroup", "rw,hugetlb,memory"),
                ("/", "sys/fs/cgroup/unified", "cgroup2", "rw"),
            ],
        );
        let write = |group: &str, limit: &str| {
            let file = "memory.limit_in_bytes";
            tree.write(&format!("sys/fs/cgroup/memory/{group}{file}"), limit);
        };
        write("", "9223372036854771712\n");
        write("box/app/", "9223372036854771712\n");
        assert_eq!(limit(&tree), None);
        write("box/", "1048576\n");
        assert_eq!(limit(&tree), Some(1_048_576));
        assert_eq!(directory(&tree), Some(tree.path("sys/fs/cgroup/unified")));
    }
}
