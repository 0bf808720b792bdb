//! The system below: memfd, mapping, linear memories, fault handling.
//!
//! All the unsafe code of the crate is in this module, behind a safe interface,
//! and it is the only place that knows Linux. It knows nothing of claims and
//! rights: what it shows, and to whom, is decided above.
//!
//! | file | what |
//! |---|---|
//! | `file` | the memory object behind a region |
//! | `vmas` | the process's kernel mappings, counted |
//! | `memory` | linear memories, and windows in them |
//! | `huge` | huge pages, where they are to be had |
//! | `reservation` | the addresses of linear memories, used again and again |
//! | `table` | which memory an address is in, and which memories a store has |
//! | `resident` | what a store's memories take of the machine's |
//! | `view` | a region in the host program's own memory |
//! | `kernel` | the way to the kernel, which may refuse anything |
//! | `mark` | which memories a store has, and whether its guest trespassed |
//! | `forked` | which process this is |
//! | `allowance` | what resource limits leave the process |
//! | `absorb` | what the fault handler does with a window |
//! | `compiled` | code from the compiler's process |
//! | `fault` | writes to read-only windows that wasmtime cannot trap |
//! | `entry` | which store a thread is in |
//! | `signal` | signal masks and actions |
//! | `directory` | a directory that is reached without its name |
#![allow(unsafe_code)]

mod absorb;
mod allowance;
mod compiled;
mod directory;
pub mod entry;
pub mod fault;
mod file;
mod forked;
mod huge;
pub(crate) mod kernel;
mod mark;
mod memory;
mod reservation;
mod resident;
pub mod signal;
mod table;
mod view;
mod vmas;

pub use compiled::{Compiled, processor_seconds};
pub use directory::within;
pub(crate) use file::{FileSize, RegionFile};
pub(crate) use forked::{Forked, Process};
pub(crate) use mark::StoreMark;
pub(crate) use memory::{
    Creator, MapError, MemoryRecord, Perms, RESERVATION, ViolationSite, WindowObserver,
};
pub use memory::{Overgrown, StoreId};
pub use resident::{Taken, memory_bytes, private_bytes};
pub(crate) use table::memory_of;
pub(crate) use view::{View, ViewMut};
pub(crate) use vmas::{TooManyVmas, VmaCharge};
