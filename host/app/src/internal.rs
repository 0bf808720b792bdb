//! The parts of this crate that the program `tombolo` is built from. They are no public API and
//! change without notice; `tombolo-cli` pins the version of this crate exactly.

pub use crate::near::Hints;
pub use crate::output::Lane;
