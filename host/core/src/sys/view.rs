//! Regions in the host program's own memory, for guards and copies.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::file::RegionFile;
use super::kernel::ask;
use super::memfd::file_size_limit;
use super::parking::{self, Shape};
use super::unmap::unmap;
use super::vmas::VmaCharge;
use tombolo_region::Span;

/// A part of a region that is mapped in the host program's memory.
#[derive(Debug)]
struct Mapped {
    base: NonNull<u8>,
    length: usize,
    /// The address of the mapping, and what it shows: at least the part.
    mapping: usize,
    shape: Shape,
    /// Keeps the file for as long as its bytes are visible.
    file: Arc<RegionFile>,
    vmas: VmaCharge,
}

// SAFETY: the mapping belongs to this object alone and is the same in every
// thread of the process.
unsafe impl Send for Mapped {}
// SAFETY: as above; shared references only give out shared slices.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Takes over a parked mapping, or maps the span.
    fn new(file: &Arc<RegionFile>, span: Span, is_writable: bool) -> io::Result<Mapped> {
        file.check_process()?;
        let part = |offset, length| -> io::Result<Shape> {
            let length = usize::try_from(length).map_err(io::Error::other)?;
            Ok(file.shape(offset, length, is_writable))
        };
        let asked = part(span.offset(), span.length())?;
        let (shape, at, vmas) = match parking::take(asked) {
            Some(parked) => parked,
            None => {
                let shape = match parking::parks_views(file.length()) {
                    true => part(0, file.length())?,
                    false => asked,
                };
                let (at, vmas) = map(file, shape)?;
                (shape, at, vmas)
            }
        };
        let ahead = usize::try_from(asked.offset - shape.offset).map_err(io::Error::other)?;
        let base = std::ptr::with_exposed_provenance_mut(at + ahead);
        Ok(Mapped {
            base: NonNull::new(base).expect("the kernel never maps at null"),
            length: asked.length,
            mapping: at,
            shape,
            file: file.clone(),
            vmas,
        })
    }
}

/// Maps part of a file. Returns the address.
fn map(file: &RegionFile, shape: Shape) -> io::Result<(usize, VmaCharge)> {
    let vmas = VmaCharge::take(1).map_err(io::Error::other)?;
    let prot = match shape.is_writable {
        true => ProtFlags::READ | ProtFlags::WRITE,
        false => ProtFlags::READ,
    };
    let base = ask(|| {
        // SAFETY: the kernel chooses the address, so that nothing that exists
        // is replaced; the file is as long as the shape's end (`Span` was
        // checked against the region's size) and stays so (it is sealed).
        unsafe {
            mmap(
                std::ptr::null_mut(),
                shape.length,
                prot,
                MapFlags::SHARED,
                file.to_map(shape.is_writable),
                shape.offset,
            )
        }
    })?;
    Ok((base.expose_provenance(), vmas))
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let start = self.mapping;
        if self.file.check_process().is_ok() {
            let vmas = std::mem::take(&mut self.vmas);
            // SAFETY: this object owns the mapping, and the slices that `View` and `ViewMut` gave
            // out borrow from them.
            unsafe { parking::put(self.shape, start, vmas) };
            return;
        }
        // In a child a thread of the parent may have kept the lock of the parked mappings.
        // SAFETY: `new` mapped exactly this or took it over, nothing else unmaps it, and the
        // slices that `View` and `ViewMut` gave out borrow from them.
        let unmapped = unsafe { unmap(start..start + self.shape.length) };
        if !unmapped {
            // The addresses stay mapped for as long as the process lives.
            std::mem::forget(std::mem::take(&mut self.vmas));
        }
    }
}

/// A read-only view. Its owner has a `read` window in the region's ledger for as long as it
/// lives. The lock promises that nobody writes meanwhile, and every mapping that could write
/// keeps to it.
#[derive(Debug)]
pub(crate) struct View(Mapped);

impl View {
    pub(crate) fn new(file: &Arc<RegionFile>, span: Span) -> io::Result<View> {
        Mapped::new(file, span, false).map(View)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `length` bytes from `base` on, is readable, lives as
        // long as `self`, and nobody writes to these bytes meanwhile: the
        // `read` window in the ledger, which our caller holds, excludes every
        // window, guard and copy that could.
        unsafe { std::slice::from_raw_parts(self.0.base.as_ptr(), self.0.length) }
    }
}

/// A read-write view. Its owner has a `write` window in the region's ledger for as long as it
/// lives.
#[derive(Debug)]
pub(crate) struct ViewMut(Mapped);

impl ViewMut {
    pub(crate) fn new(file: &Arc<RegionFile>, span: Span) -> io::Result<ViewMut> {
        Mapped::new(file, span, true).map(ViewMut)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as in `View::bytes`, with the `write` window.
        unsafe { std::slice::from_raw_parts(self.0.base.as_ptr(), self.0.length) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has `length` bytes from `base` on, readable and writable,
        // lives as long as `self`, and nobody else sees these bytes meanwhile:
        // the `write` window in the ledger, which our caller holds, excludes
        // every other window, guard and copy.
        unsafe { std::slice::from_raw_parts_mut(self.0.base.as_ptr(), self.0.length) }
    }
}

impl RegionFile {
    /// Writes bytes, all of which lie inside of the file. The caller holds a `write` window
    /// on them in the region's ledger.
    pub(crate) fn write_at(self: &Arc<Self>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_process()?;
        let end = offset.saturating_add(bytes.len() as u64);
        if end <= file_size_limit() {
            return self.write_directly(offset, bytes);
        }
        // The limit was lowered after the file was made. The kernel applies it to each
        // `write`, but not to mappings.
        let span = Span::of_bytes(offset, bytes.len() as u64, end).map_err(io::Error::other)?;
        let Some(span) = span else {
            return Ok(());
        };
        let start = usize::try_from(offset - span.offset()).map_err(io::Error::other)?;
        let mut view = ViewMut::new(self, span)?;
        view.bytes_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}
