//! What the program leaves behind when it is killed: nothing.

#[path = "../../../tests/tests/calls/trio.rs"]
mod trio;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tombolo_tests::process::Process;

const MIB: u64 = 1 << 20;

/// A program that is killed at the latest when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something that happens outside of this process.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::yield_now();
    }
}

/// Shared memory of the whole system, in bytes.
fn shared_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Shmem:"));
    let size = line.and_then(|it| it.trim().strip_suffix(" kB")).unwrap();
    size.parse::<u64>().unwrap() * 1024
}

/// The files that shared memory by name would leave.
fn shared_files() -> BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir("/dev/shm").into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn killed_host_leaves_no_memory_and_no_files_behind() {
    let dir = tempfile::tempdir().unwrap();
    let guests = [trio::client(), trio::near(), trio::far()].map(|guest| {
        let path = dir.path().join(format!("{}.wasm", guest.name));
        std::fs::write(&path, guest.wasm).unwrap();
        path
    });
    let files = shared_files();
    let child = Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .arg("run")
        .args(&guests)
        .args(["--", "hold-much"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let process = Process::of(child.0.id());
    let is_shown = || {
        let mappings = process.mappings().unwrap_or_default();
        // The lender's window and the borrower's.
        mappings.iter().filter(|it| it.memfd().is_some()).count() >= 2
    };
    until("both guests have windows", is_shown);
    assert_eq!(child.0.try_wait().unwrap(), None, "it is at it");
    let memfds = process.descriptors().unwrap();
    assert!(memfds.iter().any(|it| it.memfd().is_some()));
    let held = shared_memory();
    assert!(held >= 128 * MIB, "{held}");

    child.0.kill().unwrap();
    let status = child.0.wait().unwrap();
    assert_eq!(status.code(), None, "a signal ended it");
    // Others on this machine use shared memory as well, but not as much.
    until("its memory is back", || shared_memory() + 100 * MIB < held);
    let mut left = shared_files();
    left.retain(|file| !files.contains(file) && file.to_string_lossy().contains("tombolo"));
    assert!(left.is_empty(), "{left:?}");
    // What it leaves in its directory is what we put there.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), guests.len());
}
