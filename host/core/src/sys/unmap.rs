//! The end of mappings, which the kernel may refuse.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::kernel::ask;

/// Whether a mapping of some file may be left in this process, though nothing refers to it.
static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// Notes that a mapping may be left.
pub(super) fn leave_behind() {
    LEFT_BEHIND.store(true, Ordering::SeqCst);
}

/// Returns whether a mapping may be left.
pub(super) fn is_left_behind() -> bool {
    LEFT_BEHIND.load(Ordering::SeqCst)
}

/// Unmaps a range. The kernel refuses if that would take one VMA more than the limit. Then the
/// range is made inaccessible. If the kernel refuses that as well, the range stays as it is, and
/// is never used again. Returns whether it is unmapped.
///
/// # Safety
///
/// The caller mapped all of the range, nothing else unmaps any of it, and nothing
/// refers to it any more.
pub(super) unsafe fn unmap(range: Range<usize>) -> bool {
    let length = range.end - range.start;
    if length == 0 {
        return true;
    }
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    let unmapped = ask(|| {
        // SAFETY: our caller promises it.
        unsafe { munmap(start, length) }
    });
    let Err(error) = unmapped else {
        return true;
    };
    leave_behind();
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    let closed = ask(|| {
        // SAFETY: as above.
        unsafe { mmap_anonymous(start, length, ProtFlags::empty(), flags) }
    });
    tracing::error!(
        %error,
        bytes = length,
        closed = closed.is_ok(),
        "the kernel does not unmap memory that nobody uses any more: its addresses are lost"
    );
    false
}
