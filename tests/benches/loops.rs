//! One kind of call, many times: for counting instructions, and for comparing builds.
//!
//! ```text
//! loops KIND:TIMES:REPEATS[:BYTES] ...
//! ```
//!
//! The kinds are in `costs_user.rs`. Prints the least time, the quartiles and the longest time of
//! a call over the repeats, in nanoseconds. `--dynamic` before the kinds makes calls pass dynamic
//! values. `--subscriber` writes the spans and events of level `info` to nowhere.
//!
//! The host reads the monotonic clock for the guest before and after each repeat. So a dump by
//! callgrind at each reading has the calls of one repeat alone:
//!
//! ```text
//! LOOPS_ONE_THREAD=1 valgrind --tool=callgrind --dump-before='*monotonic_clock*now*' \
//!     --vex-iropt-register-updates=allregs-at-mem-access loops lend:1000:2
//! ```

use std::fs;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tombolo::Limits;
use tombolo_app::internal::{AppBuilderInternals as _, SharedCode};
use tombolo_app::{App, CommandExit, CommandSpec, Grant, GuestSpec};
use tombolo_test_util::run::{one_thread, threads};
use tombolo_tests::{artifacts, server};

fn main() {
    let (mut dynamic, code) = (false, SharedCode::default());
    for argument in std::env::args().skip(1) {
        match &*argument {
            // Cargo says so.
            "--bench" => {}
            "--dynamic" => dynamic = true,
            "--subscriber" => tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
                .with_writer(std::io::sink)
                .init(),
            kind => {
                let mut times = measure(kind, dynamic, &code);
                times.sort_by(f64::total_cmp);
                let at = |quarters: usize| times[(times.len() - 1) * quarters / 4];
                println!(
                    "{kind}\tleast {:.0}\tquartiles {:.0} {:.0} {:.0}\tmost {:.0}",
                    at(0),
                    at(1),
                    at(2),
                    at(3),
                    at(4),
                );
            }
        }
    }
}

/// Returns the times of a call, one for each repeat.
fn measure(kind: &str, dynamic: bool, code: &SharedCode) -> Vec<f64> {
    let read =
        |path: &str| -> Arc<[u8]> { fs::read(path).expect("the build script built it").into() };
    let out = tempfile::tempdir_in("/dev/shm").expect("it is a tmpfs");
    let guest = |name: &str, wasm: Arc<[u8]>, strand: &str| GuestSpec {
        strand: Some(strand.into()),
        dirs: vec![Grant {
            dir: Dir::open_ambient_dir(out.path(), ambient_authority()).expect("it is there"),
            host_path: out.path().to_path_buf(),
            guest_path: "/out".into(),
            read_only: false,
        }],
        inherit_stdio: true,
        ..GuestSpec::new(name, wasm)
    };
    let mut limits = Limits::default();
    limits.call_time = None;
    let command = CommandSpec {
        args: ["loop", kind, "rows"].map(str::to_owned).to_vec(),
        ..CommandSpec::default()
    };
    let near = server(&read(artifacts::COSTS_NEAR)).into();
    let far = server(&read(artifacts::COSTS_FAR)).into();
    let mut app = App::builder()
        .limits(limits)
        .share_code(code)
        .command(command)
        .guest(guest("user", read(artifacts::COSTS_USER), "one"))
        .guest(guest("near", near, "one"))
        .guest(guest("far", far, "far"));
    if dynamic {
        app = app.dynamic_calls();
    }
    // Valgrind runs one thread at a time.
    let runtime = match std::env::var_os("LOOPS_ONE_THREAD") {
        Some(_) => one_thread(),
        None => threads(2),
    };
    let outcome =
        runtime.block_on(async { app.start().await.expect("the app starts").run().await });
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    let text = fs::read_to_string(out.path().join("rows")).expect("it was written");
    let rows = text.lines().map(|line| line.split('\t').skip(3));
    let times = rows.flatten().map(|time| time.parse());
    times.map(|time| time.expect("it is a number")).collect()
}
