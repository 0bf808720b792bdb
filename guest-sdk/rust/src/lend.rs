//! Lending a region while windows on it stay mapped.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

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

/// The windows to keep mapped through a lend: `&mut window`, or a tuple, an array or a
/// `Vec` of such.
pub trait Windows: sealed::Windows {}

pub(crate) mod sealed {
    use super::{Claim, WindowCount};

    pub trait Windows {
        /// Returns the number of these windows that belong to the claim.
        fn count(&self, claim: Claim) -> WindowCount;
    }
}

impl<W: Windows, const N: usize> Windows for [W; N] {}

impl<W: Windows, const N: usize> sealed::Windows for [W; N] {
    fn count(&self, claim: Claim) -> WindowCount {
        sum(self, claim)
    }
}

impl<W: Windows> Windows for Vec<W> {}

impl<W: Windows> sealed::Windows for Vec<W> {
    fn count(&self, claim: Claim) -> WindowCount {
        sum(self, claim)
    }
}

fn sum<W: Windows>(windows: &[W], claim: Claim) -> WindowCount {
    windows.iter().fold(WindowCount::default(), |sum, window| {
        sum.plus(window.count(claim))
    })
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Windows),*> Windows for ($($name,)*) {}

        impl<$($name: Windows),*> sealed::Windows for ($($name,)*) {
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
