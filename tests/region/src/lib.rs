//! The model of the ledger, and the system that runs both side by side.
//!
//! The ledger needs neither wasmtime nor a kernel. So Miri and fuzzers compile and run these
//! tests in seconds.

pub mod model;
pub use tombolo_region as region;
pub mod spans;
pub mod system_under_test;
