//! The system below: memfd, mapping, linear memories, fault handling.
//!
//! All unsafe code of the crate is in this module, behind a safe interface, and so is all mapping.
//! It knows nothing of claims and rights: the layer above decides what is mapped, and for which
//! guest.
//!
//! | file | content |
//! |---|---|
//! | `file` | the memory object behind a region |
//! | `memfd` | memory files |
//! | `vmas` | the count of the VMAs that windows cost the process |
//! | `store_id` | the identity of a store |
//! | `record` | linear memories as Tombolo knows them, and windows in them |
//! | `memory` | linear memories as wasmtime uses them |
//! | `huge` | huge pages |
//! | `reservation` | the addresses of linear memories, and their reuse |
//! | `table` | memories by address, and by store |
//! | `pagemap` | what the kernel says of each page |
//! | `parking` | page tables of windows that have ended |
//! | `recycling` | files of regions that have ended |
//! | `resident` | the resident pages of a store's memories |
//! | `view` | regions in the host program's own memory |
//! | `kernel` | system calls, any of which the kernel may refuse |
//! | `unmap` | the end of mappings |
//! | `forked` | the identity of this process |
//! | `allowance` | the memory that resource limits leave to the process |
//! | `absorb` | the fault handler's answer to a write to a read-only window |
//! | `compiled` | code from the compiler's process |
//! | `fault` | writes to read-only windows that wasmtime cannot trap |
//! | `entry` | the store that a thread is in |
//! | `signal` | signal masks and actions |
//! | `directory` | a directory that is reached without its name |
//! | `slot` | values of a call that take one core value each |
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
mod memfd;
mod memory;
mod pagemap;
pub(crate) mod parking;
mod record;
pub(crate) mod recycling;
mod reservation;
mod resident;
pub mod signal;
mod slot;
mod store_id;
mod table;
mod unmap;
mod view;
mod vmas;

pub use compiled::{Compiled, processor_seconds};
pub use directory::within;
pub(crate) use file::{Bequest, RegionFile};
pub(crate) use forked::{Forked, Process};
pub(crate) use memfd::FileSize;
pub(crate) use memory::Creator;
pub use memory::Overgrown;
pub use record::MapError;
pub(crate) use record::{
    MemoryRecord, Perms, RESERVATION, StoreMark, ViolationSite, WindowObserver,
};
pub use resident::{Taken, memory_bytes, private_bytes};
pub use slot::Slot;
pub use store_id::StoreId;
pub(crate) use table::memory_of;
pub(crate) use view::{View, ViewMut};
