//! The interface `tombolo:memory/regions`, for bindings of worlds of your own.
//!
//! If the WIT of such a world says `use tombolo:memory/regions@0.1.0.{region};`, one line makes
//! the bindings use these types. It begins with `::`, because the bindings have a module
//! `tombolo` of their own:
//!
//! ```
//! mod bindings {
//!     wasmtime::component::bindgen!({
//! #       path: "wit/memory",
//! #       inline: "
//! #           package example:host;
//! #           interface sink {
//! #               use tombolo:memory/regions@0.1.0.{region};
//! #               take: func(it: borrow<region>) -> result<region, string>;
//! #           }
//! #           world plugin { export sink; }
//! #       ",
//!         // ... `path` and `world`, as usual ...
//!         with: { "tombolo:memory/regions": ::tombolo::regions },
//!     });
//! }
//! # fn main() {}
//! ```
//!
//! An argument `borrow<region>` of an export comes from [`Region::lend`], and an argument
//! `region` from [`Region::give`]. Both are a `Resource<Region>`. A result `region` goes to
//! [`Region::take`].
//!
//! [`add_to_linker`](crate::add_to_linker) adds the interface itself to a linker. Add other
//! imports of the world by the `add_to_linker` of their own modules. The one that the bindings
//! generate for the world as a whole is not needed.

pub use crate::host::Region;
pub use crate::wit::bindings::tombolo::memory::regions::{ErrorCode, Rights};

/// Items that the bindings of a world name, in a function that need not be called. [`Host`] is
/// the generated trait of the interface, and not a [`RegionHost`](crate::RegionHost).
pub use crate::wit::bindings::tombolo::memory::regions::{Host, HostWithStore, add_to_linker};
