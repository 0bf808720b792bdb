use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::access::{Access, Live, Read, Write};
use crate::region::Region;
use crate::sys::{Cells, Mapping};
use crate::window::{Entry, Refused, Window};

/// A part of a region, shown in this guest's memory while other guests of the strand
/// see and change it by live windows of their own: plain shared memory.
///
/// There are no slices of it. Its bytes are read and written one value at a time,
/// through [`cells`](LiveWindow::cells) or [`cells_of`](LiveWindow::cells_of), as
/// through [`std::cell::Cell`]: any number of these can be there at once, and none of
/// them needs `&mut`.
///
/// ```no_run
/// # use tombolo_guest::{Error, Region};
/// # fn example(region: &Region) -> Result<(), Error> {
/// let window = region.try_live_write(..)?;
/// let samples = window.cells_of::<f32>();
/// samples.set(7, 0.25);
/// let counts = window.cells_of::<u32>();
/// counts.set(0, counts.get(0) + 1);
/// # Ok(())
/// # }
/// ```
///
/// # Turns
///
/// Guests of a strand take turns: no two run at once. But a turn can end anywhere,
/// since the host takes it from a guest that computes for long. So between any two
/// accesses other guests may have changed anything, and `set(get() + 1)` may
/// overwrite what another one has set. A guest that alone writes some cells, and
/// others that alone read them, need not care.
///
/// # Tearing
///
/// A value of 1, 2, 4 or 8 bytes that is a number, or a struct of one, is read and
/// written whole. What is bigger, or has several fields, takes several instructions,
/// between which the turn can end: it can be seen half changed. Have a counter say
/// when such a value is complete.
pub struct LiveWindow<'r, A: Access> {
    mapping: Mapping<Live<A>>,
    // Dropped after the mapping: while the bytes are there, nobody unpins them.
    _entry: Entry,
    region: &'r Region,
    offset: u64,
}

/// A live window to read.
pub type LiveReadWindow<'r> = LiveWindow<'r, Read>;

/// A live window to read and write.
pub type LiveWriteWindow<'r> = LiveWindow<'r, Write>;

impl<'r, A: Access> LiveWindow<'r, A> {
    pub(crate) fn new(region: &'r Region, offset: u64, mapping: Mapping<Live<A>>) -> Self {
        Self {
            _entry: Entry::of(region, offset, &mapping),
            mapping,
            region,
            offset,
        }
    }

    /// The handle that the window was mapped through.
    pub fn region(&self) -> &'r Region {
        self.region
    }

    /// Where in the region the window begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The address of the first byte, for what is not written in Rust: as long as the
    /// window lives. No reference may be made of it, since others change the bytes.
    pub fn as_ptr(&self) -> *const u8 {
        self.mapping.as_ptr()
    }

    /// The bytes, as cells.
    pub fn cells(&self) -> LiveCells<'_, u8, A> {
        self.cells_of()
    }

    /// The bytes as cells of another type, `window.cells_of::<f32>()`.
    ///
    /// Windows begin on a granule, so every alignment up to that fits.
    ///
    /// # Panics
    ///
    /// Panics if the window's length is not a multiple of the type's size, or that
    /// is 0.
    pub fn cells_of<T: AnyBitPattern>(&self) -> LiveCells<'_, T, A> {
        LiveCells {
            cells: self.mapping.cells(),
            access: PhantomData,
        }
    }

    /// Makes it a window that nobody interferes with, if nobody else has a window on
    /// these bytes that conflicts with that.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`](crate::Error::WouldBlock),
    /// [`Error::Gone`](crate::Error::Gone), with the window as it was.
    pub fn into_window(self) -> Result<Window<'r, A>, Refused<Self>> {
        let Self {
            mapping,
            region,
            offset,
            ..
        } = self;
        match mapping.set_access() {
            Ok(mapping) => Ok(Window::new(region, offset, mapping)),
            Err((mapping, code)) => Err(Refused::new(
                Self::new(region, offset, mapping),
                code.into(),
            )),
        }
    }

    fn set_access<B: Access>(self) -> Result<LiveWindow<'r, B>, Refused<Self>> {
        let Self {
            mapping,
            region,
            offset,
            ..
        } = self;
        match mapping.set_access() {
            Ok(mapping) => Ok(LiveWindow::new(region, offset, mapping)),
            Err((mapping, code)) => Err(Refused::new(
                Self::new(region, offset, mapping),
                code.into(),
            )),
        }
    }
}

impl<'r> LiveWindow<'r, Write> {
    /// Makes it a live window to read.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`](crate::Error::Gone), with the window as it was.
    pub fn into_read(self) -> Result<LiveReadWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<'r> LiveWindow<'r, Read> {
    /// Makes it a live window to write, if the handle has
    /// [`Rights::WRITE`](crate::Rights::WRITE).
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`](crate::Error::NotPermitted),
    /// [`Error::Gone`](crate::Error::Gone), with the window as it was.
    pub fn into_write(self) -> Result<LiveWriteWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<A: Access> fmt::Debug for LiveWindow<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveWindow")
            .field("region", self.region)
            .field("offset", &self.offset)
            .field("len", &self.cells().len())
            .finish_non_exhaustive()
    }
}

/// Values in a live window, each by itself, as in a slice of
/// [`Cell`](std::cell::Cell): from [`LiveWindow::cells_of`].
///
/// Indices count values. All of these functions panic for one that is outside.
pub struct LiveCells<'w, T, A> {
    cells: Cells<'w, T>,
    access: PhantomData<A>,
}

impl<'w, T: AnyBitPattern, A: Access> LiveCells<'w, T, A> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none, which is never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the cells, whose indices begin at 0 again.
    pub fn range(&self, range: Range<usize>) -> Self {
        Self {
            cells: self.cells.range(range),
            access: PhantomData,
        }
    }

    /// The value as it is now.
    pub fn get(&self, index: usize) -> T {
        self.cells.get(index)
    }

    /// Copies values out, one after the other, from `index` on: others may change
    /// them in between.
    pub fn copy_to(&self, index: usize, values: &mut [T]) {
        let cells = self.range(index..index + values.len());
        for (at, value) in values.iter_mut().enumerate() {
            *value = cells.get(at);
        }
    }
}

impl<T: AnyBitPattern + NoUninit> LiveCells<'_, T, Write> {
    /// Changes a value.
    pub fn set(&self, index: usize, value: T) {
        self.cells.set(index, value);
    }

    /// Copies values in, one after the other, from `index` on: others may see, or
    /// change, them in between.
    pub fn copy_from(&self, index: usize, values: &[T]) {
        let cells = self.range(index..index + values.len());
        for (at, value) in values.iter().enumerate() {
            cells.set(at, *value);
        }
    }
}

impl<T, A> Clone for LiveCells<'_, T, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, A> Copy for LiveCells<'_, T, A> {}

impl<T: AnyBitPattern, A: Access> fmt::Debug for LiveCells<'_, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveCells")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
