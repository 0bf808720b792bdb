//! Guests that make the host allocate.
//!
//! Each case compares the program's peak memory, as the kernel counts it, with that of the same
//! app without the attack. It fails if the difference exceeds twice the limits.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::guests;
use crate::program::{Running, assert_innocent_is_done, innocent, text, tombolo};

const MIB: u64 = 1 << 20;

/// Memory that is not the guests': threads, the compiler's caches, and memory that the allocator
/// keeps.
const NOISE: u64 = 24 * MIB;

/// Returns the peak memory of a process in bytes, or `None` if it has ended.
fn peak(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Runs the program to its end, and returns its output and its peak.
fn run(command: &mut Command) -> (Output, u64) {
    let running = Running::start(command);
    let id = running.0.id();
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        while let Some(now) = peak(id) {
            most = now.max(most);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        most
    });
    let output = running.end();
    (output, watch.join().expect("reading does not panic"))
}

/// Writes a component, given in the text format.
fn component(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name).with_extension("wasm");
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    std::fs::write(&path, wasm).expect("the directory is ours");
    path
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

/// Returns a component that instantiates a module with many globals many times.
fn with_globals(dir: &TempDir, name: &str, globals: usize, instances: usize) -> PathBuf {
    let globals = "(global (mut i64) (i64.const 0))".repeat(globals);
    let instances = "(core instance (instantiate $m))".repeat(instances);
    let text = format!("(component (core module $m {globals}) {instances})");
    component(dir, name, &text)
}

#[test] // rule 10
fn app_with_too_many_globals_is_refused_by_the_limit() {
    let dir = directory();
    let few = with_globals(&dir, "few", 100_000, 1);
    let many = with_globals(&dir, "many", 100_000, 900);
    let app = |guest: &Path| {
        let mut command = tombolo(["run", "--limit", "memory=16MiB"]);
        command.arg(innocent()).arg(guest);
        run(&mut command)
    };
    let (output, base) = app(&few);
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
    // 900 times 1.6 MB.
    let (output, most) = app(&many);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("limit `host-memory`"), "{stderr}");
    assert!(stderr.contains("guest `many`"), "{stderr}");
    assert!(most < base + NOISE, "{most} bytes, and {base} without");
}

#[test] // rule 10
fn globals_within_the_limit_are_charged_in_full() {
    let dir = directory();
    let few = with_globals(&dir, "few", 100_000, 1);
    let many = with_globals(&dir, "many", 100_000, 35);
    let app = |guest: &Path| {
        let mut command = tombolo(["run", "--limit", "memory=16MiB"]);
        command.args(["--limit", "host-memory=64MiB"]);
        command.arg(innocent()).arg(guest);
        let (output, most) = run(&mut command);
        assert!(output.status.success(), "{output:?}");
        assert_innocent_is_done(&output);
        most
    };
    let (base, most) = (app(&few), app(&many));
    assert!(
        most < base + 64 * MIB + NOISE,
        "{most} bytes, and {base} without"
    );
}

/// Runs the guest that opens directories beside the innocent one. Returns its output, and the
/// peak while they are open.
fn open_directories(files: &Path, count: &str, limit: &str) -> (Output, u64) {
    let grant = format!("{}::/files", files.display());
    let mut command = tombolo(["run", "--limit", "memory=32MiB", "--limit", limit]);
    command.args(["--dir", &grant]);
    command.arg(guests::HOSTILE_DIRECTORIES).arg(innocent());
    command.args(["--", count]).stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut stdout = BufReader::new(running.0.stdout.take().expect("it is piped"));
    let mut printed = String::new();
    // Both guests have finished their work, in either order.
    while printed.lines().count() < 2 {
        let read = stdout.read_line(&mut printed).expect("it prints text");
        assert!(read > 0, "it ended early: {printed}");
    }
    let most = peak(running.0.id()).expect("it waits for its stdin");
    drop(running.0.stdin.take());
    stdout.read_line(&mut printed).expect("it prints text");
    let mut output = running.end();
    output.stdout = printed.into_bytes();
    (output, most)
}

