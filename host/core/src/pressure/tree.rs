//! Made-up trees of `/proc` and cgroups, for tests.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

pub(crate) struct Tree(TempDir);

/// A mount: the root within the file system, the mount point, the kind and the options.
type MountRow<'a> = (&'a str, &'a str, &'a str, &'a str);

impl Tree {
    /// A process in the cgroups that `cgroup` says, as `/proc/self/cgroup` does.
    pub(crate) fn new(cgroup: &str, mounts: &[MountRow<'_>]) -> Tree {
        let tree = Tree(TempDir::new().unwrap());
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

    /// One cgroup v2, at `sys/fs/cgroup/app`, and nothing else.
    pub(crate) fn unified() -> Tree {
        let tree = Tree::new("0::/app\n", &[("/", "sys/fs/cgroup", "cgroup2", "rw")]);
        tree.write("sys/fs/cgroup/app/cgroup.procs", "");
        tree
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn proc(&self) -> PathBuf {
        self.path("proc")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
