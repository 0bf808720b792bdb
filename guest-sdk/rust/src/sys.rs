//! The unsafe code of this crate: the memory under a window, the import `map`, and handles
//! as numbers.
//!
//! The documentation of the crate explains why the slices of a [`Mapping`] are sound.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::access::sealed::AccessKind;
use crate::access::{Access, Live, Write};
use crate::bindings::regions::{ErrorCode, Region as Handle};
use crate::bindings::wasi_streams::{InputStream, OutputStream};
use crate::bindings::windows::{Access as AccessCode, Window as WindowHandle};
use crate::error::Error;
use crate::granule::GRANULE;

/// Memory of this guest that a part of a region is mapped into.
///
/// ```text
///   ptr, on a granule            ptr + len          ptr + size, on a granule
///    |                              |                   |
///    [ requested bytes             ][ rest, never used  ]
/// ```
pub(crate) struct Mapping<A> {
    // Fields are dropped in this order: the window is unmapped before the memory is freed.
    // The allocator writes into freed memory, which must not be the region any more.
    window: WindowHandle,
    memory: Memory,
    len: usize,
    access: PhantomData<A>,
}

impl<A: AccessKind> Mapping<A> {
    /// Maps `len` bytes, rounded up to granules, into newly allocated memory.
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
        let window = map(handle, offset, mapped, A::CODE, &memory)?;
        Ok(Self {
            window,
            memory,
            // At most `mapped`, which is a `usize`.
            len: len as usize,
            access: PhantomData,
        })
    }

    /// Changes the access of the window.
    pub(crate) fn set_access<B: AccessKind>(self) -> Result<Mapping<B>, (Self, ErrorCode)> {
        if let Err(code) = self.window.set_access(B::CODE) {
            return Err((self, code));
        }
        Ok(Mapping {
            window: self.window,
            memory: self.memory,
            len: self.len,
            access: PhantomData,
        })
    }

    /// Returns the number of bytes that the window covers, in whole granules.
    pub(crate) fn covered(&self) -> u64 {
        self.memory.size() as u64
    }

    /// Returns the number of bytes that were requested.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<A: Access> Mapping<A> {
    /// Returns the bytes that the window shows. Only a pinned window may give them out (see
    /// the documentation of the crate).
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `memory` holds at least `len` bytes, fewer than `isize::MAX` like every
        // `Layout`. `map` gave them the region's contents, so they are initialised. Nobody
        // writes them while the slice lives: other guests and the host because of the lock,
        // this guest because a mutable slice needs `&mut self`, and the callee of a lend
        // because a lend needs `&mut` to the window or panics (see the documentation of the
        // crate).
        unsafe { slice::from_raw_parts(self.memory.ptr.as_ptr(), self.len) }
    }
}

impl Mapping<Write> {
    /// Returns the bytes that the window shows, to change them.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`. Nobody else reads the bytes either, because a `write`
        // window is the only one on its granules.
        unsafe { slice::from_raw_parts_mut(self.memory.ptr.as_ptr(), self.len) }
    }
}

impl<A: Access> Mapping<Live<A>> {
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.memory.ptr.as_ptr()
    }

    /// Returns the bytes that the window shows, as cells of a type.
    #[track_caller]
    pub(crate) fn cells<T: AnyBitPattern>(&self) -> Cells<'_, T> {
        let size = size_of::<T>();
        assert!(
            size > 0 && self.len.is_multiple_of(size) && align_of::<T>() <= GRANULE as usize,
            "a window of {} bytes cannot be divided into cells of {size} bytes",
            self.len
        );
        Cells {
            ptr: self.memory.ptr.cast(),
            len: self.len / size,
            window: PhantomData,
        }
    }
}

/// The values in a live window. No reference to them is ever made: other guests change them
/// whenever they have their turn, even in the middle of a loop of this guest. So each access
/// is volatile: the compiler neither caches a read, nor delays or omits a write.
pub(crate) struct Cells<'w, T> {
    ptr: NonNull<T>,
    len: usize,
    /// The mapping, which outlives the cells.
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
            "cells {range:?} are out of range for {} cells",
            self.len
        );
        // SAFETY: the result lies inside the window, or at its end.
        let ptr = unsafe { self.ptr.add(range.start) };
        Self {
            ptr,
            len: range.len(),
            window: PhantomData,
        }
    }

    #[track_caller]
    fn at(&self, index: usize) -> *mut T {
        assert!(
            index < self.len,
            "cell {index} is out of range for {} cells",
            self.len
        );
        // SAFETY: the result lies inside the window.
        unsafe { self.ptr.as_ptr().add(index) }
    }
}

impl<T: AnyBitPattern> Cells<'_, T> {
    #[track_caller]
    pub(crate) fn get(&self, index: usize) -> T {
        let at = self.at(index);
        // SAFETY: `at` is aligned, because the window begins on a granule. It points into
        // memory that outlives `self`. Any bits are a value, even a half-changed one.
        unsafe { at.read_volatile() }
    }
}

impl<T: NoUninit> Cells<'_, T> {
    /// Sets a value. The window must have access to write.
    #[track_caller]
    pub(crate) fn set(&self, index: usize, value: T) {
        let at = self.at(index);
        // SAFETY: as in `get`. No reference to the value exists in this guest.
        unsafe { at.write_volatile(value) }
    }
}

impl<T> Clone for Cells<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Cells<'_, T> {}

/// Whole granules of this guest's memory, aligned to a granule. They are never touched
/// before a window covers them: each page would cost a fault for nothing.
struct Memory {
    ptr: NonNull<u8>,
    /// The number of bytes between the beginning of the allocation and `ptr`.
    before: usize,
    layout: Layout,
}