/// wasmtime-wasi would keep all entries of the directories, for each stream.
#[test] // rule 10
fn open_directories_are_charged_in_full() {
    let dir = directory();
    let files: u32 = 4000;
    for number in 0..files {
        File::create(dir.path().join(format!("file-with-a-name-{number}"))).expect("there is room");
    }
    let (output, base) = open_directories(dir.path(), "1", "host-memory=4MiB");
    assert!(output.status.success(), "{output:?}");
    let (output, most) = open_directories(dir.path(), "400", "host-memory=4MiB");
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
    let stdout = text(&output.stdout);
    // 4 MiB are 256 times 16 KiB, of which stdin and other streams take a few.
    let held: usize = stdout
        .lines()
        .find_map(|line| line.strip_prefix("holds ")?.split(' ').next()?.parse().ok())
        .expect("it prints how many it holds");
    assert!((200..257).contains(&held), "{stdout}");
    assert!(stdout.contains("OutOfMemory"), "{stdout}");
    assert!(
        stdout.contains(&format!("read {files} entries")),
        "{stdout}"
    );
    let stderr = text(&output.stderr);
    assert!(stderr.contains("`host-memory`"), "{stderr}");
    assert!(
        most < base + 2 * 4 * MIB + NOISE,
        "{most} bytes, and {base} without"
    );
}

/// Returns a command that calls another guest with a list of `count` numbers.
fn caller(dir: &TempDir, count: u32) -> PathBuf {
    let text = format!(
        r#"(component
  (import "test:hostile/sink" (instance $sink
    (export "take" (func (param "values" (list u16))))))
  (core module $libc
    (memory (export "memory") 160)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $libc (instantiate $libc))
  (core func $take (canon lower (func $sink "take")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $main
    (import "sink" "take" (func $take (param i32 i32)))
    (func (export "run") (result i32)
      (call $take (i32.const 0) (i32.const {count}))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "sink" (instance (export "take" (func $take))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))"#
    );
    component(dir, &format!("caller-{count}"), &text)
}

/// Returns the guest that it calls.
fn sink(dir: &TempDir) -> PathBuf {
    component(
        dir,
        "sink",
        r#"(component
  (core module $main
    (memory (export "memory") 160)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "take") (param i32 i32)))
  (core instance $main (instantiate $main))
  (func $take (param "values" (list u16))
    (canon lift (core func $main "take")
      (memory (core memory $main "memory")) (realloc (core func $main "realloc"))))
  (instance $sink (export "take" (func $take)))
  (export "test:hostile/sink" (instance $sink)))"#,
    )
}

#[test] // rule 10
fn arguments_of_calls_take_no_more_than_the_limit() {
    let dir = directory();
    let sink = sink(&dir);
    let app = |count: u32| {
        let mut command = tombolo(["run", "--limit", "memory=16MiB"]);
        command.args(["--limit", "host-memory=16MiB"]);
        command.arg(caller(&dir, count)).arg(&sink).arg(innocent());
        run(&mut command)
    };
    let (output, base) = app(1000);
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
    // wasmtime would lift these 115 MiB, and they would be copied once more.
    let (output, most) = app(3_000_000);
    assert_innocent_is_done(&output);
    assert_eq!(output.status.code(), Some(134), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("`host-memory`"), "{stderr}");
    assert!(
        most < base + 2 * 16 * MIB + NOISE,
        "{most} bytes, and {base} without"
    );
    // A list that fits once but not twice is refused before it is copied.
    let (output, _) = app(400_000);
    assert_innocent_is_done(&output);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("`host-memory`"), "{stderr}");
}

/// A kind of functions that return large lists.
struct Lists {
    params: &'static str,
    core_params: &'static str,
    arguments: &'static str,
    element: &'static str,
    /// The length of a list that fits into 16 MiB of host memory once but not twice.
    count: u32,
}

/// Lists that take 40 bytes of host memory for each element.
const OF_VALUES: Lists = Lists {
    params: "",
    core_params: "",
    arguments: "",
    element: "u16",
    count: 300_000,
};

/// Lists that are passed without conversion to dynamic values.
const OF_BYTES: Lists = Lists {
    params: r#"(param "key" (list u8))"#,
    core_params: "(param i32 i32)",
    arguments: "(i32.const 0) (i32.const 0)",
    element: "u8",
    count: 9 << 20,
};

