//! The linear memories of an engine, as wasmtime uses them. The module `record` has the
//! argument why that is sound.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::forked::Process;
use super::parking;
use super::record::{MemoryRecord, RESERVATION};
use super::reservation::Reservation;
use super::table::{forget, register};
use super::vmas::VmaCharge;

/// A memory may be accessible beyond its size, because the kernel refused a growth and then
/// refused to undo it. The guest must not run on.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to grow a memory, and to undo the growth")]
pub struct Overgrown;

/// Wasmtime's object for a memory. The addresses are mapped until it is dropped.
struct MappableMemory {
    record: Arc<MemoryRecord>,
    /// `None` only while the memory is dropped.
    reservation: Option<Reservation>,
    /// The process that created it.
    process: Process,
}

impl MappableMemory {
    fn new(minimum: usize, reserved: usize, guard: usize) -> io::Result<MappableMemory> {
        let total = reserved
            .checked_add(guard)
            .ok_or_else(|| io::Error::other("the reservation overflows"))?;
        let reservation = Reservation::take(total, minimum)?;
        let record = Arc::new(MemoryRecord::new(&reservation, minimum));
        register(&record);
        let process = Process::current();
        Ok(MappableMemory {
            record,
            reservation: Some(reservation),
            process,
        })
    }
}

// SAFETY: the memory has the size, the capacity and the base that it says, the
// base never moves, it is zero at first, and the guard after the reservation
// stays inaccessible. Windows change the memory "outside of wasmtime invoked
// routines", which the contract forbids. They are mapped, changed and unmapped only
// with the store in hand, when wasmtime runs nothing in it and no slice of it is
// alive. While a window is mapped, the lock ensures that nobody writes to bytes that
// somebody else can see. The module's documentation and `docs/security.md` have the
// argument at length.
unsafe impl LinearMemory for MappableMemory {
    fn byte_size(&self) -> usize {
        self.record.size()
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > RESERVATION {
            wasmtime::bail!("a memory of {new_size} bytes does not fit its reservation");
        }
        let reservation = self.reservation.as_mut();
        let reservation = reservation.expect("it is there until the drop");
        if let Err(error) = reservation.grow(new_size) {
            return Err(match reservation.is_overgrown() {
                true => Overgrown.into(),
                false => error.into(),
            });
        }
        self.record.size.fetch_max(new_size, Ordering::Relaxed);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.record.base.as_ptr()
    }
}

impl Drop for MappableMemory {
    fn drop(&mut self) {
        forget(self.record.base());
        if let Some(mark) = self.record.mark.get() {
            mark.leave(&self.record);
        }
        if self.process.check().is_ok() {
            parking::forget_memory(self.record.base());
        }
        let mut state = self.record.state();
        if let Some(reservation) = self.reservation.take() {
            // In a child the addresses may be inaccessible, with nothing to clean.
            if state.broken || self.process.check().is_err() {
                reservation.leave(std::mem::take(&mut state.lost));
            } else {
                reservation.retire(state.split_points.first());
            }
        }
        // The splits are gone.
        state.vmas = VmaCharge::default();
        let windows = std::mem::take(&mut state.windows);
        drop(state);
        // The locks are released only now, when no memory shows the regions.
        for window in windows.into_values() {
            window.observer.memory_gone();
        }
    }
}

/// The creator of the linear memories of an engine.
pub(crate) struct Creator;

// SAFETY: the memories are reserved with the guard that wasmtime asks for, and
// are zero: fresh anonymous pages, or pages that were overwritten with zeros.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved_size_in_bytes != Some(RESERVATION) {
            return Err(format!(
                "linear memories are reserved with {RESERVATION:#x} bytes, not {}",
                reserved_size_in_bytes.map_or("as it comes".into(), |size| format!("{size:#x}")),
            ));
        }
        if minimum > RESERVATION {
            return Err(format!(
                "a memory of {minimum} bytes does not fit its reservation"
            ));
        }
        let memory = MappableMemory::new(minimum, RESERVATION, guard_size_in_bytes)
            .map_err(|error| format!("cannot reserve a linear memory: {error}"))?;
        Ok(Box::new(memory))
    }
}

#[cfg(test)]
mod tests;
