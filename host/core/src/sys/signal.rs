//! Signal masks and actions: those that the process inherits, and those that it changes.
//!
//! A fault whose signal is blocked ends the process, whatever handlers there are. So `prepare`
//! unblocks SIGSEGV, SIGBUS, SIGILL and SIGFPE in its thread, and so does each thread that polls
//! a guest of Tombolo's, the first time. SIGXFSZ is ignored unless somebody handles it.

use std::cell::Cell;
use std::io;

use super::kernel::ask;

/// The signals that a fault raises in the thread that caused it.
const FAULTS: [libc::c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// Unblocks, in this thread, the signals of faults, which traps need. Costs a system call the
/// first time in each thread, and nothing afterwards.
pub fn unblock_faults() {
    thread_local! {
        // Const and without a destructor: looked at around each poll of a guest.
        static DONE: Cell<bool> = const { Cell::new(false) };
    }
    if !DONE.get() {
        // Refused only for a set that is none.
        let _ = unblock(&FAULTS);
        DONE.set(true);
    }
}

/// Unblocks signals in this thread, and in those that it starts from now on.
///
/// # Errors
///
/// The error of the kernel, which does not refuse this.
pub fn unblock(signals: &[libc::c_int]) -> io::Result<()> {
    // SAFETY: a zeroed `sigset_t` is a valid one, as plain bits.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: as above.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    let old = std::ptr::null_mut();
    ask(|| {
        // SAFETY: the set is valid for the call, and the old one is not asked for. No code
        // of this crate relies on a signal being blocked.
        match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, old) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    })
}

/// Returns whether the process ignores a signal.
pub fn is_ignored(signal: libc::c_int) -> bool {
    action(signal).is_ok_and(|action| action.sa_sigaction == libc::SIG_IGN)
}

/// Makes the process ignore a signal if its action is the default, so that system calls
/// fail and the process lives. A handler stays, and gets the signal.
///
/// # Errors
///
/// The error of the kernel, which does not refuse this.
pub fn ignore_unless_handled(signal: libc::c_int) -> io::Result<()> {
    let mut action = action(signal)?;
    if action.sa_sigaction != libc::SIG_DFL {
        return Ok(());
    }
    action.sa_sigaction = libc::SIG_IGN;
    ask(|| {
        // SAFETY: the action is the one that was there, but for its handler, which is a
        // valid one that runs no code; the old one is not asked for.
        match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// Restores the default action of a signal that the process ignores. A handler stays.
///
/// # Errors
///
/// The error of the kernel, which does not refuse this.
pub fn restore_default(signal: libc::c_int) -> io::Result<()> {
    let mut action = action(signal)?;
    if action.sa_sigaction != libc::SIG_IGN {
        return Ok(());
    }
    action.sa_sigaction = libc::SIG_DFL;
    ask(|| {
        // SAFETY: the action is the one that was there, but for its handler, which is a
        // valid one that runs no code; the old one is not asked for.
        match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// Returns the action of a signal.
///
/// # Errors
///
/// The error of the kernel.
pub(super) fn action(signal: libc::c_int) -> io::Result<libc::sigaction> {
    // SAFETY: a zeroed `sigaction` is a valid one: the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    ask(|| {
        // SAFETY: the pointer is valid for the call, and asking changes nothing.
        match unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })?;
    Ok(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_blocked(signal: libc::c_int) -> bool {
        // SAFETY: a zeroed `sigset_t` is a valid one.
        let mut now: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is valid for the call, and asking changes nothing.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now) };
        // SAFETY: the set is valid.
        unsafe { libc::sigismember(&raw const now, signal) == 1 }
    }

    fn block(signal: libc::c_int) {
        // SAFETY: a zeroed `sigset_t` is a valid one.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is valid for the call.
        unsafe { libc::sigaddset(&raw mut set, signal) };
        // SAFETY: as above; this thread is the test's own.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    }

    #[test]
    fn faults_are_unblocked_and_nothing_else() {
        std::thread::spawn(|| {
            for signal in FAULTS {
                block(signal);
            }
            block(libc::SIGUSR2);
            unblock_faults();
            assert!(FAULTS.iter().all(|signal| !is_blocked(*signal)));
            assert!(is_blocked(libc::SIGUSR2), "others stay as they are");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn default_action_becomes_ignoring_and_handler_stays() {
        extern "C" fn handler(_: libc::c_int) {}
        // Nobody else in this process has to do with it.
        let signal = libc::SIGWINCH;
        assert!(!is_ignored(signal));
        ignore_unless_handled(signal).unwrap();
        assert!(is_ignored(signal));
        restore_default(signal).unwrap();
        assert!(!is_ignored(signal));
        ignore_unless_handled(signal).unwrap();
        let mut action = action(signal).unwrap();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as *const () as usize;
        // SAFETY: the handler does nothing.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        ignore_unless_handled(signal).unwrap();
        assert!(!is_ignored(signal));
    }
}
