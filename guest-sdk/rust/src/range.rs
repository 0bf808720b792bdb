//! Ranges of bytes, as the host wants them.

use std::ops::{Bound, Range, RangeBounds};

use crate::bindings::pins::Span;
use crate::error::Error;
use crate::granule::GRANULE;

/// Resolves a range of bytes in a region of `size` bytes. It may be empty.
pub(crate) fn bytes(range: impl RangeBounds<u64>, size: u64) -> Result<Range<u64>, Error> {
    let overflow = || Error::OutOfBounds("the range ends past the largest offset".to_owned());
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.checked_add(1).ok_or_else(overflow)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.checked_add(1).ok_or_else(overflow)?,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => size,
    };
    if end > size || start > size {
        return Err(Error::OutOfBounds(format!(
            "{start}..{end} in a region of {size} bytes"
        )));
    }
    Ok(start..end.max(start))
}

/// Resolves the range of a window in a region of `size` bytes. It is not empty, and
/// begins on a granule.
pub(crate) fn window(range: impl RangeBounds<u64>, size: u64) -> Result<Range<u64>, Error> {
    let Range { start, end } = bytes(range, size)?;
    if !start.is_multiple_of(GRANULE) {
        return Err(Error::Misaligned(format!(
            "the range begins at byte {start}"
        )));
    }
    if start >= end {
        return Err(Error::InvalidArgument(format!(
            "the range {start}..{end} is empty"
        )));
    }
    Ok(start..end)
}

/// Resolves a range to pin or unpin in a region of `size` bytes.
pub(crate) fn pins(range: impl RangeBounds<u64>, size: u64) -> Result<Span, Error> {
    let Range { start, end } = window(range, size)?;
    let length = match end == size {
        // Up to the end, which may lie within a granule.
        true => 0,
        false => end - start,
    };
    if !length.is_multiple_of(GRANULE) {
        return Err(Error::Misaligned(format!(
            "the range of pins ends at byte {end}"
        )));
    }
    Ok(Span {
        offset: start,
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_range_is_resolved() {
        assert_eq!(window(.., 100_000), Ok(0..100_000));
        assert_eq!(window(65536.., 100_000), Ok(65536..100_000));
        assert_eq!(window(..1, 100_000), Ok(0..1));
        assert_eq!(window(..=9, 100_000), Ok(0..10));
        assert_eq!(window(65536..65537, 100_000), Ok(65536..65537));
    }

    #[test]
    fn pins_end_on_a_granule_or_with_the_region() {
        let pins = |range: Range<u64>| pins(range, 100_000).map(|it| (it.offset, it.length));
        assert_eq!(pins(0..100_000), Ok((0, 0)));
        assert_eq!(pins(0..65536), Ok((0, 65536)));
        assert_eq!(pins(65536..100_000), Ok((65536, 0)));
        assert!(matches!(pins(0..1), Err(Error::Misaligned(_))));
        assert!(matches!(pins(1..65536), Err(Error::Misaligned(_))));
        assert!(matches!(pins(0..131_072), Err(Error::OutOfBounds(_))));
    }

    #[test]
    fn refused_range_names_the_reason() {
        let misaligned = |r| matches!(r, Err(Error::Misaligned(_)));
        let outside = |r| matches!(r, Err(Error::OutOfBounds(_)));
        let empty = |r| matches!(r, Err(Error::InvalidArgument(_)));
        assert!(misaligned(window(1.., 100_000)));
        assert!(outside(window(..100_001, 100_000)));
        assert!(outside(window(131_072.., 100_000)));
        assert!(outside(window(..=u64::MAX, 100_000)));
        assert!(empty(window(..0, 100_000)));
        assert!(empty(window(65536..65536, 100_000)));
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = window(65536..10, 100_000);
        assert!(empty(reversed));
    }
}
