//! The host survives each act of a guest that could kill it. Guests of an app, guests that
//! the test embeds, and the process itself are tested.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tombolo::{GRANULE, Limits, PrepareError, RegionHost, WriteViolation};
use tombolo_app::{App, AppBuilder, CommandExit, CommandSpec, GuestEnd, GuestSpec};
use tombolo_test_util::process::Process;
use tombolo_test_util::run::run;
use tombolo_test_util::store::{State, engine, linker};
use tombolo_tests::server;
use wasmtime::component::{Component, Linker, Resource};
use wasmtime::{Config, Engine, Store};

use tombolo_test_util::child::{again, alone};
use tombolo_test_util::puppet::{
    ErrorCode, Puppet, READ, WRITE, assert_filled, filled, mappings_of,
};

tombolo_tests::guests!(faults);

const PAGE: u32 = 65536;

// Guests of an app: `command` shares a region with `hostile`, which acts. Then `command` checks
// the region and calls `friend`.

fn spec(name: &str, wasm: Vec<u8>) -> GuestSpec {
    GuestSpec {
        name: name.into(),
        wasm: wasm.into(),
        inherit_stdio: true,
        ..GuestSpec::default()
    }
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(path).expect("the build script built the guest")
}

fn hostile() -> Vec<u8> {
    server(&read(guests::FAULTS_HOSTILE))
}

/// Returns the hostile guest that is written in WAT.
fn handmade() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut module = wat::parse_file(root.join("wat/hostile.wat")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_path(root.join("../wit/memory")).unwrap();
    let (package, _) = resolve.push_path(root.join("wit/faults.wit")).unwrap();
    let world = resolve.select_world(&[package], Some("hostile")).unwrap();
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.module(&module).unwrap().encode().unwrap()
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
        .show(number, 0, GRANULE, WRITE, last)
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

// Guests that the test embeds.

/// Checks that a guest was terminated because it wrote to its window.
#[track_caller]
fn assert_violation<R: std::fmt::Debug>(result: wasmtime::Result<R>) {
    let error = result.unwrap_err();
    assert!(error.is::<WriteViolation>(), "{error:?}");
    assert!(
        error
            .downcast_ref::<WriteViolation>()
            .unwrap()
            .to_string()
            .contains("guest `a`")
    );
}

// rule 9
#[test]
fn embedded_guest_traps_at_its_next_host_call() {
    type Write = fn(&mut Puppet, u32) -> wasmtime::Result<()>;
    let writes: [Write; 3] = [
        |a, at| a.fill(at + 10, 2 * PAGE - 10, 9),
        |a, at| a.copy(at, at + 5000, PAGE),
        |a, at| a.fill_apart(at, 4096, 32),
    ];
    for write in writes {
        let host = RegionHost::new();
        let (mut a, mut b) = (Puppet::new(&host, "a"), Puppet::new(&host, "b"));
        let region = filled(&host, "music", 2 * GRANULE, 1);
        let in_a = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let in_b = b.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at_b) = b.shown(in_b, 2, READ);
        let (_, at_a) = a.shown(in_a, 2, READ);
        write(&mut a, at_a).unwrap();
        // The bytes went to private copies.
        assert_eq!(b.byte(at_b + 5000), 1);
        assert_violation(a.create("more", 1));
        drop(a);
        drop(b);
        assert!(!region.is_poisoned());
        assert!(mappings_of(&region).is_empty());
        assert_filled(&region, 1);
        Puppet::new(&host, "c").assert_works();
    }
}

