//! Memory cgroups, to run processes with little memory and to cause memory pressure.
//!
//! Creating one needs root, or a delegated cgroup. Dropping the object removes it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, Write};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An environment variable that is set in the process that stalls.
const STALLING: &str = "TOMBOLO_TEST_STALLS";

/// An environment variable that is set in the process that fills a cgroup: the bytes to
/// use, and the file in which the kernel reports the use.
const FILLING: &str = "TOMBOLO_TEST_FILLS";

/// The line that this process prints when it is done.
const FILLED: &str = "filled";

/// A fall of the used memory, in bytes, that means that another process freed memory.
const FREED: u64 = 16 << 20;

/// A memory cgroup, which is removed when this is dropped.
///
/// There are two versions. Version 1 limits memory and reports no pressure. With it, a
/// cgroup of version 2 is created too, if possible, for the pressure.
#[derive(Debug)]
pub struct Group {
    /// The cgroup with the limit.
    memory: PathBuf,
    /// The cgroup of version 2, if it is another one.
    beside: Option<PathBuf>,
}

/// Returns the directories below which a cgroup of a hierarchy can be created: first this
/// process's own cgroup, then the root.
fn parents(kind: &str, has_memory: bool) -> Vec<PathBuf> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    let mount = mounts.lines().find_map(|line| {
        let (place, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let is_kind = system.next() == Some(kind);
        let options = system.next_back()?;
        let memory = options.split(',').any(|it| it == "memory");
        (is_kind && memory == has_memory).then(|| place.split(' ').nth(4))?
    });
    let Some(mount) = mount.map(Path::new) else {
        return Vec::new();
    };
    let cgroups = read("/proc/self/cgroup");
    let own = cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match has_memory {
            true => controllers.split(',').any(|it| it == "memory"),
            false => controllers.is_empty(),
        };
        is_it.then_some(path)
    });
    let own = own.map(|path| mount.join(path.trim_start_matches('/')));
    let all = own.into_iter().chain([mount.to_owned()]);
    all.filter(|it| it.is_dir()).collect()
}

fn make_in(parent: &Path, name: &str) -> Result<PathBuf, String> {
    let path = parent.join(name);
    match fs::create_dir(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

impl Group {
    /// Creates a cgroup without a limit.
    ///
    /// # Panics
    ///
    /// Panics if none can be created, because the test needs it.
    pub fn make(name: &str) -> Group {
        let name = format!("tombolo-{name}-{}", std::process::id());
        let mut refused = Vec::new();
        for parent in parents("cgroup", true) {
            match make_in(&parent, &name) {
                Ok(memory) => {
                    let mut beside = parents("cgroup2", false).into_iter();
                    let beside = beside.find_map(|parent| make_in(&parent, &name).ok());
                    return Group { memory, beside };
                }
                Err(why) => refused.push(why),
            }
        }
        for parent in parents("cgroup2", false) {
            match make_in(&parent, &name) {
                Ok(memory) => {
                    let group = Group {
                        memory,
                        beside: None,
                    };
                    let there = || group.memory.join("memory.max").exists();
                    let control = parent.join("cgroup.subtree_control");
                    match there() {
                        true => return group,
                        false => match fs::write(&control, "+memory") {
                            Ok(()) if there() => return group,
                            Ok(()) => refused.push(format!("{}: no use", control.display())),
                            Err(error) => refused.push(format!("{}: {error}", control.display())),
                        },
                    }
                }
                Err(why) => refused.push(why),
            }
        }
        panic!(
            "this test needs a memory cgroup, and none can be created: {}\n\
             hint: run it as root, with writable cgroup file systems",
            match refused.is_empty() {
                true => "no hierarchy has the controller `memory`".to_owned(),
                false => refused.join("; "),
            }
        )
    }

    fn is_first_kind(&self) -> bool {
        self.memory.join("memory.limit_in_bytes").exists()
    }

    fn write(&self, file: &str, value: &str) {
        let path = self.memory.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Sets the limit in bytes. The kernel kills a process that exceeds it.
    pub fn limit(&self, bytes: u64) {
        match self.is_first_kind() {
            true => self.write("memory.limit_in_bytes", &bytes.to_string()),
            false => self.write("memory.max", &bytes.to_string()),
        }
    }

    /// Sets a limit in bytes at which processes wait for memory. None is killed.
    pub fn stall_at(&self, bytes: u64) {
        match self.is_first_kind() {
            true => {
                self.limit(bytes);
                self.write("memory.oom_control", "1");
            }
            false => self.write("memory.high", &bytes.to_string()),
        }
    }

    /// Returns the directory with the limit.
    pub fn directory(&self) -> &Path {
        &self.memory
    }

    /// Returns the file in which the kernel reports the used memory.
    pub fn usage(&self) -> PathBuf {
        match self.is_first_kind() {
            true => self.memory.join("memory.usage_in_bytes"),
            false => self.memory.join("memory.current"),
        }
    }

    /// Returns a count of the kernel by its name.
    fn counted(&self, file: &str, name: &str) -> u64 {
        let path = self.memory.join(file);
        let text = fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let count = text.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.trim();
            value.parse().ok()
        });
        count.unwrap_or_else(|| panic!("no `{name}` in {}: {text}", path.display()))
    }

    /// Returns the number of processes that the kernel killed for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        match self.is_first_kind() {
            true => self.counted("memory.oom_control", "oom_kill "),
            false => self.counted("memory.events", "oom_kill "),
        }
    }

    /// Returns how often the cgroup reached its limit.
    pub fn hits(&self) -> u64 {
        match self.is_first_kind() {
            true => self.counted("memory.failcnt", ""),
            false => self.counted("memory.events", "max "),
        }
    }

    /// Returns a command that runs in the cgroup from its first page on.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let beside = self.beside.as_deref();
        enter(&[Some(&*self.memory), beside], program)
    }

    /// Returns a command that is subject to the pressure of this cgroup. With two versions
    /// it is not subject to the limit.
    pub fn command_beside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.beside {
            Some(beside) => enter(&[Some(beside)], program),
            None => self.command(program),
        }
    }

    /// Returns the file in which the kernel reports pressure.
    ///
    /// # Panics
    ///
    /// Panics if the kernel reports no pressure of cgroups.
    pub fn pressure(&self) -> PathBuf {
        let path = self.beside.as_ref().unwrap_or(&self.memory);
        let path = path.join("memory.pressure");
        assert!(
            path.exists(),
            "this test needs pressure stall information of cgroups, but {} does not exist\n\
             hint: mount cgroup2, and boot with `psi=1`",
            path.display()
        );
        path
    }
}

