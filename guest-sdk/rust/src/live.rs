//! Live windows: shared access to bytes that other guests of the strand may change.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Range, RangeBounds};

use bytemuck::{AnyBitPattern, NoUninit};

use crate::access::{Access, Live, Read, Write};
use crate::error::Error;
use crate::refused::Refused;
use crate::region::Region;
use crate::sys::Cells;
use crate::view::View;
use crate::window::Window;

/// A part of a region, mapped into this guest's memory, that other guests of the strand
/// see and change through live windows of their own: plain shared memory.
///
/// There are no slices of it. Its bytes are read and written one value at a time, through
/// [`cells`](LiveWindow::cells) or [`cells_of`](LiveWindow::cells_of). These work like
/// [`std::cell::Cell`]: any number of them can exist at once, and none needs `&mut`.
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
/// Guests of a strand take turns: no two of them run at once. A turn can end anywhere,
/// because the host preempts a guest that computes for long. So other guests may change
/// any bytes between two accesses, and `set(get() + 1)` may overwrite another guest's
/// change. A cell that only one guest writes is safe from that.
///
/// # Tearing
///
/// A value of 1, 2, 4 or 8 bytes is read and written whole, if it is a number or a struct
/// of one number. A larger value, or one with several fields, takes several instructions.
/// The turn can end between them, so other guests can see the value half changed. Use a
/// counter that says when such a value is complete.
pub struct LiveWindow<'r, A: Access>(View<'r, Live<A>>);

/// A live window to read.
pub type LiveReadWindow<'r> = LiveWindow<'r, Read>;

/// A live window to read and write.
pub type LiveWriteWindow<'r> = LiveWindow<'r, Write>;

/// Live windows.
impl Region {
    /// Maps a part of the region into this guest's memory, to read it while other guests
    /// of the strand write it through [live windows](LiveWindow) of their own. Needs
    /// [`Rights::READ`](crate::Rights::READ).
    ///
    /// The range is as for [`try_read`](Region::try_read).
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if any guest has a window there that is not live, or if this
    /// guest has any window there; [`Error::Unsupported`] if live windows are refused,
    /// for example because the bytes have live windows in another strand: the text gives
    /// the reason; [`Error::Frozen`]; and those of [`try_read`](Region::try_read).
    pub fn try_live_read(&self, range: impl RangeBounds<u64>) -> Result<LiveReadWindow<'_>, Error> {
        View::try_map(self, range).map(LiveWindow)
    }

    /// Maps a live window to read and write, as [`try_live_read`](Region::try_live_read)
    /// does one to read. Needs [`Rights::WRITE`](crate::Rights::WRITE) as well.
    ///
    /// # Errors
    ///
    /// The errors of `try_live_read`.
    pub fn try_live_write(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LiveWriteWindow<'_>, Error> {
        View::try_map(self, range).map(LiveWindow)
    }

    /// Maps a live window to read, as [`try_live_read`](Region::try_live_read) does, and
    /// waits for its turn as [`read`](Region::read) does.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`], as for [`read`](Region::read); and the errors of
    /// `try_live_read`, without [`Error::WouldBlock`].
    pub fn live_read(&self, range: impl RangeBounds<u64>) -> Result<LiveReadWindow<'_>, Error> {
        View::map(self, range).map(LiveWindow)
    }

    /// Maps a live window to read and write, as
    /// [`try_live_write`](Region::try_live_write) does, and waits for its turn as
    /// [`read`](Region::read) does.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`], as for [`read`](Region::read); and the errors of
    /// `try_live_write`, without [`Error::WouldBlock`].
    pub fn live_write(&self, range: impl RangeBounds<u64>) -> Result<LiveWriteWindow<'_>, Error> {
        View::map(self, range).map(LiveWindow)
    }
}

/// Live windows, in guests with async functions.
#[cfg(feature = "async")]
impl Region {
    /// Maps a live window to read, as [`live_read`](Region::live_read) does, in an async
    /// function. It waits as [`read_async`](Region::read_async) does.
    ///
    /// Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// Those of [`try_live_read`](Region::try_live_read), without [`Error::WouldBlock`].
    pub async fn live_read_async(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LiveReadWindow<'_>, Error> {
        View::map_async(self, range).await.map(LiveWindow)
    }

    /// Maps a live window to read and write, as [`live_write`](Region::live_write) does, in
    /// an async function. It waits as [`read_async`](Region::read_async) does.
    ///
    /// Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// Those of [`try_live_write`](Region::try_live_write), without [`Error::WouldBlock`].
    pub async fn live_write_async(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LiveWriteWindow<'_>, Error> {
        View::map_async(self, range).await.map(LiveWindow)
    }
}

