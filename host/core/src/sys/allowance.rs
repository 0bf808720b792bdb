//! The memory that resource limits leave to the process, which guests must not use up.
//!
//! Linear memories are private memory, which RLIMIT_DATA counts, and so is the host's
//! own heap. If a guest could grow until the kernel refuses, the next allocation of the
//! host would end the process. A window is shared memory: it takes private memory out of
//! the count, and puts it back when it ends.
//!
//! So a memory grows, and private pages replace a window, only if 16 MiB stay free below
//! `RLIMIT_DATA` and `RLIMIT_AS`. Otherwise a growth is refused, and shared zero pages replace
//! the window.

use std::sync::OnceLock;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::process::{Resource, getrlimit};

use super::kernel::ask;
use super::unmap::unmap;

/// The bytes to leave to the host.
const MARGIN: usize = 16 << 20;

static LIMITED: OnceLock<bool> = OnceLock::new();

/// Returns whether there were limits at the first call. Limits that are set later are noticed
/// only when the kernel refuses.
pub(super) fn look() -> bool {
    *LIMITED.get_or_init(|| {
        let limits = [Resource::Data, Resource::As].map(getrlimit);
        limits.iter().any(|limit| limit.current.is_some())
    })
}

/// Returns whether there are limits. Async-signal-safe.
pub(super) fn is_limited() -> bool {
    LIMITED.get().copied().unwrap_or(false)
}

/// Returns whether the limits, if there are any, leave room for so many bytes of private memory
/// beside the host's own.
pub(super) fn has_room(bytes: usize) -> bool {
    !look() || bytes.checked_add(MARGIN).is_some_and(fits)
}

/// Asks the kernel by trying, because it counts in ways of its own.
fn fits(length: usize) -> bool {
    let both = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let mapped = ask(|| {
        // SAFETY: the kernel chooses the address, so that nothing that exists is
        // replaced.
        unsafe { mmap_anonymous(std::ptr::null_mut(), length, both, flags) }
    });
    let Ok(start) = mapped else {
        return false;
    };
    // SAFETY: the range was just mapped, and nobody else knows of it.
    unsafe { unmap(start.addr()..start.addr() + length) };
    true
}
