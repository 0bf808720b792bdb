//! The interface `tombolo:memory/regions`, for the bindings of a guest's own WIT.
//!
//! If that WIT says `use tombolo:memory/regions@0.1.0.{region};`, one line makes the
//! bindings use the types of this crate:
//!
//! ```no_run
//! wit_bindgen::generate!({
//! #   path: "wit",
//! #   inline: "
//! #       package example:guest;
//! #       interface sink {
//! #           use tombolo:memory/regions@0.1.0.{region};
//! #           call: func(it: borrow<region>);
//! #       }
//! #       world guest { import sink; }
//! #   ",
//!     with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
//! });
//! # fn main() {}
//! ```

pub use crate::bindings::regions::{ErrorCode, Rights};
pub use crate::region::Region;
