//! All the unsafe code of this crate: the memory under a window, the import
//! `map`, and handles as numbers.
//!
//! What makes the slices of a [`Mapping`] sound is said in the documentation of
//! the crate.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::GRANULE;
use crate::access::sealed::Kind;
use crate::access::{Access, Live, Write};
use crate::bindings::regions::Region as Handle;
use crate::bindings::windows::Window as Shown;
use crate::error::Error;
use crate::regions::ErrorCode;

/// Memory of this guest that shows a part of a region.
///
/// ```text
///   ptr, on a granule            ptr + len          ptr + size, on a granule
///    |                              |                   |
///    [ bytes that were asked for   ][ rest, never shown ]
/// ```
pub(crate) struct Mapping<A> {
    // Fields are dropped in this order: first the window goes, then the memory
    // is freed. The allocator writes into what it gets back, and that must not
    // be the region any more.
    shown: Shown,
    memory: Memory,
    len: usize,
    access: PhantomData<A>,
}

impl<A: Kind> Mapping<A> {
    /// Maps `len` bytes, rounded up to granules, into memory made for it.
    pub(crate) fn new(handle: &Handle, offset: u64, len: u64) -> Result<Self, Error> {
        let too_long = || {
            Error::Exhausted(format!(
                "this guest's memory has no room for a window of {len} bytes"
            ))
        };
        let mapped = len.checked_next_multiple_of(GRANULE).ok_or_else(too_long)?;
        let memory = usize::try_from(mapped)
            .ok()
            .and_then(|size| Memory::new(size, offset))
            .ok_or_else(too_long)?;
        let shown = map(handle, offset, mapped, A::CODE, &memory)?;
        Ok(Self {
            shown,
            memory,
            // At most `mapped`, which is a `usize`.
            len: len as usize,
            access: PhantomData,
        })
    }

    /// Changes what the window is for.
    pub(crate) fn set_access<B: Kind>(self) -> Result<Mapping<B>, (Self, ErrorCode)> {
        if let Err(code) = self.shown.set_access(B::CODE) {
            return Err((self, code));
        }
        Ok(Mapping {
            shown: self.shown,
            memory: self.memory,
            len: self.len,
            access: PhantomData,
        })
    }

    /// How many bytes the window covers, whole granules.
    pub(crate) fn covered(&self) -> u64 {
        self.memory.size() as u64
    }
}

impl<A: Access> Mapping<A> {
    /// The bytes that the window shows. Only a window that is pinned gives them
    /// out (see the documentation of the crate).
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `memory` holds at least `len` bytes, fewer than `isize::MAX`
        // as every `Layout`; `map` made them the region's, so they have values;
        // and nobody writes them while the slice lives: other guests and the
        // host by the lock, this guest because a mutable slice needs `&mut
        // self`, and the receiver of a lend because a lend needs `&mut` to the
        // window or panics (see the documentation of the crate).
        unsafe { slice::from_raw_parts(self.memory.ptr.as_ptr(), self.len) }
    }
}

impl Mapping<Write> {
    /// The bytes that the window shows, to change them.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; and nobody else reads them either, since a
        // `write` window is the only one on its granules.
        unsafe { slice::from_raw_parts_mut(self.memory.ptr.as_ptr(), self.len) }
    }
}

impl<A: Access> Mapping<Live<A>> {
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.memory.ptr.as_ptr()
    }

    /// The bytes that the window shows, as cells of a type.
    #[track_caller]
    pub(crate) fn cells<T: AnyBitPattern>(&self) -> Cells<'_, T> {
        let size = size_of::<T>();
        assert!(
            size > 0 && self.len.is_multiple_of(size) && align_of::<T>() <= GRANULE as usize,
            "a window of {} bytes is not made of cells of {size} bytes",
            self.len
        );
        Cells {
            ptr: self.memory.ptr.cast(),
            len: self.len / size,
            window: PhantomData,
        }
    }
}

/// Values in a live window. No reference to them is ever made: other guests change
/// them whenever they have their turn, also in the middle of a loop of this one. So
/// each access is volatile, and the compiler neither keeps what it has read nor puts
/// off or leaves out what it is to write.
pub(crate) struct Cells<'w, T> {
    ptr: NonNull<T>,
    len: usize,
    /// The mapping, which stays for as long.
    window: PhantomData<&'w ()>,
}