/// Returns a command that enters the cgroups in a shell and then becomes the program.
fn enter(groups: &[Option<&Path>], program: impl AsRef<std::ffi::OsStr>) -> Command {
    let script = r#"
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done
shift
exec "$@""#;
    let mut command = Command::new("sh");
    command.args(["-euc", script, "sh"]);
    command.args(groups.iter().flatten());
    command.arg("--").arg(program);
    command
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in self.beside.iter().chain([&self.memory]) {
            // The kernel may still be removing a process that has just ended.
            let gone = (0..100).any(|_| {
                let gone = fs::remove_dir(path).is_ok();
                if !gone {
                    std::thread::sleep(Duration::from_millis(10));
                }
                gone
            });
            if !gone {
                eprintln!("cannot remove {}", path.display());
            }
        }
    }
}

/// A process that waits for memory most of the time. It is killed when this is dropped.
#[derive(Debug)]
pub struct Stalling(Child);

impl Drop for Stalling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stalling {
    /// Limits the cgroup to a few megabytes, and runs the test of this name in it, in a new
    /// process. The test must first call [`stall_if_told`].
    pub fn start(group: &Group, test: &str) -> Stalling {
        const LIMIT: u64 = 32 << 20;
        group.stall_at(LIMIT);
        let child = group
            .command(std::env::current_exe().expect("there is one"))
            .args([test, "--exact", "--include-ignored"])
            .env(STALLING, "yes")
            .stdout(Stdio::null())
            .spawn();
        Stalling(child.expect("there is a shell"))
    }
}

/// If this is the process that stalls, stalls until it is killed: it writes to a file in
/// memory beyond the limit, so that the kernel reclaims memory each time.
pub fn stall_if_told() {
    const FILE: u64 = 64 << 20;
    if std::env::var_os(STALLING).is_none() {
        return;
    }
    let path = PathBuf::from(format!("/dev/shm/tombolo-stalls-{}", std::process::id()));
    let mut file = File::create_new(&path).expect("there is a file system in memory");
    fs::remove_file(path).expect("it was just made");
    let bytes = [1; 1 << 16];
    let mut written = 0;
    // The process ends with its parent, however that ends.
    let parent = parent_id();
    while parent_id() == parent {
        // Without memory, version 1 fails the write and version 2 makes it wait.
        if file.write_all(&bytes).is_ok() {
            written += bytes.len() as u64;
        }
        if written > FILE {
            file.set_len(0).expect("it is ours");
            file.rewind().expect("it is ours");
            written = 0;
        }
    }
    std::process::exit(1);
}

/// A process that fills its cgroup and stays. It is killed when this is dropped.
#[derive(Debug)]
pub struct Filling(Child);

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Filling {
    /// Runs the test of this name in the cgroup, in a new process. The test must first call
    /// [`fill_if_told`]. Returns when the cgroup uses `bytes` bytes, or another process
    /// freed memory.
    pub fn start(group: &Group, test: &str, bytes: u64) -> Filling {
        let child = group
            .command(std::env::current_exe().expect("there is one"))
            .args([test, "--exact", "--include-ignored"])
            .env(FILLING, format!("{bytes} {}", group.usage().display()))
            .stdout(Stdio::piped())
            .spawn();
        let mut filling = Filling(child.expect("there is a shell"));
        let lines = BufReader::new(filling.0.stdout.take().expect("it is piped")).lines();
        let full = lines
            .map_while(Result::ok)
            .any(|line| line.ends_with(FILLED));
        assert!(full, "the process that fills the cgroup ended");
        filling
    }
}

/// If this is the process that fills the cgroup, fills it and waits until it is killed.
pub fn fill_if_told() {
    const STEP: usize = 1 << 18;
    let Ok(told) = std::env::var(FILLING) else {
        return;
    };
    let (bytes, usage) = told.split_once(' ').expect("a number and a file");
    let most: u64 = bytes.parse().expect("a number");
    let used = || -> u64 {
        let text = fs::read_to_string(usage).expect("it can be read");
        text.trim().parse().expect("it is a number")
    };
    let mut blocks = Vec::new();
    let parent = parent_id();
    let (mut now, mut peak) = (used(), 0);
    while now < most && now + FREED > peak {
        blocks.push(vec![1_u8; STEP]);
        peak = peak.max(now);
        now = used();
    }
    // The test harness does not capture this.
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{FILLED}").expect("the test reads it");
    // The process ends with its parent, however that ends.
    while parent_id() == parent {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::process::exit(i32::from(blocks.is_empty()));
}
