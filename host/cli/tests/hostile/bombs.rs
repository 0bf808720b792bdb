//! Small components that are expensive to compile.
//!
//! Each is refused by an error that names a limit. All processes of the program together stay
//! within a fraction of the memory and processor time that compiling would take. The kernel
//! enforces that, so the tests read no clock.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::program::{INNOCENT_DONE, Running, assert_innocent_is_done, innocent, text, tombolo};

/// The limit on private memory of each process of the program.
const MEMORY: u64 = 128 << 20;

/// The limit on processor time of each process, in seconds. A bomb is refused in a fraction of
/// a second; the rest is for a busy machine.
const SECONDS: u64 = 20;

/// A component in a file of its own.
struct Bomb {
    dir: TempDir,
    path: PathBuf,
}

impl Bomb {
    #[track_caller]
    fn new(wasm: &[u8]) -> Bomb {
        let dir = tempfile::tempdir().expect("there is room");
        let path = dir.path().join("bomb.wasm");
        std::fs::write(&path, wasm).expect("there is room");
        Bomb { dir, path }
    }

    #[track_caller]
    fn of(wat: &str) -> Bomb {
        Bomb::new(&wat::parse_str(wat).expect("it is well-formed"))
    }

    /// Returns a component that instantiates one core module.
    #[track_caller]
    fn of_module(fields: &str) -> Bomb {
        Bomb::of(&format!(
            "(component (core module $m {fields}) (core instance (instantiate $m)))"
        ))
    }

    /// Returns a component whose core module has one function.
    #[track_caller]
    fn of_function(body: &str) -> Bomb {
        Bomb::of_module(&format!("(func {body})"))
    }

    fn bytes(&self) -> u64 {
        self.path.metadata().expect("it is there").len()
    }

    /// Checks that `inspect` and `run` refuse the component for this limit. `run` gets an
    /// innocent guest as well.
    #[track_caller]
    fn is_refused_for(&self, limit: &str) {
        let inspected = bounded(["inspect"], &[&self.path, innocent()]);
        assert_refused(&inspected, limit);
        // The other component is shown all the same.
        let shown = text(&inspected.stdout);
        assert!(shown.contains("a command"), "{inspected:?}");

        let run = bounded(["run"], &[&self.path, innocent()]);
        assert_refused(&run, limit);
        assert!(!text(&run.stdout).contains(INNOCENT_DONE), "{run:?}");
    }

    /// Runs the component beside an innocent guest. Also returns the peak memory of the program
    /// or of one of its child processes, in bytes.
    fn run(&self, options: &[&str]) -> (Output, u64) {
        let mut command = tombolo(["run"]);
        command.args(options).arg(innocent()).arg(&self.path);
        let running = Running::start(&mut command);
        let program = running.0.id();
        let watch = std::thread::spawn(move || {
            let mut peak = 0;
            while let Some(memory) = most_memory(program) {
                let child = children(program).into_iter().filter_map(most_memory).max();
                peak = peak.max(memory).max(child.unwrap_or_default());
                std::thread::sleep(Duration::from_millis(2));
            }
            peak
        });
        let output = running.end();
        (output, watch.join().expect("watching does not panic"))
    }
}

/// Returns the peak memory of a process in bytes, or `None` once it has ended.
fn most_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn children(process: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("it is mounted");
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number| {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat"));
            // The state and the parent follow the name.
            let stat = stat.unwrap_or_default();
            let rest = stat.rsplit(") ").next().unwrap_or_default();
            rest.split(' ').nth(1) == Some(&process.to_string())
        })
        .collect()
}

/// Runs the program with little memory and time.
fn bounded<const N: usize>(arguments: [&str; N], paths: &[&Path]) -> Output {
    within(MEMORY, SECONDS, arguments, paths)
}

