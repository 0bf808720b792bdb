//! Writes to read-only windows that wasmtime cannot turn into a trap.
//!
//! A plain wasm store to a read-only page faults inside compiled code: wasmtime
//! traps it. But `memory.copy`, small inlined copies, and the lowering of a list
//! to an address that a guest's `realloc` chose write from host code, where
//! wasmtime knows of no trap: it passes the fault on, and the process would end.
//! So Tombolo is next in line. Where a read-only window explains the fault, the
//! window's pages are replaced by private copies, the write goes there and is
//! harmless, and the guest is ended at the next chance. Every other fault is
//! passed on to whoever handled faults before.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::absorb::Absorbed;
use super::allowance;
use super::kernel::ask;
use super::signal::action;
use super::table::record_at;

struct Previous(libc::sigaction);

// SAFETY: plain data and a function's address, the same in every thread.
unsafe impl Send for Previous {}
// SAFETY: as above.
unsafe impl Sync for Previous {}

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// Installs the handler, once for the process.
///
/// It must be in place before the process's first wasmtime `Engine`, so that
/// wasmtime's handler goes first.
///
/// # Errors
///
/// The error of the kernel.
pub fn install() -> io::Result<()> {
    static INSTALLED: std::sync::Mutex<bool> = std::sync::Mutex::new(false);
    let mut installed = INSTALLED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    // The handler looks at it.
    allowance::look();
    // Noted before the handler can be called.
    let _ = PREVIOUS.set(Previous(action(libc::SIGSEGV)?));
    // SAFETY: a zeroed `sigaction` is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    action.sa_sigaction = handler as *const () as usize;
    // On the alternate stack, since the fault may be an overflow of the other;
    // without deferring, since a fault in the handler is to end the process
    // rather than to hang it.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    ask(|| {
        // SAFETY: the handler is async-signal-safe (see there) and stays for the
        // life of the process.
        done(unsafe { libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) })
    })?;
    *installed = true;
    Ok(())
}

fn done(result: libc::c_int) -> Result<(), Errno> {
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

/// Whose handler the kernel calls first.
pub(crate) enum Front {
    Us,
    Wasmtime,
    Other,
}

/// Tells who is in front. Called right after an engine was made: wasmtime
/// installs its handler with the process's first one, so whoever is in front of
/// us after ours is wasmtime, and whoever comes later is not.
///
/// # Errors
///
/// The error of the kernel.
pub(crate) fn front() -> io::Result<Front> {
    static WASMTIME: OnceLock<usize> = OnceLock::new();
    let now = action(libc::SIGSEGV)?;
    Ok(if now.sa_sigaction == handle as *const () as usize {
        Front::Us
    } else if now.sa_sigaction == *WASMTIME.get_or_init(|| now.sa_sigaction) {
        Front::Wasmtime
    } else {
        Front::Other
    })
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is this thread's.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the location is valid for as long as the thread lives.
    let saved = unsafe { *errno };
    // SAFETY: the kernel passes a valid `siginfo_t` with `SA_SIGINFO`, which
    // nobody changes while the handler runs.
    let fault = unsafe { &*info };
    let code = fault.si_code;
    // SAFETY: for SIGSEGV the address is set.
    let address = unsafe { fault.si_addr() }.addr();
    let absorbed = match code {
        // SAFETY: an access to a memory that is not the doing of whoever has
        // its store in hand is a bug that safe code cannot make; so this
        // thread has it, and the memory is not dropped under it.
        SEGV_ACCERR => match unsafe { record_at(address) } {
            Some(record) => record.absorb(address),
            None => Absorbed::Unexplained,
        },
        _ => Absorbed::Unexplained,
    };
    // SAFETY: as above.
    unsafe { *errno = saved };
    if absorbed == Absorbed::Refused {
        say(REFUSED);
    }
    if absorbed != Absorbed::Yes {
        pass_on(signal, info, context);
    }
}

/// The line that is printed before the process ends.
const REFUSED: &str = "tombolo: a guest wrote to its read-only window, and for a second the kernel \
                       refused all that would have let the process go on; raise RLIMIT_AS, or \
                       free memory\n";

/// Prints a line to standard error, unless that would block. Async-signal-safe.
fn say(line: &str) {
    let stderr = rustix::stdio::stderr();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // There is room for a line then, also in a pipe.
    if poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&now)) == Ok(1) {
        let _ = rustix::io::write(stderr, line.as_bytes());
    }
}

/// The page is there, but does not allow the access. In a page that can be read
/// this can only have been a write.
const SEGV_ACCERR: i32 = 2;

/// Does what would have been done without us.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    type Plain = extern "C" fn(libc::c_int);
    let Some(Previous(previous)) = PREVIOUS.get() else {
        return;
    };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The access is made again when we return, and ends the process in
            // the normal way.
            let restored = ask(|| {
                // SAFETY: the action is one that was in place before.
                done(unsafe { libc::sigaction(signal, previous, std::ptr::null_mut()) })
            });
            if restored.is_err() {
                // Rather than fault for ever.
                // SAFETY: ends the process, and may be called in a signal handler.
                unsafe { libc::abort() }
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the kernel had this address as a handler of this kind.
            let handler = unsafe { std::mem::transmute::<usize, Full>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: as above.
            let handler = unsafe { std::mem::transmute::<usize, Plain>(handler) };
            handler(signal);
        }
    }
}

/// Notes where wasm faulted, for the trap's message: wasmtime does not tell.
/// Called by wasmtime's own handler, before it makes the trap.
pub fn note_wasm_faults<T: 'static>(
    store: &mut wasmtime::Store<T>,
    address: std::sync::Arc<AtomicUsize>,
) {
    use wasmtime::unix::StoreExt;
    let note = move |signal: libc::c_int, info: *const libc::siginfo_t, _: *const libc::c_void| {
        if signal == libc::SIGSEGV {
            // SAFETY: wasmtime passes on what the kernel passed to it.
            let fault = unsafe { &*info };
            // SAFETY: for SIGSEGV the address is set.
            let at = unsafe { fault.si_addr() };
            address.store(at.addr(), Ordering::Relaxed);
        }
        false
    };
    // SAFETY: the closure does one atomic store and no more, which is
    // async-signal-safe, and declines every signal.
    unsafe { store.set_signal_handler(note) };
}
