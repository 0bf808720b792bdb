//! The pure core of the host library, by itself, and what tests of it share.
//!
//! It is the host's own source, included by its path: what decides who may see
//! which bytes needs neither wasmtime nor a kernel, and without them Miri and
//! fuzzers compile it in seconds, and can run it at all.

pub mod model;
#[path = "../../../host/src/region/mod.rs"]
pub mod region;
pub mod spans;
pub mod world;