/// Runs the program with limits on the private memory and the processor time of each process.
fn within<const N: usize>(
    memory: u64,
    seconds: u64,
    arguments: [&str; N],
    paths: &[&Path],
) -> Output {
    let program = tombolo(arguments);
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--data={memory}"))
        .arg(format!("--cpu={seconds}"))
        .arg(program.get_program())
        .args(program.get_args())
        .args(paths)
        .env_remove("TOMBOLO_LOG")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    Running::start(&mut command).end()
}

#[track_caller]
fn assert_refused(output: &Output, limit: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        said.contains(&format!("over the limit `{limit}` of ")),
        "{limit}: {said}"
    );
    assert!(
        said.contains(&format!("`--compile-limit {limit}=")),
        "no hint for {limit}: {said}"
    );
}

/// Returns a component that instantiates the one of the level below several times.
fn nested(levels: u32, times: usize) -> String {
    let mut wat = "(component (core module) (core instance (instantiate 0)))".to_owned();
    for _ in 0..levels {
        wat = format!(
            "(component {wat} {})",
            "(instance (instantiate 0))".repeat(times)
        );
    }
    wat
}

/// Returns loops that each have a phi for each local.
fn loops(locals: usize, loops: usize) -> String {
    let mut body = format!("(local{})", " i32".repeat(locals));
    body += &"loop\n".repeat(loops);
    for local in 0..locals {
        let _ = write!(
            body,
            "local.get {local} i32.const 1 i32.add local.set {local} "
        );
    }
    for index in 0..loops {
        let _ = write!(body, "local.get {} br_if 0 end ", index % locals);
    }
    body
}

// rule 10
#[test]
fn nested_instances_are_refused() {
    let bomb = Bomb::of(&nested(20, 8));
    assert!(bomb.bytes() < 900, "{}", bomb.bytes());
    bomb.is_refused_for("component-instances");
}

#[test] // rule 10
fn doubled_instances_of_modules_are_refused() {
    Bomb::of(&format!(
        "(component (core module) {})",
        "(core instance (instantiate 0))".repeat(1001)
    ))
    .is_refused_for("core-instances");
}

// rule 10
#[test]
fn components_nested_too_deep_are_refused() {
    Bomb::of(&nested(40, 1)).is_refused_for("nesting");
}

// rule 10
#[test]
fn instances_that_export_each_other_are_refused() {
    // Each would own the previous one, and dropping them would overflow the stack.
    let mut wat = "(component (instance)".to_owned();
    for index in 0..200_000 {
        let _ = write!(wat, r#"(instance (export "a" (instance {index})))"#);
    }
    Bomb::of(&(wat + ")")).is_refused_for("nesting");
}

// rule 10
#[test]
fn types_nested_too_deep_are_refused() {
    // A recursive reader of types would overflow its stack.
    let depth = 100_000;
    let mut section = vec![1];
    for _ in 0..depth {
        section.extend([0x42, 1, 1]);
    }
    section.extend([0x42, 0]);
    let mut wasm = b"\0asm\x0d\0\x01\0\x07".to_vec();
    let mut size = section.len();
    while size > 0x7f {
        wasm.push(u8::try_from(size & 0x7f).expect("seven bits") | 0x80);
        size >>= 7;
    }
    wasm.push(u8::try_from(size).expect("seven bits"));
    wasm.extend(section);
    Bomb::new(&wasm).is_refused_for("nesting");
}

// rule 10
#[test]
fn types_that_double_are_refused() {
    let mut wat = "(component (type (tuple u8))".to_owned();
    for index in 0..40 {
        let _ = write!(wat, "(type (tuple {index} {index}))");
    }
    let bomb = Bomb::of(&(wat + ")"));
    // The parser has this limit itself.
    let output = bounded(["inspect"], &[&bomb.path]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        said.contains("type size exceeds the limit of 1000000"),
        "{said}"
    );
}

/// Two guests pass a value of a type that doubles 16 times. Linking walks over all its parts.
// rule 9
#[test]
fn doubled_types_are_linked_in_time() {
    let mut types = "(type (tuple u8 u8))".to_owned();
    for index in 0..16 {
        let _ = write!(types, "(type (tuple {index} {index}))");
    }
    let importer = Bomb::of(&format!(
        r#"(component (import "a:b/c" (instance {types}
            (export "f" (func (param "a" (list 16)) (result (list 16)))))))"#
    ));
    let exporter = Bomb::of(&format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "f") (param i32 i32) (result i32) unreachable))
            (core instance $c (instantiate $m))
            {types}
            (func $f (param "a" (list 16)) (result (list 16))
                (canon lift (core func $c "f") (memory (core memory $c "memory"))
                    (realloc (core func $c "realloc"))))
            (instance $i (export "f" (func $f)))
            (export "a:b/c" (instance $i)))"#
    ));
    let guests = [innocent(), &importer.path, &exporter.path];
    let output = within(1 << 30, 5, ["run"], &guests);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains(INNOCENT_DONE), "{output:?}");
}

