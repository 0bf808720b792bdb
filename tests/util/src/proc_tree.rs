//! Made-up trees of `/proc` and cgroups, for tests.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

/// A directory with a made-up `/proc` and file systems of cgroups, until it is dropped.
#[derive(Debug)]
pub struct ProcTree(TempDir);

/// A mount: the root within the file system, the mount point, the kind and the options.
type MountRow<'a> = (&'a str, &'a str, &'a str, &'a str);

impl ProcTree {
    /// Creates the tree of a process in these cgroups, given as `/proc/self/cgroup` lists them.
    ///
    /// # Panics
    ///
    /// Panics if the directory cannot be written to, as all functions here.
    #[must_use]
    pub fn new(cgroup: &str, mounts: &[MountRow<'_>]) -> ProcTree {
        let tree = ProcTree(TempDir::new().unwrap());
        tree.write("proc/self/cgroup", cgroup);
        let mut text = String::from("22 1 0:20 / / rw - ext4 /dev/root rw\n");
        for (root, point, kind, options) in mounts {
            let point = tree.path(point);
            fs::create_dir_all(&point).unwrap();
            let point = point.to_str().unwrap().replace(' ', "\\040");
            text +=
                &format!("31 23 0:28 {root} {point} rw,relatime shared:9 - {kind} x {options}\n");
        }
        tree.write("proc/self/mountinfo", &text);
        tree
    }

    /// Creates a tree with one cgroup v2, at `sys/fs/cgroup/app`, and nothing else.
    #[must_use]
    pub fn unified() -> ProcTree {
        let tree = ProcTree::new("0::/app\n", &[("/", "sys/fs/cgroup", "cgroup2", "rw")]);
        tree.write("sys/fs/cgroup/app/cgroup.procs", "");
        tree
    }

    /// Returns the real path of a path in the tree.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Returns the real path of the made-up `/proc`.
    #[must_use]
    pub fn proc(&self) -> PathBuf {
        self.path("proc")
    }

    /// Writes a file, and creates the directories that it is in.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
