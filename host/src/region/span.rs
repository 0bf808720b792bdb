use std::fmt;
use std::ops::Range;

/// The bytes in a granule, the unit of windows: the wasm page, on every host.
pub const GRANULE: u64 = 65_536;

/// A run of granules of a region, never empty. Bounds are in granules.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    start: u64,
    end: u64,
}

impl Span {
    /// The part of a region of `size` bytes that a window of `length` bytes
    /// from `offset` on shows.
    ///
    /// It may reach the size rounded up to granules: the backing file is that
    /// long.
    ///
    /// # Errors
    ///
    /// [`SpanError`] says which of the arguments is wrong.
    pub fn of_window(offset: u64, length: u64, size: u64) -> Result<Span, SpanError> {
        let end = whole_granules("offset", offset, length)?;
        let limit = size
            .checked_next_multiple_of(GRANULE)
            .ok_or(SpanError::OutOfBounds {
                what: "region",
                end,
                limit: size,
            })?;
        if end > limit {
            return Err(SpanError::OutOfBounds {
                what: "region",
                end,
                limit,
            });
        }
        Ok(Span {
            start: offset / GRANULE,
            end: end / GRANULE,
        })
    }

    /// Checks the part of a memory of `size` bytes that a window of `length`
    /// bytes at `address` covers, and gives its end.
    ///
    /// # Errors
    ///
    /// [`SpanError`] says which of the arguments is wrong.
    pub fn check_memory(address: u64, length: u64, size: u64) -> Result<u64, SpanError> {
        let end = whole_granules("address", address, length)?;
        if end > size {
            return Err(SpanError::OutOfBounds {
                what: "memory",
                end,
                limit: size,
            });
        }
        Ok(end)
    }

    /// The granules that `length` bytes from `offset` on touch, in a region of
    /// `size` bytes; `None` if there are no bytes.
    ///
    /// # Errors
    ///
    /// [`SpanError::OutOfBounds`] where the bytes do not lie inside the region.
    pub fn of_bytes(offset: u64, length: u64, size: u64) -> Result<Option<Span>, SpanError> {
        let out = |end| SpanError::OutOfBounds {
            what: "region",
            end,
            limit: size,
        };
        let end = offset.checked_add(length).ok_or(out(u64::MAX))?;
        if end > size {
            return Err(out(end));
        }
        Ok((length > 0).then(|| Span {
            start: offset / GRANULE,
            end: (end - 1) / GRANULE + 1,
        }))
    }

    /// The part of a region of `size` bytes that is to be pinned or unpinned:
    /// `length` bytes from `offset` on, or all up to the end for a length of 0.
    ///
    /// As with windows, the end may be the size rounded up to granules.
    ///
    /// # Errors
    ///
    /// [`SpanError`] says which of the arguments is wrong.
    pub fn of_pins(offset: u64, length: u64, size: u64) -> Result<Span, SpanError> {
        if length > 0 {
            return Span::of_window(offset, length, size);
        }
        let whole = Span::whole(size);
        if offset >= whole.length() {
            return Err(SpanError::OutOfBounds {
                what: "region",
                end: offset,
                limit: whole.length(),
            });
        }
        Span::of_window(offset, whole.length() - offset, size)
    }

    /// All of a region of `size` bytes, which is at least 1.
    #[must_use]
    pub fn whole(size: u64) -> Span {
        Span {
            start: 0,
            end: size.div_ceil(GRANULE).max(1),
        }
    }

