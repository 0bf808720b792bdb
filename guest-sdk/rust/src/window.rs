//! Windows: slices of the bytes of a region.

use std::fmt;
use std::ops::{Deref, DerefMut, RangeBounds};

use bytemuck::{AnyBitPattern, NoUninit};

use crate::access::{Access, Read, Write};
use crate::error::Error;
use crate::ledger::{Claim, WindowCount};
use crate::lend::{self, Lent, LentWithin, Windows};
use crate::refused::Refused;
use crate::region::Region;
use crate::view::View;

/// A part of a region, mapped into this guest's memory.
///
/// It dereferences to `[u8]`, and with access [`Write`] also mutably. It is a guard of
/// the region's lock as well: while it lives, no other guest writes these bytes, or with
/// [`Write`] sees them. Dropping it unmaps it.
///
/// It borrows the handle that it was mapped through. So it ends before that handle is
/// dropped or moved, and before the call ends that lent the handle.
pub struct Window<'r, A: Access>(pub(crate) View<'r, A>);

/// A window to read.
pub type ReadWindow<'r> = Window<'r, Read>;

/// A window to read and write.
pub type WriteWindow<'r> = Window<'r, Write>;

/// Windows.
impl Region {
    /// Maps a part of the region into this guest's memory, to read it. No guest writes
    /// there while the window lives. Needs [`Rights::READ`](crate::Rights::READ).
    ///
    /// The range is in bytes, `..` for the whole region. It begins at a multiple of
    /// [`GRANULE`](crate::GRANULE), and may end anywhere. The lock covers whole granules.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if any guest, including this one, has a window there that is
    /// not a plain window to read, or if another guest waits for one;
    /// [`Error::InvalidArgument`] for an empty range; [`Error::Misaligned`];
    /// [`Error::OutOfBounds`]; [`Error::Unpinned`]; [`Error::Poisoned`];
    /// [`Error::Purged`]; [`Error::NotPermitted`]; [`Error::Gone`]; [`Error::Exhausted`]
    /// for a limit, or if the range does not fit into this guest's memory;
    /// [`Error::Unsupported`] on a host that cannot map.
    pub fn try_read(&self, range: impl RangeBounds<u64>) -> Result<ReadWindow<'_>, Error> {
        View::try_map(self, range).map(Window)
    }

    /// Maps a part of the region into this guest's memory, to read and write it. No other
    /// guest sees these bytes while the window lives. Needs
    /// [`Rights::READ`](crate::Rights::READ) and [`Rights::WRITE`](crate::Rights::WRITE).
    ///
    /// The range is as for [`try_read`](Region::try_read).
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if any guest, including this one, has a window there, or if
    /// another guest waits for one; [`Error::Frozen`]; and those of
    /// [`try_read`](Region::try_read).
    pub fn try_write(&self, range: impl RangeBounds<u64>) -> Result<WriteWindow<'_>, Error> {
        View::try_map(self, range).map(Window)
    }

    /// Maps a window to read, as [`try_read`](Region::try_read) does, and waits for its
    /// turn if that would block. Turns come in the order of the requests. While this
    /// guest waits, other guests run, and calls to this one are queued.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`] instead of a wait that could not end, because this guest
    /// itself has a conflicting window there, through this handle or another one. The
    /// other errors are those of `try_read`, without [`Error::WouldBlock`].
    pub fn read(&self, range: impl RangeBounds<u64>) -> Result<ReadWindow<'_>, Error> {
        View::map(self, range).map(Window)
    }

    /// Maps a window to write, as [`try_write`](Region::try_write) does, and waits for
    /// its turn as [`read`](Region::read) does. Readers that come and go do not delay it.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`], as for [`read`](Region::read); and the errors of `try_write`,
    /// without [`Error::WouldBlock`].
    pub fn write(&self, range: impl RangeBounds<u64>) -> Result<WriteWindow<'_>, Error> {
        View::map(self, range).map(Window)
    }
}

/// Windows, in guests with async functions.
#[cfg(feature = "async")]
impl Region {
    /// Maps a window to read, as [`read`](Region::read) does, in an async function: other
    /// tasks of this guest run while it waits.
    ///
    /// If this guest itself has a window that conflicts, this waits until another task has
    /// dropped it. A task that waits for a window of its own waits for good.
    ///
    /// Tasks that wait through one claim take turns with its place in the queue, for 100 ms
    /// at a time. A task that must not be slowed down by others [duplicates](Region::duplicate)
    /// the handle.
    ///
    /// Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// Those of [`try_read`](Region::try_read), without [`Error::WouldBlock`].
    pub async fn read_async(&self, range: impl RangeBounds<u64>) -> Result<ReadWindow<'_>, Error> {
        View::map_async(self, range).await.map(Window)
    }

    /// Maps a window to write, as [`write`](Region::write) does, in an async function. It
    /// waits as [`read_async`](Region::read_async) does.
    ///
    /// Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// Those of [`try_write`](Region::try_write), without [`Error::WouldBlock`].
    pub async fn write_async(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<WriteWindow<'_>, Error> {
        View::map_async(self, range).await.map(Window)
    }
}