// rule 9
#[test]
fn store_of_an_embedded_guest_traps() {
    let host = RegionHost::new();
    for at_most in [0, PAGE - 1] {
        let mut a = Puppet::new(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.shown(number, 1, READ);
        let error = a.poke(at + at_most, 9).unwrap_err();
        assert!(error.is::<wasmtime::Trap>(), "{error:?}");
        drop(a);
        assert_filled(&region, 1);
    }
    Puppet::new(&host, "b").assert_works();
}

// rule 9
#[test]
fn list_lowered_to_a_read_window_goes_to_a_copy() {
    let (engine, linker) = (engine(), linker());
    let component = Component::new(engine, handmade()).unwrap();
    for acts in [
        &["arm", "nothing"][..],
        &["result"],
        &["pointer"],
        &["init"],
    ] {
        let host = RegionHost::new();
        let region = filled(&host, "music", 4 * GRANULE, 1);
        let mut store = Store::new(engine, State::new(host.context("a").build()));
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let (_, interface) = instance
            .get_export(&mut store, None, "test:faults/acts")
            .unwrap();
        let (_, keep) = instance
            .get_export(&mut store, Some(&interface), "keep")
            .unwrap();
        let (_, act) = instance
            .get_export(&mut store, Some(&interface), "act")
            .unwrap();
        let keep = instance
            .get_typed_func::<(Resource<tombolo::Region>,), (Result<(), String>,)>(
                &mut store, &keep,
            )
            .unwrap();
        let act = instance
            .get_typed_func::<(&str,), (Result<u64, String>,)>(&mut store, &act)
            .unwrap();
        let given = region.duplicate(tombolo::Rights::READ).unwrap();
        // Moving needs the right `share`.
        given.give(&mut store).unwrap_err();
        let rights = tombolo::Rights::READ | tombolo::Rights::SHARE;
        let given = region.duplicate(rights).unwrap();
        let given = given.give(&mut store).unwrap();
        keep.call(&mut store, (given,)).unwrap().0.unwrap();
        for name in acts {
            let _ = act.call(&mut store, (name,));
        }
        // The next host call fails.
        assert_violation(act.call(&mut store, ("result",)));
        assert_filled(&region, 1);
        drop(store);
        assert!(mappings_of(&region).is_empty());
        assert_filled(&region, 1);
        region.try_write(0..1).unwrap()[0] = 2;
    }
}

// Kernel mappings.

fn count_of_mappings() -> usize {
    Process::current().mappings().unwrap().len()
}

fn most_mappings() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    text.trim().parse().unwrap()
}

/// Checks that the process still has threads and memory.
#[track_caller]
fn assert_process_is_well() {
    let bytes = std::thread::spawn(|| vec![1u8; 64 << 20]).join().unwrap();
    assert_eq!(bytes.len(), 64 << 20);
}

// rule 9
#[test]
fn scattered_violations_make_few_mappings() {
    alone("scattered_violations_make_few_mappings", || {
        const FILLS: u32 = 32_740;
        let host = RegionHost::new();
        let (mut a, mut b) = (Puppet::new(&host, "a"), Puppet::new(&host, "b"));
        let region = host.create("music", 256 << 20).unwrap();
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.shown(number, 4096, READ);
        let before = count_of_mappings();
        a.fill_apart(at, 8192, FILLS).unwrap();
        let after = count_of_mappings();
        assert!(after <= before + 8, "{before} mappings became {after}");
        assert_violation(a.create("more", 1));
        // The region has no page yet, so no write reached it.
        assert_eq!(region.try_read(0..1 << 20).unwrap().iter().max(), Some(&0));
        drop(a);
        b.assert_works();
        assert_process_is_well();
    });
}

// rule 10
#[test]
fn isolated_windows_stop_at_the_windows_limit() {
    alone("isolated_windows_stop_at_the_windows_limit", || {
        let (count, text) = isolated_windows(Limits::default());
        assert!(
            text.contains("`windows`") || text.contains("`mappings`"),
            "{text}"
        );
        assert!((4000..=4096).contains(&count), "{count}: {text}");
    });
}

// rule 10
#[test]
fn isolated_windows_stop_at_the_mappings_limit() {
    alone("isolated_windows_stop_at_the_mappings_limit", || {
        let mut limits = Limits::default();
        (limits.windows, limits.mappings) = (40_000, 2000);
        let (count, text) = isolated_windows(limits);
        assert!(text.contains("`mappings`"), "{text}");
        assert!((990..=1000).contains(&count), "{count}: {text}");
    });
}