impl<T> Cells<'_, T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[track_caller]
    pub(crate) fn range(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "cells {range:?} of {}",
            self.len
        );
        // SAFETY: it is inside of the window, or its end.
        let ptr = unsafe { self.ptr.add(range.start) };
        Self {
            ptr,
            len: range.len(),
            window: PhantomData,
        }
    }

    #[track_caller]
    fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "cell {index} of {}", self.len);
        // SAFETY: it is inside of the window.
        unsafe { self.ptr.as_ptr().add(index) }
    }
}

impl<T: AnyBitPattern> Cells<'_, T> {
    #[track_caller]
    pub(crate) fn get(&self, index: usize) -> T {
        let at = self.at(index);
        // SAFETY: `at` is aligned, since the window begins on a granule, and in memory
        // that is there for as long as `self`; whatever bits are there are a value, also
        // where they are of several, half changed.
        unsafe { at.read_volatile() }
    }
}

impl<T: NoUninit> Cells<'_, T> {
    /// Only of a window that may write.
    #[track_caller]
    pub(crate) fn set(&self, index: usize, value: T) {
        let at = self.at(index);
        // SAFETY: as in `get`; nothing of this guest has a reference to it.
        unsafe { at.write_volatile(value) }
    }
}

impl<T> Clone for Cells<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Cells<'_, T> {}

/// Whole granules of this guest's memory, on a granule, never touched: a window
/// covers them, and touching pages only to cover them would cost a fault each.
struct Memory {
    ptr: NonNull<u8>,
    /// From what was allocated to `ptr`.
    before: usize,
    layout: Layout,
}

/// What a huge page has, on the machines that there are.
const HUGE: usize = 2 << 20;

impl Memory {
    /// Allocates `size` bytes, a multiple of the granule and not 0, for a window on what
    /// begins at `offset` in a region.
    fn new(size: usize, offset: u64) -> Option<Self> {
        if size == 0 {
            return None;
        }
        // With huge pages, the place in memory has to be as far from a multiple of
        // their size as that in the region.
        let ahead = (offset % HUGE as u64) as usize;
        let huge = match size {
            HUGE.. => Self::aligned(size, HUGE, ahead),
            _ => None,
        };
        huge.or_else(|| Self::aligned(size, GRANULE as usize, 0))
    }

    /// `size` bytes so far after a multiple of `align`.
    fn aligned(size: usize, align: usize, before: usize) -> Option<Self> {
        let layout = Layout::from_size_align(size.checked_add(before)?, align).ok()?;
        // SAFETY: the size of `layout` is not 0, since `size` is not.
        let all = NonNull::new(unsafe { alloc::alloc(layout) })?;
        // SAFETY: `before` bytes of what was allocated are before the `size` bytes.
        let ptr = unsafe { all.add(before) };
        Some(Self {
            ptr,
            before,
            layout,
        })
    }
}

impl Memory {
    /// How many bytes there are from `ptr` on.
    fn size(&self) -> usize {
        self.layout.size() - self.before
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: what was allocated begins that far before.
        let all = unsafe { self.ptr.sub(self.before) };
        // SAFETY: it was allocated with this layout, and is freed once.
        unsafe { alloc::dealloc(all.as_ptr(), self.layout) }
    }
}

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "tombolo:memory/windows@0.1.0")]
unsafe extern "C" {
    #[link_name = "map"]
    fn import_map(
        region: u32,
        offset: u64,
        length: u64,
        access: u32,
        at: *mut u8,
        at_len: usize,
        answer: *mut Answer,
    );
}

/// Stands in where this crate is compiled for its documentation and its checks.
#[cfg(not(target_arch = "wasm32"))]
unsafe fn import_map(_: u32, _: u64, _: u64, _: u32, _: *mut u8, _: usize, _: *mut Answer) {
    unreachable!("windows exist in WebAssembly guests only")
}

/// How the canonical ABI returns `result<window, error-code>`.
#[repr(C)]
struct Answer {
    failed: u8,
    /// The window, or in its first byte the case of the error.
    payload: u32,
    text: *mut u8,
    text_len: usize,
}

