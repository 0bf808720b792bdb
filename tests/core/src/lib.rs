//! The pure core of the host library, by itself, and what tests of it share.
//!
//! What decides who may see
//! which bytes needs neither wasmtime nor a kernel, and without them Miri and
//! fuzzers compile it in seconds, and can run it at all.

pub mod model;
pub use tombolo_region as region;
pub mod spans;
pub mod system_under_test;
