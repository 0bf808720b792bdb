//! Access to the bytes of regions: through windows, or by copying on a host that cannot
//! map.

use std::ops::{Deref, Range};

use tombolo_guest::{Error, GRANULE, ReadWindow, Region};

/// The size of a part in bytes: the default limit of a copy, which is a whole number of
/// granules, as windows need.
const PART: u64 = 256 * GRANULE;

/// Divides the first `length` bytes of a region into parts.
pub fn parts(length: u64) -> impl Iterator<Item = Range<u64>> {
    (0..length)
        .step_by(PART as usize)
        .map(move |start| start..length.min(start + PART))
}

/// A part of a region, for reading.
pub enum Seen<'r> {
    /// The mapped part.
    Window(ReadWindow<'r>),
    /// A copy of the part.
    Copy(Vec<u8>),
}

impl<'r> Seen<'r> {
    pub fn new(region: &'r Region, range: Range<u64>) -> Result<Self, Error> {
        match region.try_read(range.clone()) {
            Err(Error::Unsupported(_)) => region
                .read_at(range.start, range.end - range.start)
                .map(Self::Copy),
            window => window.map(Self::Window),
        }
    }

    /// Returns how the part is read, for the log.
    pub fn how(&self) -> &'static str {
        match self {
            Self::Window(_) => "in place",
            Self::Copy(_) => "as a copy",
        }
    }
}

impl Deref for Seen<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Window(window) => window,
            Self::Copy(bytes) => bytes,
        }
    }
}

/// Fills a part of a region.
pub fn fill(
    region: &Region,
    range: Range<u64>,
    filler: impl FnOnce(&mut [u8]),
) -> Result<(), Error> {
    match region.try_write(range.clone()) {
        Ok(mut window) => filler(&mut window),
        Err(Error::Unsupported(_)) => {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            filler(&mut bytes);
            region.write_at(range.start, &bytes)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