/// Returns a guest whose `keep` returns a large list. Its `get` returns an empty list before
/// that, and the large one afterwards.
fn lists_server(dir: &TempDir, lists: &Lists) -> PathBuf {
    let Lists {
        params,
        core_params,
        element,
        count,
        ..
    } = lists;
    let lift = |name: &str| {
        format!(
            r#"(func ${name} {params} (result (list {element}))
    (canon lift (core func $main "{name}")
      (memory (core memory $main "memory")) (realloc (core func $main "realloc"))))"#
        )
    };
    let (keep, get) = (lift("keep"), lift("get"));
    let text = format!(
        r#"(component
  (core module $main
    (memory (export "memory") 160)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "keep") {core_params} (result i32)
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const {count}))
      (i32.const 0))
    (func (export "get") {core_params} (result i32) (i32.const 0)))
  (core instance $main (instantiate $main))
  {keep}
  {get}
  (instance $lists (export "keep" (func $keep)) (export "get" (func $get)))
  (export "test:hostile/lists" (instance $lists)))"#
    );
    component(dir, "server", &text)
}

/// Returns a command that calls one of the functions until it gets a large list. Its `realloc`
/// takes a number of steps, during which the host holds the list.
fn lists_client(dir: &TempDir, lists: &Lists, function: &str, steps: u32) -> PathBuf {
    let Lists {
        params,
        core_params,
        arguments,
        element,
        ..
    } = lists;
    let text = format!(
        r#"(component
  (import "test:hostile/lists" (instance $lists
    (export "{function}" (func {params} (result (list {element}))))))
  (core module $libc
    (memory (export "memory") 160)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $step i32)
      (loop $more
        (local.set $step (i32.add (local.get $step) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $step) (i32.const {steps}))))
      (i32.const 64)))
  (core instance $libc (instantiate $libc))
  (core func $call (canon lower (func $lists "{function}")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $main
    (import "libc" "memory" (memory 160))
    (import "lists" "call" (func $call {core_params} (param i32)))
    (func (export "run") (result i32)
      (loop $more
        (call $call {arguments} (i32.const 0))
        (br_if $more (i32.eqz (i32.load (i32.const 4)))))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "lists" (instance (export "call" (func $call))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))"#
    );
    component(dir, function, &text)
}

/// Runs a client that keeps a large list for a while, and another client that gets one in that
/// time.
fn keep_and_get(lists: &Lists, steps: u32, limit: &str) -> Output {
    let dir = directory();
    let manifest = dir.path().join("tombolo.toml");
    let mut file = File::create(&manifest).expect("the directory is ours");
    writeln!(
        file,
        "[guests.server]\ncomponent = {:?}\nlimits = {{ host-memory = \"16MiB\" }}\n\
         [guests.keeper]\ncomponent = {:?}\ncalls = [\"server\"]\nlimits = {{ host-memory = {limit:?} }}\n\
         [guests.getter]\ncomponent = {:?}\ncalls = [\"server\"]\n\
         [guests.innocent]\ncomponent = {:?}\n",
        lists_server(&dir, lists),
        lists_client(&dir, lists, "keep", steps),
        lists_client(&dir, lists, "get", 0),
        innocent(),
    )
    .expect("there is room");
    let output = Running::start(tombolo(["run"]).current_dir(dir.path())).end();
    assert_innocent_is_done(&output);
    output
}

#[test] // rule 9
fn results_that_a_client_keeps_do_not_end_the_server() {
    for lists in [OF_VALUES, OF_BYTES] {
        let output = keep_and_get(&lists, 1_000_000_000, "16MiB");
        assert!(output.status.success(), "{output:?}");
    }
}

// rule 10
#[test]
fn results_over_the_callers_limit_end_the_caller() {
    for lists in [OF_VALUES, OF_BYTES] {
        let output = keep_and_get(&lists, 0, "4MiB");
        assert_eq!(output.status.code(), Some(134), "{output:?}");
        let stderr = text(&output.stderr);
        let expected = "the results of guest `server` are over the limit `host-memory` \
                        of guest `keeper`";
        assert!(stderr.contains(expected), "{stderr}");
        for others in ["server", "getter"] {
            let ended = format!("guest `{others}` was ended");
            assert!(!stderr.contains(&ended), "{stderr}");
        }
    }
}

/// Flags with short names take thirty times the memory that wasmtime counts for them.
#[test] // rule 10
fn lists_of_flags_take_no_more_than_the_limit() {
    let dir = directory();
    let callee = dir.path().join("flagged.wasm");
    let wasm = std::fs::read(guests::HOSTILE_FLAGGED).expect("it was built");
    std::fs::write(&callee, tombolo_tests::server(&wasm)).expect("the directory is ours");
    let app = |count: &str| {
        let mut command = tombolo(["run", "--limit", "memory=16MiB"]);
        command.args(["--limit", "host-memory=16MiB"]);
        command
            .arg(guests::HOSTILE_FLAGGER)
            .arg(&callee)
            .arg(innocent());
        run(command.args(["--", count]))
    };
    let (output, base) = app("1000");
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
    assert!(text(&output.stdout).contains("taken: Ok(())"), "{output:?}");
    let (output, most) = app("250000");
    assert_innocent_is_done(&output);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("`host-memory`"), "{output:?}");
    assert!(
        most < base + 2 * 16 * MIB + NOISE,
        "{most} bytes, and {base} without"
    );
}

