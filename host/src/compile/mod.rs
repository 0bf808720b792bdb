//! Measures components and compiles them within limits.
//!
//! | file | what |
//! |---|---|
//! | `limits` | the limits, and the error that names one |
//! | `measure` | how much of everything a component has |
//! | `function` | what one core function costs the compiler |
//! | `unfold` | instances, multiplied out |

mod function;
mod limits;
mod measure;
mod unfold;

pub use limits::CompileLimits;
pub(crate) use measure::{Core, Measure, Refused, Totals, measure};
