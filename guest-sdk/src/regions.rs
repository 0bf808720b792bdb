//! The interface `tombolo:memory/regions` for the bindings of a guest's own
//! WIT.
//!
//! Where that WIT says `use tombolo:memory/regions@0.1.0.{region};`, one line
//! makes the bindings use these types:
//!
//! ```ignore
//! wit_bindgen::generate!({
//!     with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
//! });
//! ```

pub use crate::bindings::regions::{ErrorCode, Rights};
pub use crate::region::Region;
