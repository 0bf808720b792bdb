//! The unit of windows and pins.

/// The number of bytes in a granule, the unit of windows, on every host.
pub const GRANULE: u64 = 65536;