// rule 10
#[test]
fn isolated_windows_stop_at_half_of_max_map_count() {
    alone("isolated_windows_stop_at_half_of_max_map_count", || {
        let mut limits = Limits::default();
        (limits.windows, limits.mappings) = (u32::MAX / 4, u32::MAX);
        let (count, text) = isolated_windows(limits);
        assert!(
            text.contains("`mappings`") && text.contains("max_map_count"),
            "{text}"
        );
        assert!(count * 2 <= most_mappings() / 2, "{count}: {text}");
    });
}

/// Maps separate windows of one granule until one is refused, and checks that other guests
/// still work. Returns their number and the refusal.
fn isolated_windows(limits: Limits) -> (usize, String) {
    let host = RegionHost::new();
    let region = filled(&host, "music", GRANULE, 1);
    let mut b = Puppet::new(&host, "b");
    let mut a = Puppet::with_limits(&host, "a", limits);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let first = a.pages().unwrap();
    assert!(a.grow(65_500 - first).unwrap() > 0);
    let mut count = 0;
    let text = loop {
        assert!(count < 32_700, "nothing stopped it");
        let at = (first + 2 * count as u32) * PAGE;
        match a.show(number, 0, GRANULE, READ, at).unwrap() {
            Ok(_) => count += 1,
            Err(ErrorCode::Exhausted(text)) => break text,
            Err(other) => panic!("{other:?}"),
        }
    };
    let mappings = count_of_mappings();
    assert!(mappings < most_mappings() / 2 + 300, "{mappings} mappings");
    assert_process_is_well();
    // The guest can still drop its windows, and other guests are unharmed.
    assert_eq!(b.churn(100).unwrap(), b.churn(100).unwrap());
    assert_eq!(a.byte(first * PAGE), 1);
    for window in 0..count as u32 / 2 {
        a.drop_window(window).unwrap();
    }
    assert_eq!(a.byte(first * PAGE), 0);
    drop(a);
    assert!(mappings_of(&region).is_empty());
    b.assert_works();
    assert_filled(&region, 1);
    (count, text)
}

