//! All the unsafe code of this crate: the memory under a window, the import
//! `map`, and handles as numbers.
//!
//! What makes the slices of a [`Mapping`] sound is said in the documentation of
//! the crate.

#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;

use crate::GRANULE;
use crate::access::{Access, Write};
use crate::bindings::regions::Region as Handle;
use crate::bindings::windows::Window as Shown;
use crate::error::Error;
use crate::regions::ErrorCode;

/// Memory of this guest that shows a part of a region.
///
/// ```text
///   ptr, on a granule            ptr + len          ptr + layout.size(), on a granule
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

impl<A: Access> Mapping<A> {
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
            .and_then(Memory::new)
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
    pub(crate) fn set_access<B: Access>(self) -> Result<Mapping<B>, (Self, ErrorCode)> {
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
        self.memory.layout.size() as u64
    }

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

/// Whole granules of this guest's memory, on a granule, never touched: a window
/// covers them, and touching pages only to cover them would cost a fault each.
struct Memory {
    ptr: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// Allocates `size` bytes, a multiple of the granule and not 0.
    fn new(size: usize) -> Option<Self> {
        if size == 0 {
            return None;
        }
        let layout = Layout::from_size_align(size, GRANULE as usize).ok()?;
        // SAFETY: the size of `layout` is not 0.
        let ptr = NonNull::new(unsafe { alloc::alloc(layout) })?;
        Some(Self { ptr, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `ptr` was allocated with this layout, and is freed once.
        unsafe { alloc::dealloc(self.ptr.as_ptr(), self.layout) }
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
        _ => Error::Unsupported,
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