impl<'r, A: Access> Window<'r, A> {
    /// Returns the handle that the window was mapped through.
    pub fn region(&self) -> &'r Region {
        self.0.region()
    }

    /// Returns the offset in the region at which the window begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.0.offset()
    }

    /// Returns the bytes as values of another type, `window.as_slice_of::<f32>()`.
    ///
    /// Windows begin on a granule, so every alignment fits.
    ///
    /// # Panics
    ///
    /// Panics if the window's length is not a multiple of the type's size.
    pub fn as_slice_of<T: AnyBitPattern>(&self) -> &[T] {
        bytemuck::cast_slice(self)
    }

    /// Lends the region while this window stays mapped.
    ///
    /// Pass the result to a function that takes `&Region`. For several windows, use
    /// [`Region::lend`].
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Region};
    /// # fn process(_: &Region) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut window = region.try_write(..)?;
    /// window.fill(1);
    /// process(&window.lend());
    /// assert_eq!(window[0], 2, "the other guest wrote this");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// No slice of the window can live through that call:
    ///
    /// ```compile_fail,E0499
    /// # use tombolo_guest::{Error, Region};
    /// # fn process(_: &Region) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut window = region.try_write(..)?;
    /// let slice: &mut [u8] = &mut window;
    /// process(&window.lend());
    /// slice.fill(1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lend(&mut self) -> Lent<'_> {
        let region = self.region();
        region.lend(self)
    }

    /// Lends the region to another part of this guest's own component, while this window
    /// stays mapped. See [`Region::lend_within`], which takes several windows.
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Region};
    /// # fn process(_: &Region) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut window = region.try_write(..)?;
    /// window.fill(1);
    /// let lent = window.lend_within()?;
    /// process(&lent);
    /// process(&lent);
    /// drop(lent);
    /// assert_eq!(window[0], 2, "the other part wrote this");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The window cannot be used meanwhile:
    ///
    /// ```compile_fail,E0502
    /// # use tombolo_guest::{Error, Region};
    /// # fn process(_: &Region) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut window = region.try_write(..)?;
    /// let lent = window.lend_within()?;
    /// println!("{}", window[0]);
    /// process(&lent);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Region::lend_within`].
    pub fn lend_within(&mut self) -> Result<LentWithin<'_>, Error> {
        let region = self.region();
        region.lend_within(self)
    }

    fn set_access<B: Access>(self) -> Result<Window<'r, B>, Refused<Self>> {
        match self.0.set_access() {
            Ok(view) => Ok(Window(view)),
            Err((view, error)) => Err(Refused::new(Self(view), error)),
        }
    }
}

impl<'r> Window<'r, Write> {
    /// Returns the bytes as values of another type, to change them.
    ///
    /// # Panics
    ///
    /// Panics if the window's length is not a multiple of the type's size.
    pub fn as_mut_slice_of<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self)
    }

    /// Converts it to a window to read, so that other guests may read these bytes too.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], with the unchanged window.
    pub fn into_read(self) -> Result<ReadWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<'r> Window<'r, Read> {
    /// Converts it to a window to write, if no other window on these bytes exists and the
    /// handle has [`Rights::WRITE`](crate::Rights::WRITE).
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`]; [`Error::NotPermitted`]; [`Error::Frozen`];
    /// [`Error::Gone`]; with the unchanged window.
    pub fn into_write(self) -> Result<WriteWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<A: Access> Deref for Window<'_, A> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.mapping().bytes()
    }
}

impl DerefMut for Window<'_, Write> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.mapping_mut().bytes_mut()
    }
}

impl<A: Access> fmt::Debug for Window<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Window", f)
    }
}

impl<A: Access> Windows for &mut Window<'_, A> {}

impl<A: Access> lend::sealed::Windows for &mut Window<'_, A> {
    fn count(&self, claim: Claim) -> WindowCount {
        count(self, claim)
    }
}

#[cfg(feature = "async")]
impl<A: Access> lend::sealed::Windows for Window<'_, A> {
    fn count(&self, claim: Claim) -> WindowCount {
        count(self, claim)
    }
}

/// All windows of a slice, which is shorter than a `Vec` of `&mut window`.
impl<A: Access> Windows for &mut [Window<'_, A>] {}

impl<A: Access> lend::sealed::Windows for &mut [Window<'_, A>] {
    fn count(&self, claim: Claim) -> WindowCount {
        self.iter()
            .fold(WindowCount::default(), |sum, it| sum.plus(count(it, claim)))
    }
}

fn count<A: Access>(window: &Window<'_, A>, claim: Claim) -> WindowCount {
    match window.0.claim() == claim {
        true => WindowCount::of(A::CODE),
        false => WindowCount::default(),
    }
}