/// Returns component instances that each have many handles for a moment. Their tables do not
/// shrink.
fn with_handles(dir: &TempDir, instances: usize) -> PathBuf {
    let instances = "(instance (instantiate $holder))".repeat(instances);
    let text = format!(
        r#"(component
  (component $holder
    (type $held (resource (rep i32)))
    (core func $new (canon resource.new $held))
    (core func $drop (canon resource.drop $held))
    (core module $main
      (import "held" "new" (func $new (param i32) (result i32)))
      (import "held" "drop" (func $drop (param i32)))
      (func $start (local $count i32) (local $first i32)
        (local.set $first (call $new (i32.const 0)))
        (loop $more
          (drop (call $new (i32.const 0)))
          (local.set $count (i32.add (local.get $count) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $count) (i32.const 90000))))
        (loop $less
          (call $drop (i32.add (local.get $first) (local.get $count)))
          (local.set $count (i32.sub (local.get $count) (i32.const 1)))
          (br_if $less (i32.gt_s (local.get $count) (i32.const -1)))))
      (start $start))
    (core instance (instantiate $main
      (with "held" (instance
        (export "new" (func $new))
        (export "drop" (func $drop)))))))
  {instances})"#
    );
    component(dir, "handles", &text)
}

#[test] // rule 10
fn tables_of_handles_take_no_more_than_the_limit() {
    let dir = directory();
    let app = |instances: usize| {
        let mut command = tombolo(["run", "--limit", "host-memory=32MiB"]);
        command.arg(innocent()).arg(with_handles(&dir, instances));
        run(&mut command)
    };
    let (output, base) = app(1);
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
    // 100 tables with 90,000 entries each would be 200 MiB.
    let (output, most) = app(100);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("`host-memory`"), "{stderr}");
    assert!(
        most < base + 32 * MIB + NOISE,
        "{most} bytes, and {base} without"
    );
}

// rule 10
#[test]
fn long_writes_and_random_bytes_are_bounded() {
    let dir = directory();
    let grant = format!("{}::/files", dir.path().display());
    let mut command = tombolo(["run", "--limit", "host-memory=16MiB", "--dir", &grant]);
    command.arg(guests::HOSTILE_FILES).arg(innocent());
    let output = Running::start(&mut command).end();
    assert_innocent_is_done(&output);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("wrote 65536\n"), "{output:?}");
    assert!(stdout.contains("got 1048576 random bytes"), "{output:?}");
    assert_eq!(output.status.code(), Some(134), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("limit `host-memory`"), "{stderr}");
    let written = std::fs::read(dir.path().join("written")).expect("it was written");
    assert_eq!(written, vec![7; 65536]);
}

// rule 10
#[test]
fn death_with_many_windows_logs_a_count() {
    let count = 400;
    let dir = directory();
    let manifest = dir.path().join("tombolo.toml");
    let mut file = File::create(&manifest).expect("the directory is ours");
    writeln!(
        file,
        "[guests.innocent]\ncomponent = {:?}\n\
         [guests.writers]\ncomponent = {:?}\nargs = [\"{count}\"]\n\
         limits = {{ regions = {count} }}\n",
        innocent(),
        guests::HOSTILE_WRITERS
    )
    .expect("there is room");
    let output = Running::start(tombolo(["run"]).current_dir(dir.path())).end();
    assert_innocent_is_done(&output);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("holds 400 write windows"), "{output:?}");
    let stderr = text(&output.stderr);
    let poisoned = |line: &&str| line.contains("region poisoned");
    let lines: Vec<&str> = stderr.lines().filter(poisoned).collect();
    let more = |line: &&str| -> Option<usize> {
        line.split("… and ").nth(1)?.split(' ').next()?.parse().ok()
    };
    let counted: usize = lines.iter().filter_map(more).sum();
    let shown = lines.iter().filter(|line| more(line).is_none()).count();
    // A slow machine needs several periods, which log more lines.
    assert!(shown <= 100, "{stderr}");
    assert_eq!(shown + counted, count, "{stderr}");
}
