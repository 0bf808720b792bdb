//! Guests of an app: `command` shares a region with `hostile`, which acts. Then `command` checks
//! the region and calls `friend`.

use std::time::{Duration, Instant};

use super::{PAGE, guests, handmade, read};
use tombolo::{GRANULE, Limits, RegionHost};
use tombolo_app::{App, AppBuilder, CommandExit, CommandSpec, GuestEnd, GuestSpec};
use tombolo_test_util::puppet::{Puppet, WRITE};
use tombolo_test_util::run::run;
use tombolo_tests::server;

fn spec(name: &str, wasm: Vec<u8>) -> GuestSpec {
    GuestSpec {
        name: name.into(),
        wasm: wasm.into(),
        inherit_stdio: true,
        ..GuestSpec::default()
    }
}

fn hostile() -> Vec<u8> {
    server(&read(guests::FAULTS_HOSTILE))
}

fn app(hostile: Vec<u8>, arguments: &[&str]) -> AppBuilder {
    let command = CommandSpec {
        args: arguments.iter().map(ToString::to_string).collect(),
        ..CommandSpec::default()
    };
    App::builder()
        .command(command)
        .guest(spec("command", read(guests::FAULTS_COMMAND)))
        .guest(spec("hostile", hostile))
        .guest(spec("friend", server(&read(guests::FAULTS_FRIEND))))
}

/// Runs an app in which `hostile` fails, with `text` in the reason, and all others succeed.
#[track_caller]
fn ends_with(app: AppBuilder, text: &str) -> String {
    let outcome = run(app);
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    let [failure] = &outcome.failures[..] else {
        panic!("{:?}", outcome.failures)
    };
    assert!(failure.contains(text), "{failure}");
    assert!(failure.contains("guest `hostile`"), "{failure}");
    let ends: Vec<_> = outcome
        .report
        .guests
        .iter()
        .map(|it| (&*it.name, it.end.clone()))
        .collect();
    assert_eq!(
        ends,
        [
            ("command", GuestEnd::Exit(0)),
            ("hostile", GuestEnd::Failed),
            ("friend", GuestEnd::Served)
        ]
    );
    assert_eq!(outcome.report.regions_created, outcome.report.regions_freed);
    failure.clone()
}

/// Runs each act, which writes to a read window at `offset`. The operator is told the place.
/// The caller, which may not know the region, is told only the fact.
#[track_caller]
fn violates(hostile: &[u8], acts: &[&str], offset: &str) {
    violates_at(hostile, acts, &[offset.to_owned()]);
}

/// Runs acts that let the host write to the eight bytes at 0x1000. The processor and the C
/// library decide which byte is written first.
#[track_caller]
fn violates_by_lowering(hostile: &[u8], acts: &[&str]) {
    let offsets: Vec<String> = (0x1000..0x1008).map(|at| format!("{at:#x}")).collect();
    violates_at(hostile, acts, &offsets);
}

#[track_caller]
fn violates_at(hostile: &[u8], acts: &[&str], offsets: &[String]) {
    let did = "guest `hostile` wrote to its read-only window on region `music` at offset ";
    for act in acts {
        let arguments: Vec<&str> = act
            .split(' ')
            .chain(["fails", "act`: it wrote to a read-only window"])
            .collect();
        let failure = ends_with(app(hostile.to_vec(), &arguments), did);
        let said = format!("guest `hostile` was ended in `test:faults/acts.act`: {did}");
        let offset = failure.strip_prefix(&said).map(str::to_owned);
        assert!(
            offset.is_some_and(|offset| offsets.contains(&offset)),
            "{failure}, not {said}{offsets:?}"
        );
    }
}

// rule 9
#[test]
fn correct_guest_is_not_terminated() {
    for hostile in [hostile(), handmade()] {
        // `command` writes this sum.
        let outcome = run(app(hostile, &["nothing", "answers", "74"]));
        assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    }
}

// rule 9
#[test]
fn store_to_a_read_window_traps() {
    violates(&hostile(), &["store"], "0x1000");
    violates(&hostile(), &["store-last"], "0x3ffff");
    violates(&handmade(), &["store"], "0x1000");
}

// rule 9
#[test]
fn bulk_write_to_a_read_window_ends_the_guest() {
    violates(&hostile(), &["copy", "fill"], "0x1000");
    violates(&handmade(), &["large"], "0x1000");
}

// rule 9
#[test]
fn memory_init_of_a_read_window_ends_the_guest() {
    violates(&handmade(), &["init"], "0x1000");
}

// rule 9
#[test]
fn constant_bulk_write_to_a_read_window_ends_it() {
    // They write 1, 7, 64 and 128 bytes.
    violates(&handmade(), &["1", "7", "64", "copy", "fill"], "0x1000");
}

