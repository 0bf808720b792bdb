//! The threads and file descriptors that the program needs to run guests.
//!
//! tokio and wasmtime panic, or wait forever, if a thread or a descriptor is refused while
//! they start. So the program makes sure of both before.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};
use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;
use tombolo::internal::compile_in_parallel;

/// The fewest threads that an app needs besides those that run already. They tick, do work
/// that blocks (such as file operations), watch memory pressure, keep the margin of memory,
/// and write the output of guests. The main thread, the one for signals and the one that
/// writes to stderr run already: eight in all, as docs/exit-codes.md says.
const FEWEST: usize = 5;
/// Threads besides those that run guests: the fewest, and some more for work that blocks.
const BESIDES: usize = 9;
/// The most descriptors that are open at once before a guest has any.
const DESCRIPTORS: usize = 24;

/// Fails if the process can open too few descriptors. To be called while there is one
/// thread: others open some as well.
pub(super) fn descriptors() -> Result<(), Failure> {
    let opened: io::Result<Vec<_>> = (0..DESCRIPTORS)
        .map(|_| Ok(eventfd(0, EventfdFlags::CLOEXEC)?))
        .collect();
    opened
        .map(drop)
        .with_context(|| format!("this process cannot open {DESCRIPTORS} more file descriptors"))
        .map_err(|error| {
            Failure::new(error).hint(
                "the limit is RLIMIT_NOFILE (`ulimit -n`), and each region takes one more; or \
                 close what this program has inherited",
            )
        })
}

/// Makes the runtime that guests run on: with a thread for each processor, or with as many
/// as there can be.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    super::say::start();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = workers + BESIDES;
    let mut refused = None;
    let had = held(wanted, |had, error| {
        refused = error;
        // Now, while the threads are held: those that compile are never given back.
        let parallel = compile_in_parallel(had == wanted);
        tracing::debug!(threads = had, parallel, "threads were looked for");
        had
    });
    if had < FEWEST {
        return Err(no_threads(had, refused));
    }
    let mut builder = match had.saturating_sub(BESIDES) {
        0 | 1 => Builder::new_current_thread(),
        more => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(more);
            builder
        }
    };
    if had < wanted {
        tracing::warn!(
            "this process can start {had} more threads of the {wanted} that it wants: fewer \
             guests run in parallel, or only one at a time; the limit is RLIMIT_NPROC \
             (`ulimit -u`) or the cgroup's `pids.max`"
        );
    }
    // The thread for work that blocks stays when it is idle: there may be no other one later,
    // and its work would wait for good.
    builder.enable_all().thread_keep_alive(Duration::MAX);
    // Other processes may have started threads meanwhile. tokio panics then.
    let built = catch_unwind(AssertUnwindSafe(|| {
        let runtime = builder.build()?;
        let first = runtime.spawn_blocking(|| {});
        runtime.block_on(first).map_err(io::Error::other)?;
        Ok::<_, io::Error>(runtime)
    }));
    match built {
        Ok(built) => built
            .context("cannot wait for events")
            .map_err(Failure::new),
        Err(_) => Err(no_threads(had, refused)),
    }
}

fn no_threads(had: usize, refused: Option<io::Error>) -> Failure {
    let what = format!("this process can start {had} more threads, and needs at least {FEWEST}");
    let error = match refused {
        Some(error) => anyhow::Error::new(error).context(what),
        None => anyhow::Error::msg(what),
    };
    Failure::new(error).hint(THREADS)
}

/// The hint about the limits of threads.
pub(super) const THREADS: &str = "the limit of threads is RLIMIT_NPROC (`ulimit -u`), which \
     counts those of all processes of the user, or the cgroup's `pids.max`";

/// Starts `wanted` threads, or as many as possible, and holds them while `run` is told how
/// many there are, and why there are not more. When this returns, they are gone.
fn held<T>(wanted: usize, run: impl FnOnce(usize, Option<io::Error>) -> T) -> T {
    let gate = Mutex::new(());
    let pass = || drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
    let (done, left) = std::thread::scope(|scope| {
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let mut had = 0;
        let mut refused = None;
        while had < wanted && refused.is_none() {
            // They do nothing: their stacks may be small.
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
    // A thread that was joined still counts for the kernel for a moment.
    for _ in 0..10_000 {
        if threads() <= left {
            break;
        }
        std::thread::yield_now();
    }
    done
}

/// Counts the threads of this process, if `/proc` is there.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}
