use std::error;
use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::{AnyBitPattern, NoUninit};

use crate::access::{Access, Read, Write};
use crate::error::Error;
use crate::ledger::{self, Claim};
use crate::lend::Lent;
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
            mapping,
            entry: Entry::new(region.claim(), A::COUNT),
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
    /// let mut window = region.write_window(..)?;
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
    /// let mut window = region.write_window(..)?;
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

    fn set_access<B: Access>(self) -> Result<Window<'r, B>, SetAccessError<Self>> {
        let Self {
            mapping,
            entry,
            region,
            offset,
        } = self;
        match mapping.set_access() {
            Ok(mapping) => {
                let claim = entry.claim;
                drop(entry);
                Ok(Window {
                    mapping,
                    entry: Entry::new(claim, B::COUNT),
                    region,
                    offset,
                })
            }
            Err((mapping, code)) => Err(SetAccessError {
                window: Self {
                    mapping,
                    entry,
                    region,
                    offset,
                },
                error: code.into(),
            }),
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
    pub fn into_read(self) -> Result<ReadWindow<'r>, SetAccessError<Self>> {
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
    pub fn into_write(self) -> Result<WriteWindow<'r>, SetAccessError<Self>> {
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
struct Entry {
    claim: Claim,
    count: crate::ledger::Count,
}

impl Entry {
    fn new(claim: Claim, count: crate::ledger::Count) -> Self {
        ledger::enter(claim, count);
        Self { claim, count }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        ledger::strike(self.claim, self.count);
    }
}

/// Why a window kept its access, and the window.
#[derive(Debug)]
pub struct SetAccessError<W> {
    window: W,
    error: Error,
}

impl<W> SetAccessError<W> {
    /// Why it was refused.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Gives the window back, as it was.
    pub fn into_window(self) -> W {
        self.window
    }
}

impl<W> fmt::Display for SetAccessError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<W: fmt::Debug> error::Error for SetAccessError<W> {}

/// Drops the window, for functions that answer with [`Error`].
impl<W> From<SetAccessError<W>> for Error {
    fn from(refused: SetAccessError<W>) -> Self {
        refused.error
    }
}
