//! The kinds of access that a window can have, as types.

use std::marker::PhantomData;

use crate::bindings::windows;

/// The access of a guest to the bytes of its window: [`Read`] or [`Write`].
///
/// A [`Window`](crate::Window) excludes every conflicting access. A
/// [`LiveWindow`](crate::LiveWindow) does not: other guests of the strand access the
/// same bytes through live windows of their own.
pub trait Access: sealed::Access {}

/// Access `read`: no guest writes these bytes while the window lives. For a live
/// window: `live-read`.
#[derive(Debug)]
pub enum Read {}

/// Access `write`: no other guest sees these bytes while the window lives. For a live
/// window: `live-write`.
#[derive(Debug)]
pub enum Write {}

/// Live access of kind `A`.
#[derive(Debug)]
pub(crate) struct Live<A>(PhantomData<A>);

impl Access for Read {}
impl Access for Write {}

pub(crate) mod sealed {
    use super::windows;

    /// A kind of access, plain or live.
    pub trait AccessKind {
        const CODE: windows::Access;
    }

    pub trait Access: AccessKind {
        /// The code of a live window of this kind.
        const LIVE: windows::Access;
    }
}

impl sealed::AccessKind for Read {
    const CODE: windows::Access = windows::Access::Read;
}

impl sealed::AccessKind for Write {
    const CODE: windows::Access = windows::Access::Write;
}

impl sealed::Access for Read {
    const LIVE: windows::Access = windows::Access::LiveRead;
}

impl sealed::Access for Write {
    const LIVE: windows::Access = windows::Access::LiveWrite;
}

impl<A: Access> sealed::AccessKind for Live<A> {
    const CODE: windows::Access = A::LIVE;
}