/// Calls `map` with the address of memory that was never written, over which no
/// reference may exist.
fn map(
    handle: &Handle,
    offset: u64,
    length: u64,
    access: crate::bindings::windows::Access,
    memory: &Memory,
) -> Result<Shown, Error> {
    // All zero, so that whatever the host leaves alone can be read as well.
    let mut answer = Answer {
        failed: 0,
        payload: 0,
        text: ptr::null_mut(),
        text_len: 0,
    };
    // SAFETY: the arguments are those of the canonical ABI for `map`: `at` is a
    // list of one byte inside `memory`, which the host does not look at, and
    // `answer` has the layout that the host writes. What the host changes is
    // the whole granules of `memory`, to which nothing but `Mapping` points.
    unsafe {
        import_map(
            handle.handle(),
            offset,
            length,
            access as u32,
            memory.ptr.as_ptr(),
            1,
            &raw mut answer,
        );
    }
    if answer.failed == 0 {
        // SAFETY: the host has just given this guest the handle, once.
        return Ok(unsafe { Shown::from_handle(answer.payload) });
    }
    // In the order of `error-code`.
    let [case, ..] = answer.payload.to_le_bytes();
    Err(match case {
        0 => Error::InvalidArgument(answer.text()),
        1 => Error::Misaligned(answer.text()),
        2 => Error::OutOfBounds(answer.text()),
        3 => Error::NotPermitted,
        4 => Error::WouldBlock,
        5 => Error::Frozen,
        6 => Error::Unpinned,
        7 => Error::Purged,
        8 => Error::Overlap,
        9 => Error::Gone,
        10 => Error::Poisoned,
        11 => Error::Exhausted(answer.text()),
        _ => Error::Unsupported(answer.text()),
    })
}

impl Answer {
    /// The text of an error that has one.
    fn text(&self) -> String {
        if self.text_len == 0 {
            return String::new();
        }
        // SAFETY: the host wrote `text_len` bytes into memory that it got for
        // them from `cabi_realloc`, which is this program's allocator, and left
        // them to this guest. `text` is called once for an answer.
        let bytes = unsafe { Vec::from_raw_parts(self.text, self.text_len, self.text_len) };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Takes a handle that generated bindings received.
///
/// # Safety
///
/// `handle` is a handle to a `region` that this guest holds, and nothing else
/// owns it.
pub(crate) unsafe fn receive(handle: u32) -> Handle {
    // SAFETY: the caller's promise.
    unsafe { Handle::from_handle(handle) }
}

/// A second view of a handle, which never gives it back.
pub(crate) fn alias(handle: &Handle) -> ManuallyDrop<Handle> {
    // SAFETY: `handle` stays the owner; the other one is never dropped, so the
    // handle is given back once. Used after its owner, it names nothing or
    // something else of this guest's own, which the host checks.
    ManuallyDrop::new(unsafe { Handle::from_handle(handle.handle()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(memory: &mut [u32]) -> Cells<'_, u32> {
        Cells {
            ptr: NonNull::new(memory.as_mut_ptr()).unwrap(),
            len: memory.len(),
            window: PhantomData,
        }
    }

    #[test]
    fn memory_of_large_windows_is_placed_as_what_it_shows_is_in_huge_pages() {
        let of = |size, offset| {
            let memory = Memory::new(size, offset).unwrap();
            assert_eq!(memory.size(), size);
            memory.ptr.addr().get()
        };
        let granule = GRANULE as usize;
        assert!(of(granule, 3 * GRANULE).is_multiple_of(granule));
        for offset in [0, 1, 31, 32, 33] {
            let offset = offset * GRANULE;
            assert!((of(HUGE, offset) - offset as usize).is_multiple_of(HUGE));
            assert!((of(HUGE + granule, offset) - offset as usize).is_multiple_of(HUGE));
        }
    }

    #[test]
    fn cells_are_read_and_written_one_by_one() {
        let mut memory = [1, 2, 3, 4];
        let all = cells(&mut memory);
        let middle = all.range(1..3);
        middle.set(1, 7);
        assert_eq!((middle.len(), middle.get(0), all.get(2)), (2, 2, 7));
        assert_eq!(all.range(4..4).len(), 0);
        assert_eq!(memory, [1, 2, 7, 4]);
    }

    #[test]
    #[should_panic = "cell 2 of 2"]
    fn cell_outside_of_the_range_is_refused() {
        cells(&mut [1, 2, 3]).range(0..2).get(2);
    }

    #[test]
    #[should_panic = "cells 2..4 of 3"]
    fn range_outside_of_the_window_is_refused() {
        cells(&mut [1, 2, 3]).range(2..4);
    }
}
