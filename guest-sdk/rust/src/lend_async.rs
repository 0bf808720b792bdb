//! Lending a region by an async function.

use crate::access::Access;
use crate::lend::sealed;
use crate::refused::Refused;
use crate::region::Region;
use crate::window::Window;

/// The windows to keep mapped through a lend by an async function: a window, or a tuple, an
/// array or a `Vec` of such.
pub trait OwnedWindows: sealed::Windows {}

impl<A: Access> OwnedWindows for Window<'_, A> {}

impl<W: OwnedWindows, const N: usize> OwnedWindows for [W; N] {}

impl<W: OwnedWindows> OwnedWindows for Vec<W> {}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: OwnedWindows),*> OwnedWindows for ($($name,)*) {}
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);

impl Region {
    /// Lends the region by an async function, while windows on it stay mapped. `windows` is
    /// a window, or a tuple, an array or a `Vec` of such. Returns the windows, and the
    /// function's result. For one window, [`Window::lend_async`] is shorter.
    ///
    /// An async call may go on after its future has been dropped or forgotten. Nothing may
    /// then read or write through the windows: so this takes them, and returns them only
    /// when the call has ended. **Dropping the future cancels the call and drops the
    /// windows.** Their bytes belong to the callee until it has noticed.
    ///
    /// While this waits, other tasks of this guest run. They see zeros where the windows
    /// were. They can map further windows, which take part in the lock like anyone's.
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Region};
    /// # async fn process(_: &Region) -> bool { true }
    /// # async fn example(region: &Region) -> Result<(), Error> {
    /// let head = region.try_write(..65536)?;
    /// let tail = region.try_write(65536..)?;
    /// let ((head, _tail), done) = region
    ///     .lend_async((head, tail), async |region| process(region).await)
    ///     .await?;
    /// println!("{done}, {}", head[0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The call may use the region several times, one after the other or at once. It must
    /// not forget the future of one that runs: the guest traps then.
    ///
    /// Costs three calls of the host, beside those of the lend.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`](crate::Error::Gone), [`Error::Purged`](crate::Error::Purged), and
    /// [`Error::Exhausted`](crate::Error::Exhausted) for the limit `handles`; with the
    /// unchanged windows. The call has not begun then.
    ///
    /// # Panics
    ///
    /// The call panics if this guest has other windows of the claim, even windows to read.
    /// Live windows do not count.
    pub async fn lend_async<W: OwnedWindows, R>(
        &self,
        windows: W,
        call: impl AsyncFnOnce(&Region) -> R,
    ) -> Result<(W, R), Refused<W>> {
        let count = windows.count(self.claim());
        // A handle of its own. The component model traps if it is dropped while a call still
        // borrows it, so that the windows never come back before the lend has ended. It is
        // dropped before the windows.
        let lent = match self.restrict_aside(count) {
            Ok(lent) => lent,
            Err(error) => return Err(Refused::new(windows, error)),
        };
        let answer = call(&lent).await;
        drop(lent);
        Ok((windows, answer))
    }
}

impl<A: Access> Window<'_, A> {
    /// Lends the region by an async function while this window stays mapped. Returns the
    /// window, and the function's result.
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Region};
    /// # async fn process(_: &Region) -> bool { true }
    /// # async fn example(region: &Region) -> Result<(), Error> {
    /// let mut window = region.try_write(..)?;
    /// window.fill(1);
    /// let (window, done) = window.lend_async(async |region| process(region).await).await?;
    /// assert!(done && window[0] == 2, "the other guest wrote this");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Dropping the future cancels the call and drops the window. So no slice of it can live
    /// through the call:
    ///
    /// ```compile_fail,E0505
    /// # use tombolo_guest::{Error, Region};
    /// # async fn process(_: &Region) -> bool { true }
    /// # async fn example(region: &Region) -> Result<(), Error> {
    /// let window = region.try_read(..)?;
    /// let slice: &[u8] = &window;
    /// let (window, done) = window.lend_async(async |region| process(region).await).await?;
    /// println!("{}", slice[0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Region::lend_async`].
    ///
    /// # Panics
    ///
    /// As [`Region::lend_async`].
    pub async fn lend_async<R>(
        self,
        call: impl AsyncFnOnce(&Region) -> R,
    ) -> Result<(Self, R), Refused<Self>> {
        let region = self.region();
        region.lend_async(self, call).await
    }
}
