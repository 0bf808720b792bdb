//! The kernel's own word: a process in a cgroup with too little memory makes it
//! stall, and a guest hears of that.
//!
//! That takes the right to make a memory cgroup of the first kind, as root has
//! where such a hierarchy is mounted. Where it cannot be made, the test says why,
//! and does nothing.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tombolo::app::{App, CommandSpec, End};
use tombolo::pressure::{Level, PressureSink, PressureSource, Psi, Thresholds};

use crate::guests;
use crate::trio::{program, strand};

const MIB: u64 = 1 << 20;

/// What the process that stalls may have, and the file that it reads over and
/// over.
const LIMIT: u64 = 32 * MIB;
const FILE: u64 = 128 * MIB;

/// Set where this program is the process that stalls.
const STALLING: &str = "TOMBOLO_TEST_STALLS";

const NAME: &str = "kernel::stall_that_the_kernel_sees_is_heard_by_a_guest";

/// A memory cgroup below this process's own, which goes when this does.
struct Group(PathBuf);

impl Group {
    fn make() -> Result<Group, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.strip_prefix("memory:/")
        });
        let own = own.ok_or("no hierarchy of cgroups has the controller `memory` alone")?;
        let path = Path::new("/sys/fs/cgroup/memory")
            .join(own)
            .join(format!("tombolo-stalls-{}", std::process::id()));
        let about = |error| format!("{}: {error}", path.display());
        fs::create_dir(&path).map_err(about)?;
        let group = Group(path.clone());
        let limit = group.0.join("memory.limit_in_bytes");
        fs::write(limit, LIMIT.to_string()).map_err(about)?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it has just ended, and may take a moment to be gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} stays behind", self.0.display());
    }
}

/// A process that is killed when the test ends; and then its file goes.
struct Stalling(Child, PathBuf);

impl Drop for Stalling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_file(&self.1);
    }
}

/// Reads a file that does not fit into its memory, until it is killed. It writes
/// that itself, since memory is counted for whoever touched it first.
fn stall(path: &Path) -> ! {
    let mut file = File::create_new(path).unwrap();
    let mut bytes = vec![1; 1 << 20];
    (0..FILE / MIB).for_each(|_| file.write_all(&bytes).unwrap());
    file.sync_all().unwrap();
    let mut file = File::open(path).unwrap();
    loop {
        file.seek(SeekFrom::Start(0)).unwrap();
        while file.read(&mut bytes).unwrap() > 0 {}
    }
}

/// Has such a process run, in the cgroup from its first page on.
fn start_stalling(group: &Group) -> Stalling {
    let name = format!("stalls-{}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // A shell, so that there is a process before there is this program.
    let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(&group.0)
        .arg(std::env::current_exe().unwrap())
        .args([NAME, "--exact"])
        .env(STALLING, &path)
        .stdout(Stdio::null())
        .spawn();
    Stalling(child.unwrap(), path)
}

/// A source that notes what it reports.
struct Noting(Psi, Arc<Mutex<Vec<Level>>>);

impl PressureSource for Noting {
    fn name(&self) -> String {
        self.0.name()
    }

    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
        let Noting(psi, levels) = *self;
        let sink = PressureSink::new(move |level| {
            levels.lock().unwrap().push(level);
            sink.report(level);
        });
        Box::new(psi).start(sink)
    }
}

#[test]
fn stall_that_the_kernel_sees_is_heard_by_a_guest() {
    if let Some(path) = std::env::var_os(STALLING) {
        stall(Path::new(&path));
    }
    let group = match Group::make() {
        Ok(group) => group,
        Err(why) => return println!("skipped: no memory cgroup can be made here: {why}"),
    };
    // A fast disk makes for short stalls.
    let mut thresholds = Thresholds::default();
    thresholds.some = Duration::from_millis(10);
    let psi = Psi::open("/proc/pressure/memory", thresholds);
    let psi = psi.expect("who may make cgroups may ask for pressure");
    let levels = Arc::new(Mutex::new(Vec::new()));
    let outcome = strand().block_on(async {
        let command = CommandSpec {
            args: vec!["any".into()],
            ..CommandSpec::default()
        };
        let app = App::builder()
            .command(command)
            .guest(program("cache of the kernel's", guests::PRESSURE_CACHE))
            .pressure(Noting(psi, levels.clone()));
        let app = app.start().await.unwrap();
        let host = app.host().clone();
        let stalling = async {
            crate::signs(&host, 2).await;
            start_stalling(&group)
        };
        let both = async { tokio::join!(app.run(), stalling) };
        let both = tokio::time::timeout(Duration::from_secs(120), both);
        both.await.expect("the kernel says something").0
    });
    drop(group);
    assert_eq!(outcome.end, End::Exit(0), "{:?}", outcome.failures);
    assert!(outcome.report.budget.purged > 0);
    let levels = levels.lock().unwrap();
    assert!(levels.iter().any(|it| *it > Level::Normal), "{levels:?}");
    println!("the kernel reported {levels:?}");
}
