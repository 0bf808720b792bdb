//! Access to the bytes of bodies: lists, windows, or copies on a host that cannot map.

use std::ops::Range;

use tombolo_guest::{Error, GRANULE, ReadWindow, Region, WriteWindow};

use crate::Body;

/// The size of a part in bytes that is copied at a time: the default limit, which is a whole
/// number of granules.
const PART: u64 = 256 * GRANULE;

/// Divides the first `length` bytes of a region into parts.
fn parts(length: u64) -> impl Iterator<Item = Range<u64>> {
    (0..length)
        .step_by(PART as usize)
        .map(move |start| start..length.min(start + PART))
}

/// Returns the number of bytes in a body.
pub fn length(body: &Body<'_>) -> u64 {
    match body {
        Body::Bytes(bytes) => bytes.len() as u64,
        Body::Region(lent) => lent.length,
    }
}

/// Lets `reader` read a body, in one part or several. Returns how it was seen, for the log.
pub fn read(body: &Body<'_>, mut reader: impl FnMut(&[u8])) -> Result<&'static str, Error> {
    let lent = match body {
        Body::Bytes(bytes) => {
            reader(bytes);
            return Ok("as a list");
        }
        Body::Region(lent) => lent,
    };
    match window(lent.region, lent.length) {
        Ok(window) => {
            reader(&window[..lent.length as usize]);
            Ok("in place")
        }
        Err(Error::Unsupported(_)) => {
            for Range { start, end } in parts(lent.length) {
                reader(&lent.region.read_at(start, end - start)?);
            }
            Ok("as a copy")
        }
        Err(error) => Err(error),
    }
}

/// Lets `changer` change the first `length` bytes of a region, in one part or several.
pub fn change(
    region: &Region,
    length: u64,
    mut changer: impl FnMut(&mut [u8]),
) -> Result<(), Error> {
    match write_window(region, length) {
        Ok(mut window) => changer(&mut window[..length as usize]),
        Err(Error::Unsupported(_)) => {
            for Range { start, end } in parts(length) {
                let mut bytes = region.read_at(start, end - start)?;
                changer(&mut bytes);
                region.write_at(start, &bytes)?;
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Copies the first `length` bytes of a region to another one.
pub fn copy(from: &Region, to: &Region, length: u64) -> Result<(), Error> {
    match (window(from, length), write_window(to, length)) {
        (Ok(from), Ok(mut to)) => {
            let length = length as usize;
            to[..length].copy_from_slice(&from[..length]);
            Ok(())
        }
        (Err(Error::Unsupported(_)), _) => parts(length).try_for_each(|Range { start, end }| {
            to.write_at(start, &from.read_at(start, end - start)?)
        }),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Maps the whole region if all of it is pinned. Windows that always show the same part are
/// cheaper than those that are as long as each body.
fn window(region: &Region, length: u64) -> Result<ReadWindow<'_>, Error> {
    match region.try_read(..) {
        Err(Error::Unpinned) => region.try_read(..length),
        window => window,
    }
}

fn write_window(region: &Region, length: u64) -> Result<WriteWindow<'_>, Error> {
    match region.try_write(..) {
        Err(Error::Unpinned) => region.try_write(..length),
        window => window,
    }
}