// rule 10
#[test]
fn too_many_types_are_refused() {
    Bomb::of(&format!("(component {})", "(type u8)".repeat(100_001))).is_refused_for("types");
}

// rule 10
#[test]
fn too_many_definitions_are_refused() {
    // 1000 instances, of a component that has 1000 aliases of modules.
    let inner = format!(
        "(component $c {})",
        "(alias outer 1 $m (core module))".repeat(1000)
    );
    let instances = "(instance (instantiate $c))".repeat(900);
    Bomb::of(&format!("(component (core module $m) {inner} {instances})"))
        .is_refused_for("definitions");
}

// rule 10
#[test]
fn too_many_imports_and_exports_are_refused() {
    let mut imports = String::new();
    let mut exports = "(instance $i)".to_owned();
    for index in 0..1001 {
        let _ = write!(imports, r#"(import "a:b/i{index}" (instance))"#);
        let _ = write!(exports, r#"(export "a:b/i{index}" (instance $i))"#);
    }
    Bomb::of(&format!("(component {imports})")).is_refused_for("imports");
    Bomb::of(&format!("(component {exports})")).is_refused_for("exports");
}

// rule 10
#[test]
fn module_with_a_hundred_thousand_exports_is_refused() {
    let mut fields = "(func $f)".to_owned();
    for index in 0..100_000 {
        let _ = write!(fields, r#"(export "f{index}" (func $f))"#);
    }
    Bomb::of_module(&fields).is_refused_for("core-names");
}

// rule 10
#[test]
fn too_many_functions_are_refused() {
    Bomb::of_module(&"(func)".repeat(200_001)).is_refused_for("functions");
}

// rule 10
#[test]
fn function_with_many_locals_in_loops_is_refused() {
    let bomb = Bomb::of_function(&loops(5000, 10_000));
    assert!(bomb.bytes() < 200_000, "{}", bomb.bytes());
    bomb.is_refused_for("function-values");
}

// rule 10
#[test]
fn small_function_with_many_locals_in_loops_is_refused() {
    let bomb = Bomb::of_function(&loops(1000, 1000));
    assert!(bomb.bytes() < 20_000, "{}", bomb.bytes());
    bomb.is_refused_for("function-values");
}

// rule 10
#[test]
fn huge_branch_table_with_values_is_refused() {
    let results = " i32".repeat(900);
    let values = "i32.const 0 ".repeat(900);
    let targets = " 0".repeat(10_000);
    let drops = "drop ".repeat(900);
    Bomb::of_function(&format!(
        "block (result{results}) {values} i32.const 0 br_table {targets} end {drops}"
    ))
    .is_refused_for("function-values");
}

// rule 10
#[test]
fn huge_branch_table_is_refused() {
    let targets = " 0".repeat(1 << 20);
    Bomb::of_function(&format!("block i32.const 0 br_table {targets} end"))
        .is_refused_for("function-bytes");
}

// rule 10
#[test]
fn too_many_locals_are_refused() {
    Bomb::of_function(&format!("(local{})", " i32".repeat(20_001))).is_refused_for("locals");
}

#[test] // rule 10
fn giant_data_segment_is_refused_before_it_is_read() {
    let bomb = Bomb::of("(component)");
    let file = std::fs::File::options().append(true).open(&bomb.path);
    let file = file.expect("it was written just now");
    // A sparse file.
    file.set_len(64 << 30).expect("files may be that long");
    let output = bounded(
        ["inspect", "--compile-limit", "component-bytes=64MiB"],
        &[&bomb.path],
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("exceeds the limit `component-bytes`, which is 67108864"),
        "{said}"
    );
}

// rule 10
#[test]
fn check_shows_a_bomb_at_its_line() {
    let bomb = Bomb::of(&nested(20, 8));
    let manifest = bomb.dir.path().join("tombolo.toml");
    let guests = format!(
        "[guests.bomb]\ncomponent = 'bomb.wasm'\n[guests.good]\ncomponent = '{}'\n",
        innocent().display()
    );
    std::fs::write(&manifest, guests).expect("there is room");
    let output = bounded(["check", "-f"], &[&manifest]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("the limit `component-instances`"), "{said}");
    assert!(said.contains("tombolo.toml:2:"), "{said}");
}

// rule 10
#[test]
fn invalid_code_is_found_without_compiling() {
    // (func (result i32)) without a result.
    let mut wasm =
        wat::parse_str("(component (core module (func (result i32) (unreachable) (nop))))")
            .expect("it is well-formed");
    let body = [0x00, 0x00, 0x01, 0x0b];
    let at = wasm.windows(4).position(|bytes| *bytes == body);
    wasm[at.expect("the body is there") + 1] = 0x01;
    let bomb = Bomb::new(&wasm);
    let output = bounded(["inspect"], &[&bomb.path]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("type mismatch"), "{said}");
}

// rule 10
#[test]
fn time_limit_ends_the_compiler_alone() {
    let bomb = Bomb::of_function(&loops(1000, 10_000));
    let (output, _) = bomb.run(&[
        "--compile-limit",
        "function-values=1000000000",
        "--compile-limit",
        "compile-time=1s",
        "--compile-limit",
        "compile-memory=64GiB",
    ]);
    assert_refused(&output, "compile-time");
}

// rule 10
#[test]
fn memory_limit_ends_the_compiler_alone() {
    let bomb = Bomb::of_function(&loops(1000, 10_000));
    let (output, peak) = bomb.run(&[
        "--compile-limit",
        "function-values=1000000000",
        "--compile-limit",
        "compile-time=60s",
        "--compile-limit",
        "compile-memory=100MB",
    ]);
    assert_refused(&output, "compile-memory");
    assert!(peak < 2 * 100_000_000, "{peak} bytes");
}

// rule 10
#[test]
fn imports_are_checked_before_code_is_compiled() {
    let function = loops(1000, 10_000);
    let bomb = Bomb::of(&format!(
        r#"(component
            (import "a:b/missing" (instance (export "f" (func))))
            (core module $m (func {function}))
            (core instance (instantiate $m)))"#
    ));
    let options = ["run", "--compile-limit", "function-values=1000000000"];
    let output = bounded(options, &[&bomb.path, innocent()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("a:b/missing"), "{said}");
    assert!(!said.contains("compile"), "{said}");
}

#[test]
fn large_component_that_is_harmless_runs() {
    // More functions, deeper blocks and larger tables than the runtime of a language has.
    let functions = "(func (param i32) (result i32) local.get 0 i32.const 3 i32.mul)".repeat(5000);
    let deep = format!(
        "(func {} {})",
        "block ".repeat(20_000),
        "end ".repeat(20_000)
    );
    let targets = " 0".repeat(50_000);
    let table = format!("(func block i32.const 0 br_table {targets} end)");
    let bomb = Bomb::of_module(&format!("{functions} {deep} {table}"));
    let (output, _) = bomb.run(&[]);
    assert!(output.status.success(), "{output:?}");
    assert_innocent_is_done(&output);
}
