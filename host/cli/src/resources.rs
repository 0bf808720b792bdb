//! The threads and file descriptors that the program needs to run guests.
//!
//! tokio and wasmtime panic, or wait forever, if they cannot get a thread or a descriptor while
//! they start. So the program checks both before.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};
use tokio::runtime::{Builder, Runtime};

use super::failure::CommandFailure;
use tombolo::internal::compile_in_parallel;

/// The fewest further threads that an app needs: the ticker, one for blocking work such as file
/// operations, the watcher of memory pressure, the keeper of the margin, and one that writes
/// guests' output. The main thread, the thread for signals and the thread that writes to stderr
/// run already: eight in all, as docs/exit-codes.md says.
const MIN_THREADS: usize = 5;
/// Threads that do not run guests: the fewest, and some more for blocking work.
const OTHER_THREADS: usize = 9;
/// The most descriptors that are open at once before a guest opens any.
const DESCRIPTORS: usize = 24;

/// Fails if the process can open too few descriptors. Must be called while there is one thread,
/// because others open descriptors as well.
pub(super) fn check_descriptors() -> Result<(), CommandFailure> {
    let opened: io::Result<Vec<_>> = (0..DESCRIPTORS)
        .map(|_| Ok(eventfd(0, EventfdFlags::CLOEXEC)?))
        .collect();
    opened
        .map(drop)
        .with_context(|| format!("this process cannot open {DESCRIPTORS} more file descriptors"))
        .map_err(|error| {
            CommandFailure::new(error).hint(
                "raise RLIMIT_NOFILE (`ulimit -n`), or close descriptors that this program \
                 inherits; each region needs one more",
            )
        })
}

/// Creates the runtime that runs the guests, with a thread for each processor, or with as many
/// as can be started.
pub(super) fn runtime() -> Result<Runtime, CommandFailure> {
    super::stderr::start();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = workers + OTHER_THREADS;
    let mut refused = None;
    let had = hold_threads(wanted, |had, error| {
        refused = error;
        // While the threads are held, because compiling threads never end.
        let parallel = compile_in_parallel(had == wanted);
        tracing::debug!(threads = had, parallel, "available threads");
        had
    });
    if had < MIN_THREADS {
        return Err(no_threads(had, refused));
    }
    let mut builder = match had.saturating_sub(OTHER_THREADS) {
        0 | 1 => Builder::new_current_thread(),
        more => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(more);
            builder
        }
    };
    if had < wanted {
        tracing::warn!(
            "this process can start only {had} of {wanted} threads: fewer guests run in \
             parallel, or only one at a time; raise RLIMIT_NPROC (`ulimit -u`) or the cgroup's \
             `pids.max`"
        );
    }
    // The thread for blocking work stays when it is idle. If it could not be started again,
    // blocking work would wait forever.
    builder.enable_all().thread_keep_alive(Duration::MAX);
    // tokio panics if other processes have taken the threads meanwhile.
    let built = catch_unwind(AssertUnwindSafe(|| {
        let runtime = builder.build()?;
        let first = runtime.spawn_blocking(|| {});
        runtime.block_on(first).map_err(io::Error::other)?;
        Ok::<_, io::Error>(runtime)
    }));
    match built {
        Ok(built) => built
            .context("cannot create the runtime")
            .map_err(CommandFailure::new),
        Err(_) => Err(no_threads(had, refused)),
    }
}

fn no_threads(had: usize, refused: Option<io::Error>) -> CommandFailure {
    let what =
        format!("this process can start only {had} more threads, and needs at least {MIN_THREADS}");
    let error = match refused {
        Some(error) => anyhow::Error::new(error).context(what),
        None => anyhow::Error::msg(what),
    };
    CommandFailure::new(error).hint(THREADS)
}

/// The hint for a thread that cannot be started.
pub(super) const THREADS: &str = "raise RLIMIT_NPROC (`ulimit -u`), which counts the \
     threads of all processes of the user, or the cgroup's `pids.max`";

/// Starts `wanted` threads, or as many as possible, and calls `run` with their number and the
/// error that prevented more. The threads have ended when this returns.
fn hold_threads<T>(wanted: usize, run: impl FnOnce(usize, Option<io::Error>) -> T) -> T {
    let gate = Mutex::new(());
    let pass = || drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
    let (done, left) = std::thread::scope(|scope| {
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let mut had = 0;
        let mut refused = None;
        while had < wanted && refused.is_none() {
            // They do nothing, so their stacks can be small.
            let thread = std::thread::Builder::new().stack_size(64 << 10);
            match thread.spawn_scoped(scope, pass) {
                Ok(_) => had += 1,
                Err(error) => refused = Some(error),
            }
        }
        let done = run(had, refused);
        let left = threads().map(|all| all.saturating_sub(had));
        drop(closed);
        (done, left)
    });
    // The kernel still counts a joined thread for a moment.
    for _ in 0..10_000 {
        if threads() <= left {
            break;
        }
        std::thread::yield_now();
    }
    done
}

/// Returns the number of threads of this process, if `/proc` is mounted.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}
