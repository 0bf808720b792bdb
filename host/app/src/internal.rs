//! The parts of this crate that the program `tombolo` is built from. They are no public API and
//! change without notice; `tombolo-cli` pins the version of this crate exactly.
//!
//! The traits add methods to public types.

use std::io;

pub use crate::compile::SharedCode;
pub use crate::near::Hints;
pub use crate::output::Lane;

use crate::builder::AppBuilder;
use crate::output::Output;
use crate::spec::GuestSpec;

/// An app that is being described, as the program sees it.
pub trait AppBuilderInternals {
    /// Returns the guests, to set the destinations of their output.
    fn guests_mut(&mut self) -> &mut [GuestSpec];

    /// Makes all calls between guests pass wasmtime's dynamic values, and none of them types.
    /// Guests cannot tell the difference. It is slower, and is there to compare the two.
    #[must_use]
    fn dynamic_calls(self) -> AppBuilder;

    /// Compiles only programs that no other app with this code has compiled.
    #[must_use]
    fn share_code(self, code: &SharedCode) -> AppBuilder;
}

impl AppBuilderInternals for AppBuilder {
    fn guests_mut(&mut self) -> &mut [GuestSpec] {
        self.guests_mut()
    }

    fn dynamic_calls(mut self) -> AppBuilder {
        self.dynamic_calls = true;
        self
    }

    fn share_code(mut self, code: &SharedCode) -> AppBuilder {
        self.shared_code = Some(code.clone());
        self
    }
}

/// A destination of output, as the program sees it.
pub trait OutputInternals {
    /// Adds a lane for lines of the program.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    fn program(&self) -> io::Result<Lane>;
}

impl OutputInternals for Output {
    fn program(&self) -> io::Result<Lane> {
        self.program()
    }
}