impl<'r, A: Access> LiveWindow<'r, A> {
    /// Returns the handle that the window was mapped through.
    pub fn region(&self) -> &'r Region {
        self.0.region()
    }

    /// Returns the offset in the region at which the window begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.0.offset()
    }

    /// Returns the address of the first byte, for code that is not written in Rust. It is
    /// valid while the window lives. Do not make a reference from it, because other guests
    /// change the bytes.
    pub fn as_ptr(&self) -> *const u8 {
        self.0.mapping().as_ptr()
    }

    /// Returns the bytes, as cells.
    pub fn cells(&self) -> LiveCells<'_, u8, A> {
        self.cells_of()
    }

    /// Returns the bytes as cells of another type, `window.cells_of::<f32>()`.
    ///
    /// Windows begin on a granule, so every alignment up to a granule fits.
    ///
    /// # Panics
    ///
    /// Panics if the window's length is not a multiple of the type's size, or if that
    /// size is 0.
    pub fn cells_of<T: AnyBitPattern>(&self) -> LiveCells<'_, T, A> {
        LiveCells {
            cells: self.0.mapping().cells(),
            access: PhantomData,
        }
    }

    /// Converts it to a plain window, if no other guest has a window that conflicts with
    /// that.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`]; [`Error::Gone`]; with the unchanged window.
    pub fn into_window(self) -> Result<Window<'r, A>, Refused<Self>> {
        match self.0.set_access() {
            Ok(view) => Ok(Window(view)),
            Err((view, error)) => Err(Refused::new(Self(view), error)),
        }
    }

    fn set_access<B: Access>(self) -> Result<LiveWindow<'r, B>, Refused<Self>> {
        match self.0.set_access() {
            Ok(view) => Ok(LiveWindow(view)),
            Err((view, error)) => Err(Refused::new(Self(view), error)),
        }
    }
}

impl<'r, A: Access> Window<'r, A> {
    /// Converts it to a live window, so that other guests of the strand may see and change
    /// the bytes through live windows too.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if another window on these bytes conflicts with that;
    /// [`Error::Unsupported`] if live windows are refused, with the reason;
    /// [`Error::Frozen`]; [`Error::Gone`]; with the unchanged window.
    pub fn into_live(self) -> Result<LiveWindow<'r, A>, Refused<Self>> {
        match self.0.set_access() {
            Ok(view) => Ok(LiveWindow(view)),
            Err((view, error)) => Err(Refused::new(Self(view), error)),
        }
    }
}

impl<'r> LiveWindow<'r, Write> {
    /// Converts it to a live window to read.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], with the unchanged window.
    pub fn into_read(self) -> Result<LiveReadWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<'r> LiveWindow<'r, Read> {
    /// Converts it to a live window to write, if the handle has
    /// [`Rights::WRITE`](crate::Rights::WRITE).
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`]; [`Error::WouldBlock`] if another guest waits for these
    /// bytes; [`Error::Gone`]; with the unchanged window.
    pub fn into_write(self) -> Result<LiveWriteWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<A: Access> fmt::Debug for LiveWindow<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("LiveWindow", f)
    }
}

/// The values in a live window, each by itself, as in a slice of
/// [`Cell`](std::cell::Cell); from [`LiveWindow::cells_of`].
///
/// Indices count values. Every function panics if an index is out of range.
pub struct LiveCells<'w, T, A> {
    cells: Cells<'w, T>,
    access: PhantomData<A>,
}

impl<'w, T: AnyBitPattern, A: Access> LiveCells<'w, T, A> {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Returns whether there are no values, which happens for an empty
    /// [`range`](LiveCells::range) only.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns some of the cells. Their indices begin at 0 again.
    pub fn range(&self, range: Range<usize>) -> Self {
        Self {
            cells: self.cells.range(range),
            access: PhantomData,
        }
    }

    /// Returns the present value.
    pub fn get(&self, index: usize) -> T {
        self.cells.get(index)
    }

    /// Copies values out, one after the other, starting at `index`. Other guests may
    /// change them in between.
    pub fn copy_to(&self, index: usize, values: &mut [T]) {
        let cells = self.range(index..index + values.len());
        for (at, value) in values.iter_mut().enumerate() {
            *value = cells.get(at);
        }
    }
}

impl<T: AnyBitPattern + NoUninit> LiveCells<'_, T, Write> {
    /// Sets a value.
    pub fn set(&self, index: usize, value: T) {
        self.cells.set(index, value);
    }

    /// Copies values in, one after the other, starting at `index`. Other guests may see or
    /// change them in between.
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
