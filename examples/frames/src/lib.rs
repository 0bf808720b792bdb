//! Code that the guests of the pipeline share.
//!
//! ```text
//!   source --decoded--> denoise --denoised--> sharpen --sharpened--> sink
//!     ^                    |                     |                    |
//!     +------- done -------+---------------------+--------------------+
//! ```
//!
//! Regions move around the ring. The source counts them. If a stage crashes, the frame that
//! it held is lost together with its region, and the source creates a new one.

pub mod filters;
pub mod images;
mod message;
mod source;
mod stage;

pub use message::{Header, Kind};
pub use source::{Gone, Progress, Source, lost};
pub use stage::{Failure, filter, sink};
