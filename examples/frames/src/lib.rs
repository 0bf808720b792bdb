//! What the guests of the pipeline share.
//!
//! ```text
//!   source --decoded--> denoise --denoised--> sharpen --sharpened--> sink
//!     ^                    |                     |                    |
//!     +------- done -------+---------------------+--------------------+
//! ```
//!
//! Regions move around the ring. The source owns the count of them: what a stage
//! had in its hand when it crashed is lost with its region, and the source makes
//! another one.

pub mod filters;
pub mod images;
mod message;
mod source;
mod stage;

pub use message::{Header, Kind};
pub use source::{Gone, Progress, Source, lost};
pub use stage::{Failure, filter, sink};
