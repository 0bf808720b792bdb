use std::marker::PhantomData;

use crate::bindings::windows;
use crate::ledger::Count;

/// What a window lets the guest do with the bytes that it shows: [`Read`] or
/// [`Write`].
///
/// In a [`Window`](crate::Window) nobody else interferes with that. In a
/// [`LiveWindow`](crate::LiveWindow) other guests of the strand do the same
/// meanwhile.
pub trait Access: sealed::Access {}

/// Access `read`: nobody writes these bytes while the window lives. Or, of a live
/// window, `live-read`.
#[derive(Debug)]
pub enum Read {}

/// Access `write`: nobody else sees these bytes while the window lives. Or, of a live
/// window, `live-write`.
#[derive(Debug)]
pub enum Write {}

/// Live access of this kind.
#[derive(Debug)]
pub(crate) struct Live<A>(PhantomData<A>);

impl Access for Read {}
impl Access for Write {}

pub(crate) mod sealed {
    use super::{Count, windows};

    /// What a window can be.
    pub trait Kind {
        const CODE: windows::Access;
        /// How it counts where regions are lent: only what has slices does.
        const COUNT: Count;
    }

    pub trait Access: Kind {
        /// The code of a live window.
        const LIVE: windows::Access;
    }
}

impl sealed::Kind for Read {
    const CODE: windows::Access = windows::Access::Read;
    const COUNT: Count = Count::READ;
}

impl sealed::Kind for Write {
    const CODE: windows::Access = windows::Access::Write;
    const COUNT: Count = Count::WRITE;
}

impl sealed::Access for Read {
    const LIVE: windows::Access = windows::Access::LiveRead;
}

impl sealed::Access for Write {
    const LIVE: windows::Access = windows::Access::LiveWrite;
}

impl<A: Access> sealed::Kind for Live<A> {
    const CODE: windows::Access = A::LIVE;
    const COUNT: Count = Count::NONE;
}
