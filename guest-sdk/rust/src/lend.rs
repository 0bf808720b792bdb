//! Lending a region while windows on it stay mapped, to other guests and within this one.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use crate::error::Error;
use crate::ledger::{Claim, WindowCount};
use crate::region::Region;

/// A region that is lent while windows on it stay mapped, from [`Region::lend`] and
/// [`Window::lend`](crate::Window::lend).
///
/// It stands in for `&Region` in a call. It borrows the windows mutably, so nothing
/// reads or writes through them while it lives.
#[derive(Debug)]
pub struct Lent<'a> {
    /// An alias of the handle, which stays the property of the first value. The windows
    /// that are set aside are recorded in this value and not in the ledger, which makes
    /// forgetting it harmless.
    region: ManuallyDrop<Region>,
    windows: PhantomData<&'a mut [u8]>,
}

impl Deref for Lent<'_> {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

impl Region {
    /// Lends the region while windows on it stay mapped.
    ///
    /// Pass the result to a function that takes `&Region`. `windows` is `&mut window` for
    /// one window, or a tuple, an array or a `Vec` of such for several. The windows
    /// cannot be used while the result lives. For one window,
    /// [`Window::lend`](crate::Window::lend) is shorter: it lends through the handle that
    /// the window was mapped through.
    ///
    /// ```no_run
    /// # use tombolo_guest::{Error, Region, Rights};
    /// # fn process(_: &Region) {}
    /// # fn example(region: &Region) -> Result<(), Error> {
    /// let mut head = region.try_write(..65536)?;
    /// let mut tail = region.try_write(65536..)?;
    /// head[0] = 1;
    /// process(&region.lend((&mut head, &mut tail)));
    /// assert_eq!(head[0], 2, "the other guest wrote this");
    /// # Ok(())
    /// # }
    /// ```
    pub fn lend<'a>(&'a self, windows: impl Windows + 'a) -> Lent<'a> {
        Lent {
            region: self.alias(windows.count(self.claim())),
            windows: PhantomData,
        }
    }
}

/// A region that this guest lends to another part of its own component, from
/// [`Region::lend_within`] and [`Window::lend_within`](crate::Window::lend_within).
///
/// It stands in for `&Region` in calls, as many as you like, and can be mapped itself. It
/// borrows the windows mutably, so nothing reads or writes through them while it lives.
/// Dropping it ends the lend, and the windows show the region again. Forgetting it keeps the
/// lend for good: the windows then show zeros.
///
/// It is a lent handle: it cannot be duplicated, moved, published, frozen, pinned or
/// unpinned.
#[derive(Debug)]
pub struct LentWithin<'a> {
    /// A handle of its own. No windows but those made through it count for it.
    region: Region,
    windows: PhantomData<&'a mut [u8]>,
}

impl Deref for LentWithin<'_> {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

impl Region {
    /// Lends the region to another part of this guest's own component, while windows on it
    /// stay mapped.
    ///
    /// A component that a tool such as `wac` composed of several counts as one guest, whose
    /// parts call each other without the host. So a lend between them begins and ends by
    /// this value and not with a call. Pass it to functions that take `&Region`.
    ///
    /// `windows` is as for [`lend`](Region::lend), and `()` if there are none. It names all
    /// windows of the claim that are not live: the host sets aside every one. For one
    /// window, [`Window::lend_within`](crate::Window::lend_within) is shorter.
    ///
    /// Costs a call of the host now and one at the end, each with a system call for each
    /// window.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if this guest has a window of the claim that is not among
    /// `windows`, because slices of it may exist, or while the host uses the region;
    /// [`Error::Gone`]; [`Error::Purged`]; [`Error::Exhausted`] for a limit.
    pub fn lend_within<'a>(&'a self, windows: impl Windows + 'a) -> Result<LentWithin<'a>, Error> {
        Ok(LentWithin {
            region: self.lend_within_itself(windows.count(self.claim()))?,
            windows: PhantomData,
        })
    }
}

/// The windows to keep mapped through a lend: `&mut window`, or a tuple, an array or a
/// `Vec` of such. `()` stands for none.
pub trait Windows: sealed::Windows {}

pub(crate) mod sealed {
    use super::{Claim, WindowCount};

    pub trait Windows {
        /// Returns the number of these windows that belong to the claim.
        fn count(&self, claim: Claim) -> WindowCount;
    }
}

impl Windows for () {}

impl sealed::Windows for () {
    fn count(&self, _: Claim) -> WindowCount {
        WindowCount::default()
    }
}

impl<W: Windows, const N: usize> Windows for [W; N] {}

impl<W: sealed::Windows, const N: usize> sealed::Windows for [W; N] {
    fn count(&self, claim: Claim) -> WindowCount {
        sum(self, claim)
    }
}

impl<W: Windows> Windows for Vec<W> {}

impl<W: sealed::Windows> sealed::Windows for Vec<W> {
    fn count(&self, claim: Claim) -> WindowCount {
        sum(self, claim)
    }
}

fn sum<W: sealed::Windows>(windows: &[W], claim: Claim) -> WindowCount {
    windows.iter().fold(WindowCount::default(), |sum, window| {
        sum.plus(window.count(claim))
    })
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Windows),*> Windows for ($($name,)*) {}

        impl<$($name: sealed::Windows),*> sealed::Windows for ($($name,)*) {
            #[allow(non_snake_case)]
            fn count(&self, claim: Claim) -> WindowCount {
                let ($($name,)*) = self;
                WindowCount::default()$(.plus($name.count(claim)))*
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
