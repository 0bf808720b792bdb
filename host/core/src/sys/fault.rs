//! Writes to read-only windows that wasmtime cannot turn into a trap.
//!
//! A store of wasm to a `read` window is a trap by itself. Writes by *host* code, such as
//! `memory.copy`, small inlined copies, or the lowering of a list to where a guest's `realloc`
//! pointed, are not: wasmtime passes the fault on, and the process would end. So `prepare`
//! installs a handler for SIGSEGV before the first engine, which makes it second in line, after
//! wasmtime's. If a mapped `read` window explains the fault, the handler replaces the window's
//! pages by private copies (see `absorb`). The write goes there and harms nobody.
//! The store is marked, and its guest is terminated at its next host call, at the next tick, or
//! when its export returns. Every other fault goes to the handler that was installed before.
//! `prepare` proves all this by trying, once per call, and fails with a reason if it does not
//! work.
//!
//! # Which faults are absorbed
//!
//! All of these must hold:
//!
//! - a SIGSEGV of the kind "page present, access not permitted";
//! - an address in a memory of Tombolo;
//! - a mapped window there that only reads, so that the access was a write;
//! - in stores that Tombolo runs, a thread-local that confirms that this thread entered that
//!   store, set around each poll of a call.
//!
//! In an embedder's store Tombolo does not see calls begin, and the last condition is left out:
//! a write there by code without the store is undefined behaviour of the embedder's code
//! already.
//!
//! # Async-signal safety
//!
//! The handler reads atomics, tries one lock, searches a tree, makes system calls (`mmap`, and
//! `nanosleep` after a refusal), and stores two values and a flag. It allocates nothing and
//! preserves `errno`. The thread-local is constant-initialised and has no destructor. The
//! handler runs on the alternate stack. Only code that does not touch guest memory holds the
//! lock, so this thread never does. Another thread may hold it for an instant, if an embedder
//! calls `RegionCtx::check` on a context that it took out of its store. After 100,000 attempts
//! the fault counts as unexplained.
//!
//! # Order of the handlers
//!
//! Wasmtime's handler comes first, or plain stores would get copies instead of traps. `prepare`
//! checks that and tries it.

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
    // On the alternate stack, because the fault may be an overflow of the other one. Without
    // deferring, because a fault in the handler is to end the process and not to hang it.
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

/// The owner of the handler that the kernel calls first.
pub(crate) enum Front {
    Us,
    Wasmtime,
    Other,
}

/// Returns the owner of the first handler. To be called right after an engine was created.
/// Wasmtime installs its handler with the first engine of the process. So a handler that is in
/// front of ours then is wasmtime's, and a later one is not.
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
        // SAFETY: safe code cannot access a memory without its store in hand. So this thread
        // has the store, and the memory is not dropped meanwhile.
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

/// The page exists, but does not permit the access. In a readable page this can only have been a
/// write.
const SEGV_ACCERR: i32 = 2;

/// Calls the handler that was installed before ours.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    type Plain = extern "C" fn(libc::c_int);
    let Some(Previous(previous)) = PREVIOUS.get() else {
        return;
    };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The access is made again after the return, and ends the process in the normal way.
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

/// Makes a store note the address of each fault of wasm, for the trap's message. Wasmtime does
/// not report it. Its handler calls this before it makes the trap.
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
