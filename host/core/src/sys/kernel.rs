//! System calls. Those of `sys` that the kernel may refuse, and whose refusal matters, go through
//! [`ask`].
//!
//! The kernel may refuse any of them at any time: because memory, VMAs or descriptors are used
//! up, because a resource limit was lowered, or because of a filter of system calls. The tests
//! refuse each single one in turn.

use rustix::io::Errno;

/// Makes a system call.
///
/// It is async-signal-safe if `call` is.
///
/// # Errors
///
/// The error of `call`.
#[inline]
pub(super) fn ask<R, E: From<Errno>>(call: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
    #[cfg(test)]
    if let Some(errno) = refusals::next() {
        return Err(errno.into());
    }
    call()
}

/// Returns the size of the machine's pages in bytes.
///
/// rustix finds it in the program's own headers, which stops Valgrind.
#[inline]
pub(super) fn page_size() -> usize {
    // SAFETY: it only reads what the C library knows.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("Linux has pages")
}

/// Calls that the tests refuse.
#[cfg(test)]
pub(crate) mod refusals {
    use std::cell::Cell;

    use super::Errno;

    /// The calls of a thread to refuse, numbered from 1.
    #[derive(Clone, Copy)]
    struct Plan {
        first: u32,
        count: u32,
        errno: Errno,
    }

    thread_local! {
        // Const and without a destructor, so that a signal handler may use them.
        static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }

    /// Counts a call, and returns the error with which it is refused.
    pub(super) fn next() -> Option<Errno> {
        let number = CALLS.get() + 1;
        CALLS.set(number);
        let plan = PLAN.get()?;
        let refused = plan.first <= number && number - plan.first < plan.count;
        refused.then_some(plan.errno)
    }

    /// Runs `act` while `count` calls of this thread are refused, from the call with
    /// the number `first` on. Returns how many calls it made.
    pub(crate) fn during(first: u32, count: u32, errno: Errno, act: impl FnOnce()) -> u32 {
        /// Also if `act` panics.
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                PLAN.set(None);
            }
        }
        let _reset = Reset;
        CALLS.set(0);
        PLAN.set(Some(Plan {
            first,
            count,
            errno,
        }));
        act();
        CALLS.get()
    }

    /// Runs `act` without refusals, so that a test can look at something in between.
    pub(crate) fn without<R>(act: impl FnOnce() -> R) -> R {
        let (plan, calls) = (PLAN.take(), CALLS.get());
        let result = act();
        PLAN.set(plan);
        CALLS.set(calls);
        result
    }
}
