use crate::bindings::windows;
use crate::ledger::Count;

/// What a [`Window`](crate::Window) lets the guest do with the bytes that it
/// shows: [`Read`] or [`Write`].
pub trait Access: sealed::Access {}

/// Access `read`: nobody writes these bytes while the window lives.
#[derive(Debug)]
pub enum Read {}

/// Access `write`: nobody else sees these bytes while the window lives.
#[derive(Debug)]
pub enum Write {}

impl Access for Read {}
impl Access for Write {}

mod sealed {
    pub trait Access {
        const CODE: super::windows::Access;
        const COUNT: super::Count;
    }
}

impl sealed::Access for Read {
    const CODE: windows::Access = windows::Access::Read;
    const COUNT: Count = Count::READ;
}

impl sealed::Access for Write {
    const CODE: windows::Access = windows::Access::Write;
    const COUNT: Count = Count::WRITE;
}
