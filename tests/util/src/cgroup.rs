//! Memory cgroups: to run a process with little memory, and to have the kernel see
//! that it is short of it.
//!
//! Making one takes a right that root has, and that others have where somebody gave
//! it to them. What is made goes with the object.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, Write};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Set where this program is the process that stalls.
const STALLING: &str = "TOMBOLO_TEST_STALLS";

/// Set where this program is the process that fills a cgroup: the file that tells of its
/// use of memory, and up to which use.
const FILLING: &str = "TOMBOLO_TEST_FILLS";

/// What it says when it is done.
const FILLED: &str = "filled";

/// By so much the use of memory falls when somebody gives memory back.
const GIVEN_BACK: u64 = 16 << 20;

/// A memory cgroup, which goes when this does.
///
/// There are two kinds. The first one limits memory and knows nothing of pressure; then
/// there is one of the second kind beside it, if there can be, for that.
#[derive(Debug)]
pub struct Group {
    /// The one with the limit.
    memory: PathBuf,
    /// The one of the second kind, if it is another.
    beside: Option<PathBuf>,
}

/// Where the cgroups of a hierarchy are made: below this process's own, or else below
/// the uppermost that there is.
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
    /// Makes one, without a limit yet.
    ///
    /// # Panics
    ///
    /// Where none can be made: what needs one cannot be tested then.
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
            "this test needs a memory cgroup, and none can be made here: {}\n\
             hint: run it as root, where the file systems of cgroups can be written",
            match refused.is_empty() {
                true => "there is no hierarchy with the controller `memory`".to_owned(),
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

    /// Limits its memory to so many bytes: what goes over it is killed.
    pub fn limit(&self, bytes: u64) {
        match self.is_first_kind() {
            true => self.write("memory.limit_in_bytes", &bytes.to_string()),
            false => self.write("memory.max", &bytes.to_string()),
        }
    }

    /// Limits its memory to so many bytes: what goes over it waits for memory, and
    /// nobody is killed.
    pub fn stall_at(&self, bytes: u64) {
        match self.is_first_kind() {
            true => {
                self.limit(bytes);
                self.write("memory.oom_control", "1");
            }
            false => self.write("memory.high", &bytes.to_string()),
        }
    }

    /// The directory in which its memory is limited.
    pub fn directory(&self) -> &Path {
        &self.memory
    }

    /// The file in which the kernel says how much memory it uses.
    pub fn usage(&self) -> PathBuf {
        match self.is_first_kind() {
            true => self.memory.join("memory.usage_in_bytes"),
            false => self.memory.join("memory.current"),
        }
    }

    /// What the kernel counted under a name.
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

    /// How many processes of it were killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        match self.is_first_kind() {
            true => self.counted("memory.oom_control", "oom_kill "),
            false => self.counted("memory.events", "oom_kill "),
        }
    }

    /// How often it met its limit.
    pub fn hits(&self) -> u64 {
        match self.is_first_kind() {
            true => self.counted("memory.failcnt", ""),
            false => self.counted("memory.events", "max "),
        }
    }

    /// A command that is in the cgroup from its first page on.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let beside = self.beside.as_deref();
        enter(&[Some(&*self.memory), beside], program)
    }

    /// A command of whose pressure the kernel says what it says of this cgroup's. It
    /// has all the memory that there is, where the kernel lets one do that.
    pub fn command_beside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.beside {
            Some(beside) => enter(&[Some(beside)], program),
            None => self.command(program),
        }
    }

    /// The file in which the kernel says how its processes wait for memory.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn pressure(&self) -> PathBuf {
        let path = self.beside.as_ref().unwrap_or(&self.memory);
        let path = path.join("memory.pressure");
        assert!(
            path.exists(),
            "this test needs pressure-stall information of cgroups, and there is no {}\n\
             hint: mount cgroup2, and boot with `psi=1`",
            path.display()
        );
        path
    }
}

/// A shell, so that there is a process before there is the program.
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
            // What was in it has just ended, and may take a moment to be gone.
            let gone = (0..100).any(|_| {
                let gone = fs::remove_dir(path).is_ok();
                if !gone {
                    std::thread::sleep(Duration::from_millis(10));
                }
                gone
            });
            if !gone {
                eprintln!("{} stays behind", path.display());
            }
        }
    }
}

/// A process that waits for memory nearly all the time; killed when this goes.
#[derive(Debug)]
pub struct Stalling(Child);

impl Drop for Stalling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stalling {
    /// Has the cgroup stall at a few megabytes, and this program run once more in it: to
    /// do a test of this name alone, which first of all calls
    /// [`stall_if_told`].
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

/// Stalls, where this is the process for that, until it is killed: it fills a file in
/// memory, and there is no more memory. The kernel looks for some each time.
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
    // Not for longer than the test, however that ends.
    let parent = parent_id();
    while parent_id() == parent {
        // Where there is no memory, the first kind says so and the second has it wait.
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

/// A process that fills its cgroup and stays; killed when this goes.
#[derive(Debug)]
pub struct Filling(Child);

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Filling {
    /// Runs this program once more in the cgroup, to do a test of this name alone, which
    /// first of all calls [`fill_if_told`]. It takes memory until the cgroup uses so many
    /// bytes, or somebody else gives some back; this returns then.
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

/// Fills the cgroup, where this is the process for that, until it is killed.
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
    while now < most && now + GIVEN_BACK > peak {
        blocks.push(vec![1_u8; STEP]);
        peak = peak.max(now);
        now = used();
    }
    // Past what captures the output of tests.
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{FILLED}").expect("the test reads it");
    // Not for longer than the test, however that ends.
    while parent_id() == parent {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::process::exit(i32::from(blocks.is_empty()));
}
