use std::error;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use bytemuck::{AnyBitPattern, NoUninit};

use crate::access::sealed::Kind;
use crate::access::{Access, Read, Write};
use crate::error::Error;
use crate::ledger::{self, Claim};
use crate::lend::Lent;
use crate::live::LiveWindow;
use crate::pins::{self, Unpinned};
use crate::region::Region;
use crate::sys::Mapping;

/// A part of a region, shown in this guest's memory.
///
/// It is a slice: of `&[u8]` with access [`Read`], and also of `&mut [u8]` with
/// access [`Write`]. It is the guard of the region's lock as well: as long as
/// it lives, nobody else writes these bytes, or with [`Write`] sees them.
/// Dropping it unmaps.
///
/// It borrows the handle it was mapped through, so it ends before that handle
/// is dropped or moved, and before the call ends that lent it.
pub struct Window<'r, A: Access> {
    mapping: Mapping<A>,
    // Dropped after the mapping: while the bytes are there, they count.
    entry: Entry,
    region: &'r Region,
    offset: u64,
}

/// A window to read.
pub type ReadWindow<'r> = Window<'r, Read>;

/// A window to read and write.
pub type WriteWindow<'r> = Window<'r, Write>;

impl<'r, A: Access> Window<'r, A> {
    pub(crate) fn new(region: &'r Region, offset: u64, mapping: Mapping<A>) -> Self {
        Self {
            entry: Entry::of(region, offset, &mapping),
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

    /// The bytes as values of another type, `window.as_slice_of::<f32>()`.
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
    /// Pass what it returns to a function that takes `&Region`. For several
    /// windows, see [`Region::lend`].
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Region};
    /// # fn process(_: &Region) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut window = region.try_write(..)?;
    /// window.fill(1);
    /// process(&window.lend());
    /// assert_eq!(window[0], 2, "what the other guest wrote");
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
        let region = self.region;
        region.lend(self)
    }

    pub(crate) fn claim(&self) -> Claim {
        self.entry.claim
    }

    /// Unpins the bytes of the window: this guest does not need them now, and the
    /// host may purge them when memory is needed elsewhere, unless somebody else
    /// pins them. The window stays where it is, and keeps its lock, but there is
    /// nothing to see: [`Unpinned::pin`] gives it back, and says whether the bytes
    /// are as they were. A granule that the window covers in part is unpinned as a
    /// whole.
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Pinned, Region};
    /// # fn draw(_: &mut [u8]) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut window = region.try_write(..)?;
    /// draw(&mut window);
    /// let unpinned = window.unpin()?;
    /// // ... later ...
    /// let window = match unpinned.pin()? {
    ///     Pinned::Intact(window) => window,
    ///     Pinned::Lost(mut window) => {
    ///         draw(&mut window);
    ///         window
    ///     }
    /// };
    /// # drop(window);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// No slice of it can live on:
    ///
    /// ```compile_fail,E0505
    /// # use tombolo_guest::{Error, Region};
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let window = region.try_read(..)?;
    /// let slice: &[u8] = &window;
    /// let unpinned = window.unpin()?;
    /// println!("{}", slice[0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// With the window as it was: [`Error::WouldBlock`] while the region is lent,
    /// and if this guest has another window on these bytes, of which there may be
    /// slices; [`Error::Exhausted`] for a limit; [`Error::NotPermitted`] for a
    /// lent handle; [`Error::Gone`].
    pub fn unpin(self) -> Result<Unpinned<'r, A>, Refused<Self>> {
        let Self {
            mapping,
            entry,
            region,
            offset,
        } = self;
        let (claim, range) = (entry.claim, entry.range.clone());
        drop(entry);
        let unpinned = match ledger::shows(claim, &range) {
            true => Err(Error::WouldBlock),
            false => pins::unpin(region, offset, mapping.covered()),
        };
        match unpinned {
            Ok(()) => Ok(Unpinned::new(region, offset, mapping)),
            Err(error) => Err(Refused::new(Self::new(region, offset, mapping), error)),
        }
    }

    /// Makes it a live window, so that other guests of the strand may see and change
    /// the bytes, by live windows too.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if another window on these bytes conflicts with that;
    /// [`Error::Unsupported`], whose text says why, where live windows are refused;
    /// [`Error::Frozen`]; [`Error::Gone`]; with the window as it was.
    pub fn into_live(self) -> Result<LiveWindow<'r, A>, Refused<Self>> {
        let Self {
            mapping,
            entry,
            region,
            offset,
        } = self;
        match mapping.set_access() {
            Ok(mapping) => {
                drop(entry);
                Ok(LiveWindow::new(region, offset, mapping))
            }
            Err((mapping, code)) => Err(Refused::new(
                Self {
                    mapping,
                    entry,
                    region,
                    offset,
                },
                code.into(),
            )),
        }
    }

    fn set_access<B: Access>(self) -> Result<Window<'r, B>, Refused<Self>> {
        let Self {
            mapping,
            entry,
            region,
            offset,
        } = self;
        match mapping.set_access() {
            Ok(mapping) => {
                let (claim, range) = (entry.claim, entry.range.clone());
                drop(entry);
                Ok(Window {
                    mapping,
                    entry: Entry::new(claim, B::COUNT, range),
                    region,
                    offset,
                })
            }
            Err((mapping, code)) => Err(Refused::new(
                Self {
                    mapping,
                    entry,
                    region,
                    offset,
                },
                code.into(),
            )),
        }
    }
}