// rule 10
#[test]
fn windows_at_new_places_stay_below_the_limit() {
    alone("windows_at_new_places_stay_below_the_limit", || {
        let host = RegionHost::new();
        let region = filled(&host, "music", GRANULE, 1);
        let mut limits = Limits::default();
        limits.mappings = 1000;
        let mut a = Puppet::with_limits(&host, "a", limits);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let first = a.pages().unwrap();
        assert!(a.grow(20_000).unwrap() > 0);
        let before = count_of_mappings();
        let mut refused = 0;
        for round in 0..9_000 {
            let at = (first + 2 * round) * PAGE;
            // Used pages keep the kernel from merging the mappings.
            let touch = |a: &mut Puppet| a.poke(at, 1).unwrap();
            touch(&mut a);
            match a.show(number, 0, GRANULE, READ, at).unwrap() {
                Ok(window) => {
                    a.drop_window(window).unwrap();
                    touch(&mut a);
                }
                Err(ErrorCode::Exhausted(text)) => {
                    assert!(text.contains("`mappings`"), "{text}");
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
            if round % 500 == 0 {
                assert!(count_of_mappings() <= before + 1000);
            }
        }
        assert!(count_of_mappings() <= before + 1000);
        assert!(refused > 0, "nothing was counted");
        // A place that had a window before costs nothing.
        let window = a
            .show(number, 0, GRANULE, READ, first * PAGE)
            .unwrap()
            .unwrap();
        a.drop_window(window).unwrap();
        drop(a);
        // The reservation is kept for the next memory, in no more pieces than at first.
        assert!(count_of_mappings() <= before);
        Puppet::new(&host, "b").assert_works();
    });
}

// The process's own faults.

/// An environment variable that is set in a child process, which must fault.
const CHILD: &str = "TOMBOLO_TEST_CHILD";

/// Returns whether this is the child process.
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[track_caller]
fn child(name: &str) -> std::process::ExitStatus {
    let output = again(name).env(CHILD, "1").output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output.status
}

/// Writes to a read-only page.
#[allow(unsafe_code)]
fn write_to_a_read_only_page() {
    // SAFETY: the kernel chooses the address.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: none. The fault is intended.
    unsafe { page.cast::<u8>().write_volatile(1) }
}

/// Writes to an address without a page.
#[allow(unsafe_code)]
fn write_to_nowhere() {
    // SAFETY: none. The fault is intended.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }
}

extern "C" fn noticed(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // The handler received the kernel's arguments.
    let code = if info.is_null() { 43 } else { 42 };
    exit_now(code);
}

extern "C" fn noticed_plainly(_: libc::c_int) {
    exit_now(44);
}

#[allow(unsafe_code)]
fn exit_now(code: i32) {
    // SAFETY: `_exit` may be called in a signal handler.
    unsafe { libc::_exit(code) }
}

#[allow(unsafe_code)]
fn handle_faults(handler: usize, flags: libc::c_int) {
    // SAFETY: a zeroed `sigaction` is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the pointer is valid for the call, and the handler has the right signature.
    let result = unsafe { libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Creates a guest with windows, which the process's own faults do not concern.
fn busy_guest(host: &RegionHost) -> Puppet {
    let mut a = Puppet::new(host, "a");
    let number = a.create("music", GRANULE).unwrap().unwrap();
    let (_, at) = a.shown(number, 1, READ);
    assert_eq!(a.byte(at), 0);
    a
}

// rule 9
#[test]
fn unrelated_fault_reaches_the_earlier_handler() {
    let name = "unrelated_fault_reaches_the_earlier_handler";
    if is_child() {
        handle_faults(
            noticed as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        );
        let host = RegionHost::new();
        let mut a = busy_guest(&host);
        // Faults of guests do not reach it.
        a.poke(u32::MAX, 1).unwrap_err();
        write_to_a_read_only_page();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).code(), Some(42));
}

// rule 9
#[test]
fn unmapped_fault_reaches_a_plain_handler() {
    let name = "unmapped_fault_reaches_a_plain_handler";
    if is_child() {
        handle_faults(noticed_plainly as *const () as usize, libc::SA_ONSTACK);
        let host = RegionHost::new();
        let _a = busy_guest(&host);
        write_to_nowhere();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).code(), Some(44));
}

// rule 9
#[test]
fn fault_beside_windows_reaches_the_handler() {
    let name = "fault_beside_windows_reaches_the_handler";
    if is_child() {
        handle_faults(
            noticed as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        );
        let host = RegionHost::new();
        let mut a = Puppet::new(&host, "a");
        let region = filled(&host, "music", GRANULE, 1);
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.shown(number, 1, READ);
        let base = mappings_of(&region)[0].range.start - u64::from(at);
        // The address is past the accessible part.
        let beyond = base + (1 << 32) - 4096;
        write_at(beyond);
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).code(), Some(42));
}

#[allow(unsafe_code)]
fn write_at(address: u64) {
    let at = std::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(address).unwrap());
    // SAFETY: none. The fault is intended.
    unsafe { at.write_volatile(1) }
}

// rule 9
#[test]
fn unhandled_fault_kills_the_process() {
    let name = "unhandled_fault_kills_the_process";
    if is_child() {
        handle_faults(libc::SIG_DFL, 0);
        let host = RegionHost::new();
        let _a = busy_guest(&host);
        write_to_a_read_only_page();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).signal(), Some(libc::SIGSEGV));
}

// rule 9
#[test]
fn fault_reaches_the_handler_of_std() {
    let name = "fault_reaches_the_handler_of_std";
    if is_child() {
        let host = RegionHost::new();
        let _a = busy_guest(&host);
        write_to_nowhere();
        unreachable!("it did not fault");
    }
    assert_eq!(child(name).signal(), Some(libc::SIGSEGV));
}

// Preparation.

