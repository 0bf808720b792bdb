//! The identity of this process. A child that was forked without `exec` has its parent's
//! mappings, and must not touch their contents.
//!
//! A page that the kernel wipes in children (`MADV_WIPEONFORK`, Linux 4.14) detects a child.
//! Objects of a `RegionHost` from before the fork refuse to read, write, map, pin, purge and
//! create (`RegionError::Forked`). In a child of the C library's `fork` all linear memories are
//! inaccessible (see `table`). These are not covered: guards that were taken before the fork;
//! guests with windows in a child of a raw `clone`; before Linux 4.14, a child with its parent's
//! process id.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use super::kernel::ask;

/// An identity that distinguishes a process from those that it was forked from, by any means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(NonZeroU64);

/// The number that the next process takes. A child has a copy, which is beyond the
/// numbers of all the processes that it was forked from.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The means by which a process recognises itself.
enum Marker {
    /// By a number that the kernel wipes out in a child.
    Wiped(&'static AtomicU64),
    /// By its process id, if the kernel cannot wipe pages in children: before Linux 4.14.
    Identity,
}

fn marker() -> &'static Marker {
    static MARKER: OnceLock<Marker> = OnceLock::new();
    MARKER.get_or_init(|| wiped_page().map_or(Marker::Identity, Marker::Wiped))
}

fn wiped_page() -> io::Result<&'static AtomicU64> {
    let length = super::kernel::page_size();
    let page = ask(|| {
        // SAFETY: the kernel chooses the address, so that nothing that exists is
        // replaced.
        unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
    })?;
    ask(|| {
        // SAFETY: that is the page that was just mapped, and it is zeros already.
        unsafe { madvise(page, length, Advice::LinuxWipeOnFork) }
    })?;
    // SAFETY: the page is there for the life of the process, aligned, and zeros,
    // which are a number; all accesses go through this reference.
    Ok(unsafe { &*page.cast::<AtomicU64>() })
}

impl Process {
    /// Returns the process that runs.
    pub(crate) fn current() -> Process {
        let number = match marker() {
            Marker::Identity => u64::from(std::process::id()),
            Marker::Wiped(number) => match number.load(Ordering::Relaxed) {
                0 => {
                    let next = NEXT.fetch_add(1, Ordering::Relaxed);
                    match number.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
                        Ok(_) => next,
                        Err(other) => other,
                    }
                }
                number => number,
            },
        };
        Process(NonZeroU64::new(number).expect("neither kind of number is zero"))
    }

    /// Returns an error if the process that runs is another one: a child of it.
    pub(crate) fn check(self) -> Result<(), Forked> {
        match self == Process::current() {
            true => Ok(()),
            false => Err(Forked),
        }
    }
}

/// A function that the C library's `fork` calls.
pub(super) type ForkHandler = Option<extern "C" fn()>;

/// Makes the C library's `fork` call functions: before it, and after it in the parent and in the
/// child. They must be async-signal-safe, because another thread may hold any lock.
///
/// # Errors
///
/// If there is no memory for it.
pub(super) fn at_fork(
    before: ForkHandler,
    in_parent: ForkHandler,
    in_child: ForkHandler,
) -> io::Result<()> {
    unsafe extern "C" {
        // In every C library of Linux, though not in the crate `libc`.
        fn pthread_atfork(
            before: ForkHandler,
            in_parent: ForkHandler,
            in_child: ForkHandler,
        ) -> libc::c_int;
    }
    // SAFETY: the functions are async-signal-safe, as callers ensure, and are there for the life
    // of the process.
    match unsafe { pthread_atfork(before, in_parent, in_child) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A refusal in a process that was forked from the one that created the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forked;

impl fmt::Display for Forked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this process was forked from the one that created the `RegionHost`, and shares the \
             memory of its regions without their lock; create a new `RegionHost` after the fork, \
             or use `exec`",
        )
    }
}

impl std::error::Error for Forked {}

impl From<Forked> for io::Error {
    fn from(forked: Forked) -> io::Error {
        io::Error::other(forked)
    }
}