/// The size of a huge page on the supported machines.
const HUGE: usize = 2 << 20;

impl Memory {
    /// Allocates `size` bytes for a window that begins at `offset` in a region. The size is
    /// a multiple of the granule, and not 0.
    fn new(size: usize, offset: u64) -> Option<Self> {
        if size == 0 {
            return None;
        }
        // For huge pages, the address and the offset must agree modulo their size.
        let ahead = (offset % HUGE as u64) as usize;
        let huge = match size {
            HUGE.. => Self::aligned(size, HUGE, ahead),
            _ => None,
        };
        huge.or_else(|| Self::aligned(size, GRANULE as usize, 0))
    }

    /// Allocates `size` bytes that begin `before` bytes after a multiple of `align`.
    fn aligned(size: usize, align: usize, before: usize) -> Option<Self> {
        let layout = Layout::from_size_align(size.checked_add(before)?, align).ok()?;
        // SAFETY: the size of `layout` is not 0, because `size` is not.
        let all = NonNull::new(unsafe { alloc::alloc(layout) })?;
        // SAFETY: the allocation has `before` bytes before the `size` bytes.
        let ptr = unsafe { all.add(before) };
        Some(Self {
            ptr,
            before,
            layout,
        })
    }

    /// Returns the number of bytes from `ptr` on.
    fn size(&self) -> usize {
        self.layout.size() - self.before
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the allocation begins `before` bytes before `ptr`.
        let all = unsafe { self.ptr.sub(self.before) };
        // SAFETY: the memory was allocated with this layout, and is freed once.
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

/// Replaces the import when this crate is compiled natively, for its documentation and its
/// tests.
#[cfg(not(target_arch = "wasm32"))]
unsafe fn import_map(_: u32, _: u64, _: u64, _: u32, _: *mut u8, _: usize, _: *mut Answer) {
    unreachable!("windows exist in WebAssembly guests only")
}

/// The layout of `result<window, error-code>` in the canonical ABI.
#[repr(C)]
struct Answer {
    failed: u8,
    /// The handle of the window, or in its first byte the case of the error.
    payload: u32,
    text: *mut u8,
    text_len: usize,
}

/// Calls `map` with the address of memory that was never written. No reference may exist
/// over such memory.
fn map(
    handle: &Handle,
    offset: u64,
    length: u64,
    access: AccessCode,
    memory: &Memory,
) -> Result<WindowHandle, Error> {
    // All zero, so that fields that the host does not write can be read.
    let mut answer = Answer {
        failed: 0,
        payload: 0,
        text: ptr::null_mut(),
        text_len: 0,
    };
    // SAFETY: the arguments are those of `map` in the canonical ABI. `at` is a list of one
    // byte inside `memory`, which the host does not read. `answer` has the layout that the
    // host writes. The host changes whole granules of `memory`, and only `Mapping` points to
    // these.
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
        // SAFETY: the host has just passed the handle to this guest, once.
        return Ok(unsafe { WindowHandle::from_handle(answer.payload) });
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
    /// Returns the text of an error that has one.
    fn text(&self) -> String {
        if self.text_len == 0 {
            return String::new();
        }
        // SAFETY: the host wrote `text_len` bytes into memory from `cabi_realloc`, which is
        // this program's allocator, and passed their ownership to this guest. `text` is
        // called once for each answer.
        let bytes = unsafe { Vec::from_raw_parts(self.text, self.text_len, self.text_len) };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Wraps a handle that generated bindings received.
///
/// # Safety
///
/// This guest must own `handle`, which is a handle to a `region`, and nothing else may own
/// it.
pub(crate) unsafe fn receive(handle: u32) -> Handle {
    // SAFETY: the caller owns the handle.
    unsafe { Handle::from_handle(handle) }
}

/// Returns a second view of a handle, which never drops it.
pub(crate) fn alias(handle: &Handle) -> ManuallyDrop<Handle> {
    // SAFETY: `handle` stays the owner. The alias is never dropped, so the handle is dropped
    // once. If the alias is used after its owner, its number names nothing, or another
    // resource of this guest; the host checks that.
    ManuallyDrop::new(unsafe { Handle::from_handle(handle.handle()) })
}

/// Returns a view of an input stream of other bindings, which never drops it.
pub(crate) fn input_stream(number: u32) -> ManuallyDrop<InputStream> {
    // SAFETY: the view is never dropped, so the handle stays the property of the other
    // bindings. The host checks that the number names an input stream of this guest.
    ManuallyDrop::new(unsafe { InputStream::from_handle(number) })
}

/// Returns a view of an output stream of other bindings, which never drops it.
pub(crate) fn output_stream(number: u32) -> ManuallyDrop<OutputStream> {
    // SAFETY: as in `input_stream`.
    ManuallyDrop::new(unsafe { OutputStream::from_handle(number) })
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
    fn address_and_offset_agree_modulo_huge_page() {
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
    fn cells_are_accessed_one_by_one() {
        let mut memory = [1, 2, 3, 4];
        let all = cells(&mut memory);
        let middle = all.range(1..3);
        middle.set(1, 7);
        assert_eq!((middle.len(), middle.get(0), all.get(2)), (2, 2, 7));
        assert_eq!(all.range(4..4).len(), 0);
        assert_eq!(memory, [1, 2, 7, 4]);
    }

    #[test]
    #[should_panic = "cell 2 is out of range for 2 cells"]
    fn cell_outside_the_range_panics() {
        cells(&mut [1, 2, 3]).range(0..2).get(2);
    }

    #[test]
    #[should_panic = "cells 2..4 are out of range for 3 cells"]
    fn range_outside_the_window_panics() {
        cells(&mut [1, 2, 3]).range(2..4);
    }
}