#[test]
fn prepare_fails_after_an_engine_was_created() {
    alone("prepare_fails_after_an_engine_was_created", || {
        let engine = Engine::new(&Config::new()).unwrap();
        for _ in 0..2 {
            let error = tombolo::prepare(&mut Config::new()).unwrap_err();
            assert!(matches!(error, PrepareError::EngineBefore), "{error:?}");
            assert!(
                error.to_string().contains("before the first `Engine::new`"),
                "{error}"
            );
        }

        // The process continues, and regions work by copies.
        let mut linker = Linker::new(&engine);
        tombolo::add_to_linker(&mut linker).unwrap();
        let component = Component::new(&engine, handmade()).unwrap();
        let host = RegionHost::new();
        let mut store = Store::new(&engine, State::new(host.context("a").build()));
        linker.instantiate(&mut store, &component).unwrap();
        let region = filled(&host, "music", GRANULE, 1);
        region.write_at(5, &[2]).unwrap();
        assert_eq!(region.read_at(4..6).unwrap(), [1, 2]);
    });
}

#[test]
fn prepare_fails_if_another_handler_runs_first() {
    alone("prepare_fails_if_another_handler_runs_first", || {
        tombolo::prepare(&mut Config::new()).unwrap();
        handle_faults(
            noticed as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        );
        let error = tombolo::prepare(&mut Config::new()).unwrap_err();
        assert!(matches!(error, PrepareError::ForeignHandler), "{error:?}");
    });
}

#[test]
fn prepare_succeeds_after_an_earlier_handler() {
    alone("prepare_succeeds_after_an_earlier_handler", || {
        handle_faults(
            noticed as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        );
        tombolo::prepare(&mut Config::new()).unwrap();
        busy_guest(&RegionHost::new()).assert_works();
    });
}

#[test]
fn prepare_overrides_unsuitable_settings() {
    let mut config = Config::new();
    config
        .memory_reservation(0)
        .memory_init_cow(true)
        .signals_based_traps(false);
    tombolo::prepare(&mut config).unwrap();
}

// The file behind a region.

// rule 9
#[test]
#[allow(unsafe_code)]
fn file_of_a_region_is_sealed() {
    let host = RegionHost::new();
    let region = filled(&host, "sealed music", GRANULE + 1, 1);
    let descriptors = Process::current().descriptors().unwrap();
    let is_its = |name: &std::ffi::OsStr| name == "tombolo:sealed music";
    let found: Vec<_> = descriptors
        .iter()
        .filter(|it| it.memfd().is_some_and(is_its))
        .collect();
    let [descriptor] = found[..] else {
        panic!("{found:?}")
    };
    let fd = i32::try_from(descriptor.number).unwrap();
    let last_error = || std::io::Error::last_os_error().raw_os_error().unwrap();

    for length in [0, 1, GRANULE, 2 * GRANULE - 1, 2 * GRANULE + 1, 1 << 40] {
        // SAFETY: the descriptor is that of the region, which lives.
        let result = unsafe { libc::ftruncate(fd, length.cast_signed()) };
        assert_eq!((result, last_error()), (-1, libc::EPERM), "{length:#x}");
    }
    // SAFETY: as above, and the bytes are readable.
    let result = unsafe { libc::pwrite(fd, [1u8].as_ptr().cast(), 1, 3 << 16) };
    assert_eq!((result, last_error()), (-1, libc::EPERM));
    // SAFETY: as above.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    let wanted = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    assert_eq!(seals & wanted, wanted);
    // A file that is sealed against writing could not be purged.
    assert_eq!(seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE), 0);
    for seal in [
        libc::F_SEAL_WRITE,
        libc::F_SEAL_FUTURE_WRITE,
        libc::F_SEAL_GROW,
    ] {
        // SAFETY: as above.
        let result = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seal) };
        assert_eq!((result, last_error()), (-1, libc::EPERM));
    }
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    assert_ne!(flags & libc::FD_CLOEXEC, 0);

    // Since Linux 6.3, the file is not executable and cannot become so.
    // SAFETY: as above.
    let result = unsafe { libc::fchmod(fd, 0o777) };
    const F_SEAL_EXEC: libc::c_int = 0x20;
    if seals & F_SEAL_EXEC != 0 {
        assert_eq!((result, last_error()), (-1, libc::EPERM));
        let path = format!("/proc/self/fd/{fd}");
        let error = std::process::Command::new(path).spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
    assert_filled(&region, 1);
}
