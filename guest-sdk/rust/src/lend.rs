use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use crate::access::Access;
use crate::ledger::{Claim, Count};
use crate::region::Region;
use crate::window::Window;

/// A region, lent while windows on it stay mapped: from [`Region::lend`] and
/// [`Window::lend`].
///
/// It stands in for `&Region` in a call. As long as it lives, the windows are
/// mutably borrowed, so nothing reads or writes through them.
#[derive(Debug)]
pub struct Lent<'a> {
    /// The same handle, which is still the first value's to give back. That
    /// this very value knows what is set aside, and the ledger does not, makes
    /// forgetting it harmless.
    region: ManuallyDrop<Region>,
    windows: PhantomData<&'a mut [u8]>,
}

impl<'a> Lent<'a> {
    pub(crate) fn new(region: &'a Region, windows: impl Windows + 'a) -> Self {
        Self {
            region: region.alias(windows.count(region.claim())),
            windows: PhantomData,
        }
    }
}

impl Deref for Lent<'_> {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

/// Windows to keep mapped through a lend: `&mut window`, or a tuple, an array
/// or a `Vec` of such.
pub trait Windows: sealed::Windows {}

mod sealed {
    pub trait Windows {
        /// How many of these windows are of the claim.
        fn count(&self, claim: super::Claim) -> super::Count;
    }
}

impl<A: Access> Windows for &mut Window<'_, A> {}

impl<A: Access> sealed::Windows for &mut Window<'_, A> {
    fn count(&self, claim: Claim) -> Count {
        if self.claim() == claim {
            A::COUNT
        } else {
            Count::default()
        }
    }
}

impl<W: Windows, const N: usize> Windows for [W; N] {}

impl<W: Windows, const N: usize> sealed::Windows for [W; N] {
    fn count(&self, claim: Claim) -> Count {
        sum(self, claim)
    }
}

impl<W: Windows> Windows for Vec<W> {}

impl<W: Windows> sealed::Windows for Vec<W> {
    fn count(&self, claim: Claim) -> Count {
        sum(self, claim)
    }
}

/// All windows of a collection, `windows.iter_mut()` without the call.
impl<A: Access> Windows for &mut [Window<'_, A>] {}

impl<A: Access> sealed::Windows for &mut [Window<'_, A>] {
    fn count(&self, claim: Claim) -> Count {
        self.iter()
            .filter(|window| window.claim() == claim)
            .fold(Count::default(), |sum, _| sum.plus(A::COUNT))
    }
}

fn sum<W: Windows>(windows: &[W], claim: Claim) -> Count {
    windows.iter().fold(Count::default(), |sum, window| {
        sum.plus(window.count(claim))
    })
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: Windows),*> Windows for ($($name,)*) {}

        impl<$($name: Windows),*> sealed::Windows for ($($name,)*) {
            #[allow(non_snake_case)]
            fn count(&self, claim: Claim) -> Count {
                let ($($name,)*) = self;
                Count::default()$(.plus($name.count(claim)))*
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
