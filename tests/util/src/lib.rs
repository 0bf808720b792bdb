//! Code that test programs and benchmarks share.
//!
//! | module | content |
//! |---|---|
//! | [`store`] | an embedder's store, engine and linker |
//! | [`puppet`] | a guest that a test drives by hand, call by call |
//! | [`run`] | running an app to its end, and what must hold then |
//! | [`three_guests`] | an app of three guests that call each other |
//! | [`child`] | processes that a test starts |
//! | [`process`] | descriptors, mappings, memory and threads of a process |
//! | [`cgroup`] | memory cgroups |
//! | [`proc_tree`] | made-up trees of `/proc` and cgroups |
//!
//! The guests themselves are in the package `tombolo-tests`, which builds them.

pub mod cgroup;
pub mod child;
pub mod proc_tree;
pub mod process;
pub mod puppet;
pub mod run;
pub mod store;
pub mod three_guests;

tombolo_tests::guests!(util);
