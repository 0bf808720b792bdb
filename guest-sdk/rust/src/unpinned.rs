//! Windows whose bytes may be purged.

use std::fmt;

use crate::access::Access;
use crate::pins::Pinned;
use crate::refused::Refused;
use crate::region::Region;
use crate::view::View;
use crate::window::Window;

/// A window whose bytes are unpinned, from [`Window::unpin`].
///
/// It keeps its place in this guest's memory and its lock, so that pinning it again meets
/// no conflict. There are no slices of it. Dropping it unmaps it, and leaves the bytes
/// unpinned.
pub struct Unpinned<'r, A: Access>(View<'r, A>);

impl<'r, A: Access> Unpinned<'r, A> {
    /// Returns the handle that the window was mapped through.
    pub fn region(&self) -> &'r Region {
        self.0.region()
    }

    /// Returns the offset in the region at which the window begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.0.offset()
    }

    /// Pins the bytes, and returns the window. The variant of [`Pinned`] says whether
    /// bytes were lost.
    ///
    /// # Errors
    ///
    /// With the unchanged window: [`Error::Exhausted`] for a limit, or if purging cannot
    /// make enough room in the host's budget; [`Error::WouldBlock`] while the region is
    /// lent; [`Error::Purged`] for a frozen region that was purged; [`Error::Gone`].
    ///
    /// [`Error::Exhausted`]: crate::Error::Exhausted
    /// [`Error::WouldBlock`]: crate::Error::WouldBlock
    /// [`Error::Purged`]: crate::Error::Purged
    /// [`Error::Gone`]: crate::Error::Gone
    pub fn pin(self) -> Result<Pinned<Window<'r, A>>, Refused<Self>> {
        match self.0.pin() {
            Ok(pinned) => Ok(pinned.map(Window)),
            Err((view, error)) => Err(Refused::new(Self(view), error)),
        }
    }
}

impl<'r, A: Access> Window<'r, A> {
    /// Unpins the bytes of the window, which this guest does not need now. The host may
    /// purge them when memory is needed elsewhere, unless another claim pins them.
    ///
    /// The window keeps its place and its lock, but there are no slices of it.
    /// [`Unpinned::pin`] returns the window, and whether its bytes are intact. A granule
    /// that the window covers in part is unpinned as a whole.
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
    /// No slice of the window can live on:
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
    /// With the unchanged window: [`Error::WouldBlock`] while the region is lent, and if
    /// this guest has another window on these bytes, because slices of it may exist;
    /// [`Error::Exhausted`] for a limit; [`Error::NotPermitted`] for a lent handle;
    /// [`Error::Gone`].
    ///
    /// [`Error::WouldBlock`]: crate::Error::WouldBlock
    /// [`Error::Exhausted`]: crate::Error::Exhausted
    /// [`Error::NotPermitted`]: crate::Error::NotPermitted
    /// [`Error::Gone`]: crate::Error::Gone
    pub fn unpin(self) -> Result<Unpinned<'r, A>, Refused<Self>> {
        match self.0.unpin() {
            Ok(view) => Ok(Unpinned(view)),
            Err((view, error)) => Err(Refused::new(Self(view), error)),
        }
    }
}

impl<A: Access> fmt::Debug for Unpinned<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Unpinned", f)
    }
}
