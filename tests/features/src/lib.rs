//! Features that every cargo command of this workspace enables.
//!
//! Cargo enables the features of all selected packages together. This package is among the
//! default members, so commands without `-p` share one build of wasmtime. For a single package,
//! `-p NAME -p workspace-features` does.