// rule 9
#[test]
fn result_lowered_to_a_read_window_ends_the_guest() {
    // The host writes the list, and its address and length.
    violates_by_lowering(&handmade(), &["result", "pointer"]);
}

// rule 9
#[test]
fn argument_lowered_to_a_read_window_ends_it() {
    violates_by_lowering(&handmade(), &["arm nothing"]);
}

// rule 9
#[test]
fn violation_ends_at_the_next_host_call_or_tick() {
    violates(&hostile(), &["fill-and-ask", "fill-and-spin"], "0x1000");
}

// rule 11
#[test]
fn endless_loop_ends_at_the_call_time() {
    let mut limits = Limits::default();
    limits.call_time = Some(Duration::from_millis(300));
    let begun = Instant::now();
    ends_with(
        app(hostile(), &["spin", "fails", "its time is up"]).limits(limits),
        "300ms",
    );
    assert!(begun.elapsed() > Duration::from_millis(300));
}

// rule 11
#[test]
fn wait_past_the_call_time_ends_the_guest() {
    let mut limits = Limits::default();
    limits.call_time = Some(Duration::from_millis(300));
    ends_with(
        app(hostile(), &["sleep", "fails", "its time is up"]).limits(limits),
        "300ms",
    );
}

// rule 11
#[test]
fn commands_past_the_run_time_end_alone() {
    for act in ["spin", "sleep"] {
        let mut limits = Limits::default();
        limits.run_time = Some(Duration::from_millis(2500));
        let app = app(hostile(), &[act]).limits(limits);
        let outcome = run(app.guest(spec("worker", worker())));
        assert_eq!(outcome.end, CommandExit::Failed, "{act}");
        let [failure] = &outcome.failures[..] else {
            panic!("{:?}", outcome.failures)
        };
        assert!(failure.contains("guest `command`"), "{failure}");
        assert!(failure.contains("its time is up"), "{failure}");
        let worker = outcome
            .report
            .guests
            .iter()
            .find(|it| it.name == "worker")
            .unwrap();
        assert_eq!(worker.end, GuestEnd::Exit(0), "{act}");
    }
}

/// Returns a command that works for a second and exports nothing that guests import.
fn worker() -> Vec<u8> {
    let mut wasm = read(guests::FAULTS_FRIEND);
    let (name, other) = (b"test:faults/friend", b"test:faults/dneirf");
    let mut at = 0;
    while let Some(next) = wasm[at..].windows(name.len()).position(|it| it == name) {
        at += next;
        wasm[at..at + name.len()].copy_from_slice(other);
    }
    wasm
}

// rule 11
#[test]
fn time_of_a_callee_is_not_its_callers() {
    let mut limits = Limits::default();
    limits.run_time = Some(Duration::from_millis(500));
    let begun = Instant::now();
    let outcome = run(app(hostile(), &["wait", "1500"]).limits(limits));
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert!(begun.elapsed() > Duration::from_millis(1500));
}

// rule 9
#[test]
fn endless_recursion_traps_that_guest() {
    ends_with(
        app(hostile(), &["recurse", "fails", "call stack"]),
        "call stack exhausted",
    );
    let outcome = run(app(hostile(), &["recurse"]).guest(spec("worker", worker())));
    assert_eq!(outcome.end, CommandExit::Failed);
    assert!(
        outcome.failures[0].contains("guest `command`"),
        "{:?}",
        outcome.failures
    );
    assert_eq!(outcome.failures.len(), 1);
}

// rule 10
#[test]
fn memory_grows_up_to_its_limit() {
    let mut limits = Limits::default();
    limits.memory_bytes = 100 << 20;
    let outcome = run(app(hostile(), &["grow", "answers", "1600"]).limits(limits));
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);

    let mut puppet = Puppet::new(&RegionHost::new(), "a");
    while puppet.grow(1024).unwrap() != -1 {}
    while puppet.grow(1).unwrap() != -1 {}
    assert_eq!(puppet.pages().unwrap(), 65536);
    let last = u32::MAX - PAGE + 1;
    let number = puppet.create("last", GRANULE).unwrap().unwrap();
    puppet
        .map(number, 0, GRANULE, WRITE, last)
        .unwrap()
        .unwrap();
    puppet.poke(u32::MAX, 7).unwrap();
    assert_eq!(puppet.byte(u32::MAX), 7);
    puppet.assert_works();
}

// rules 9, 13
#[test]
fn panic_and_exit_in_a_call_end_that_guest() {
    ends_with(
        app(hostile(), &["panic", "fails", "hostile"]),
        "unreachable",
    );
    // WASI 0.2 only tells success from failure.
    ends_with(
        app(hostile(), &["exit", "fails", "hostile"]),
        "exited with code 1",
    );
}