    /// The first byte.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.start * GRANULE
    }

    /// The length in bytes.
    #[must_use]
    pub fn length(self) -> u64 {
        (self.end - self.start) * GRANULE
    }

    /// Its granules, counted from the start of the region.
    #[must_use]
    pub fn granules(self) -> Range<u64> {
        self.start..self.end
    }

    /// The span of these granules, of which there is at least one.
    pub(super) fn of_granules(granules: Range<u64>) -> Span {
        debug_assert!(granules.start < granules.end, "a span is never empty");
        Span {
            start: granules.start,
            end: granules.end,
        }
    }

    /// Tells whether all of the other lies inside of this one.
    #[must_use]
    pub fn contains(self, other: Span) -> bool {
        let (this, other) = (self.granules(), other.granules());
        this.start <= other.start && other.end <= this.end
    }

    /// Tells whether the two have a granule in common.
    #[must_use]
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The end of a run of whole granules that is not empty.
fn whole_granules(what: &'static str, start: u64, length: u64) -> Result<u64, SpanError> {
    if !start.is_multiple_of(GRANULE) {
        return Err(SpanError::Misaligned { what, value: start });
    }
    if !length.is_multiple_of(GRANULE) {
        return Err(SpanError::Misaligned {
            what: "length",
            value: length,
        });
    }
    if length == 0 {
        return Err(SpanError::Empty);
    }
    start.checked_add(length).ok_or(SpanError::OutOfBounds {
        what: if what == "address" {
            "memory"
        } else {
            "region"
        },
        end: u64::MAX,
        limit: u64::MAX,
    })
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.offset(), self.length())
    }
}

/// Why a span was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpanError {
    /// A value is not a multiple of the granule.
    #[error("the {what} {value:#x} is not a multiple of {GRANULE:#x}")]
    Misaligned {
        /// Which value.
        what: &'static str,
        /// What it is.
        value: u64,
    },
    /// A window of no bytes was asked for.
    #[error("the length is 0")]
    Empty,
    /// The end lies beyond the region, or beyond the memory.
    #[error("the span ends at {end:#x}, beyond the {what}'s end at {limit:#x}")]
    OutOfBounds {
        /// The region, or the memory.
        what: &'static str,
        /// The end of the span; `u64::MAX` where it overflows.
        end: u64,
        /// The end of the region or memory.
        limit: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_reach_the_size_rounded_up_but_no_further() {
        assert_eq!(Span::of_window(0, GRANULE, 1).unwrap(), Span::whole(1));
        assert!(matches!(
            Span::of_window(0, 2 * GRANULE, GRANULE),
            Err(SpanError::OutOfBounds { what: "region", .. })
        ));
    }

    #[test]
    fn no_length_means_to_the_end_also_beyond_4_gib() {
        let size = (5 << 32) + 1;
        let span = Span::of_pins(GRANULE, 0, size).unwrap();
        assert_eq!(span.granules(), 1..size / GRANULE + 1);
        assert_eq!(Span::of_pins(0, 0, 1).unwrap(), Span::whole(1));
        for offset in [2 * GRANULE, 1 << 40, u64::MAX - GRANULE + 1] {
            assert!(matches!(
                Span::of_pins(offset, 0, 2 * GRANULE),
                Err(SpanError::OutOfBounds { what: "region", .. })
            ));
        }
        assert!(matches!(
            Span::of_pins(1, 0, size),
            Err(SpanError::Misaligned { what: "offset", .. })
        ));
    }

    #[test]
    fn overflowing_spans_are_out_of_bounds() {
        let last = u64::MAX - GRANULE + 1;
        assert!(matches!(
            Span::of_window(last, GRANULE, u64::MAX),
            Err(SpanError::OutOfBounds { .. })
        ));
        assert!(matches!(
            Span::of_bytes(u64::MAX, 2, u64::MAX),
            Err(SpanError::OutOfBounds { .. })
        ));
        assert!(matches!(
            Span::check_memory(last, GRANULE, u64::MAX),
            Err(SpanError::OutOfBounds { what: "memory", .. })
        ));
    }

    #[test]
    fn bytes_take_the_granules_that_they_touch() {
        let span = Span::of_bytes(GRANULE - 1, 2, 3 * GRANULE)
            .unwrap()
            .unwrap();
        assert_eq!((span.offset(), span.length()), (0, 2 * GRANULE));
        assert_eq!(Span::of_bytes(GRANULE, 0, GRANULE).unwrap(), None);
    }
}