impl<'r> Window<'r, Write> {
    /// The bytes as values of another type, to change them.
    ///
    /// # Panics
    ///
    /// Panics if the window's length is not a multiple of the type's size.
    pub fn as_mut_slice_of<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self)
    }

    /// Makes it a window to read, so that others may read these bytes too.
    ///
    /// # Errors
    ///
    /// Those of `set-access`, with the window as it was.
    pub fn into_read(self) -> Result<ReadWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<'r> Window<'r, Read> {
    /// Makes it a window to write, if nobody else has a window on these bytes
    /// and the handle has [`Rights::WRITE`](crate::Rights::WRITE).
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`], [`Error::NotPermitted`], [`Error::Frozen`],
    /// [`Error::Gone`], with the window as it was.
    pub fn into_write(self) -> Result<WriteWindow<'r>, Refused<Self>> {
        self.set_access()
    }
}

impl<A: Access> Deref for Window<'_, A> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.mapping.bytes()
    }
}

impl DerefMut for Window<'_, Write> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.mapping.bytes_mut()
    }
}

impl<A: Access> fmt::Debug for Window<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("region", self.region)
            .field("offset", &self.offset)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The window's entry in the ledger.
pub(crate) struct Entry {
    claim: Claim,
    count: crate::ledger::Count,
    /// What the window covers of the region, in bytes, whole granules.
    range: Range<u64>,
}

impl Entry {
    /// Of a window on a region, from this byte of it on.
    pub(crate) fn of<K: Kind>(region: &Region, offset: u64, mapping: &Mapping<K>) -> Self {
        let range = offset..offset + mapping.covered();
        Self::new(region.claim(), K::COUNT, range)
    }

    fn new(claim: Claim, count: crate::ledger::Count, range: Range<u64>) -> Self {
        ledger::enter(claim, count, &range);
        Self {
            claim,
            count,
            range,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        ledger::strike(self.claim, self.count, &self.range);
    }
}

/// Why a window stayed as it was, and the window.
#[derive(Debug)]
pub struct Refused<W> {
    window: W,
    error: Error,
}

impl<W> Refused<W> {
    pub(crate) fn new(window: W, error: Error) -> Self {
        Self { window, error }
    }

    /// Why it was refused.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Gives the window back, as it was.
    pub fn into_window(self) -> W {
        self.window
    }
}

impl<W> fmt::Display for Refused<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<W: fmt::Debug> error::Error for Refused<W> {}

/// Drops the window, for functions that answer with [`Error`].
impl<W> From<Refused<W>> for Error {
    fn from(refused: Refused<W>) -> Self {
        refused.error
    }
}
