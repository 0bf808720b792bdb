//! A killed program leaves nothing behind.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use tombolo_test_util::child::{Running, until};
use tombolo_test_util::process::Process;
use tombolo_test_util::three_guests;

const MIB: u64 = 1 << 20;

/// Returns the shared memory of the whole system, in bytes.
fn shared_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Shmem:"));
    let size = line.and_then(|it| it.trim().strip_suffix(" kB")).unwrap();
    size.parse::<u64>().unwrap() * 1024
}

/// Returns the files of named shared memory.
fn shared_files() -> BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir("/dev/shm").into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test] // rule 6
fn killed_host_leaves_no_memory_and_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let guests = three_guests::write(dir.path());
    let files = shared_files();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command
        .arg("run")
        .args(&guests)
        .args(["--", "hold-much"])
        .current_dir(dir.path())
        .stdout(Stdio::null());
    let mut running = Running::start(&mut command);
    let process = Process::of(running.0.id());
    let is_shown = || {
        let mappings = process.mappings().unwrap_or_default();
        // The lender's window and the borrower's.
        mappings.iter().filter(|it| it.memfd().is_some()).count() >= 2
    };
    until("both guests have windows", is_shown);
    assert_eq!(running.status(), None, "it is still running");
    let memfds = process.descriptors().unwrap();
    assert!(memfds.iter().any(|it| it.memfd().is_some()));
    let held = shared_memory();
    assert!(held >= 128 * MIB, "{held}");

    running.0.kill().unwrap();
    let status = running.wait();
    assert_eq!(status.code(), None, "a signal ended it");
    // Other processes use shared memory as well, but less.
    until("its memory is freed", || shared_memory() + 100 * MIB < held);
    let mut left = shared_files();
    left.retain(|file| !files.contains(file) && file.to_string_lossy().contains("tombolo"));
    assert!(left.is_empty(), "{left:?}");
    // Its directory has only the guests.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), guests.len());
}
