//! Spans: checked runs of granules.

use std::fmt;
use std::ops::Range;

/// The size of a granule in bytes: 64 KiB, the wasm page, on each host. Windows, the lock and
/// pins are in whole granules.
pub const GRANULE: u64 = 65_536;

/// A run of granules of a region, never empty.
///
/// Constructors check offsets and lengths in bytes. All of them take constant time and do not
/// overflow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    start: u64,
    end: u64,
}

impl Span {
    /// Returns the part of a region of `size` bytes that a window shows, with `length` bytes
    /// from `offset`.
    ///
    /// It may reach up to the size rounded up to granules, because the backing file is that
    /// long.
    ///
    /// # Errors
    ///
    /// Returns [`SpanError`] if `offset` or `length` is not whole granules, if `length` is 0,
    /// or if the part does not lie inside of the region.
    pub fn of_window(offset: u64, length: u64, size: u64) -> Result<Span, SpanError> {
        let limit = size
            .checked_next_multiple_of(GRANULE)
            .unwrap_or(size - size % GRANULE);
        let end = whole_granules("offset", LAST_GRANULE, offset, length, limit)?;
        Ok(Span {
            start: offset / GRANULE,
            end: end / GRANULE,
        })
    }

    /// Checks the part of a memory of `size` bytes that a window of `length` bytes at `address`
    /// covers. Returns the address of its end.
    ///
    /// # Errors
    ///
    /// Returns [`SpanError`] if `address` or `length` is not whole granules, if `length` is 0,
    /// or if the part does not lie inside of the memory.
    pub fn check_memory(address: u64, length: u64, size: u64) -> Result<u64, SpanError> {
        whole_granules("address", "memory", address, length, size)
    }

    /// Returns the granules that `length` bytes from `offset` touch, in a region of `size`
    /// bytes. Returns `None` if `length` is 0.
    ///
    /// # Errors
    ///
    /// Returns [`SpanError::OutOfBounds`] if the bytes do not lie inside of the region.
    pub fn of_bytes(offset: u64, length: u64, size: u64) -> Result<Option<Span>, SpanError> {
        let end = end_within("region", offset, length, size)?;
        Ok((length > 0).then(|| Span {
            start: offset / GRANULE,
            end: (end - 1) / GRANULE + 1,
        }))
    }

    /// Returns the part of a region of `size` bytes to pin or unpin: `length` bytes from
    /// `offset`, or all up to the end if `length` is 0.
    ///
    /// As with windows, the end may be the size rounded up to granules.
    ///
    /// # Errors
    ///
    /// Returns [`SpanError`] if `offset` or `length` is not whole granules, or if the part does
    /// not lie inside of the region.
    pub fn of_pins(offset: u64, length: u64, size: u64) -> Result<Span, SpanError> {
        if length > 0 {
            return Span::of_window(offset, length, size);
        }
        let whole = Span::whole(size);
        if offset >= whole.length() {
            return Err(SpanError::OutOfBounds {
                what: LAST_GRANULE,
                start: offset,
                length: 0,
                limit: whole.length(),
            });
        }
        Span::of_window(offset, whole.length() - offset, size)
    }

    /// Returns all granules of a region of `size` bytes, at least 1.
    #[must_use]
    pub fn whole(size: u64) -> Span {
        Span {
            start: 0,
            end: size.div_ceil(GRANULE).max(1),
        }
    }

    /// Returns the offset of the first byte from the start of the region.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.start * GRANULE
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn length(self) -> u64 {
        (self.end - self.start) * GRANULE
    }

    /// Returns the granules, counted from the start of the region.
    #[must_use]
    pub fn granules(self) -> Range<u64> {
        self.start..self.end
    }

    /// Returns the span of these granules, at least one.
    pub(super) fn of_granules(granules: Range<u64>) -> Span {
        debug_assert!(granules.start < granules.end, "a span is never empty");
        Span {
            start: granules.start,
            end: granules.end,
        }
    }

    /// Returns whether all of `other` lies inside of this span.
    #[must_use]
    pub fn contains(self, other: Span) -> bool {
        let (this, other) = (self.granules(), other.granules());
        this.start <= other.start && other.end <= this.end
    }

    /// Returns whether the spans have a granule in common.
    #[must_use]
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The name of the bound of windows and pins, for messages.
const LAST_GRANULE: &str = "region's last granule";

/// Returns the end of a run of whole granules, which is not empty and does not pass `limit`.
fn whole_granules(
    from: &'static str,
    what: &'static str,
    start: u64,
    length: u64,
    limit: u64,
) -> Result<u64, SpanError> {
    for (what, value) in [(from, start), ("length", length)] {
        if !value.is_multiple_of(GRANULE) {
            return Err(SpanError::Misaligned { what, value });
        }
    }
    if length == 0 {
        return Err(SpanError::Empty);
    }
    end_within(what, start, length, limit)
}

/// Returns the end of a run of bytes, which does not pass `limit`.
fn end_within(what: &'static str, start: u64, length: u64, limit: u64) -> Result<u64, SpanError> {
    let end = start.checked_add(length).filter(|end| *end <= limit);
    end.ok_or(SpanError::OutOfBounds {
        what,
        start,
        length,
        limit,
    })
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.offset(), self.length())
    }
}

/// An error: a span is misaligned, empty or out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpanError {
    /// A value is not a multiple of the granule.
    #[error("the {what} {value:#x} is not a multiple of {GRANULE:#x}")]
    Misaligned {
        /// The name of the value.
        what: &'static str,
        /// The value in bytes.
        value: u64,
    },
    /// The length is 0.
    #[error("the length is 0")]
    Empty,
    /// The span does not lie inside of the region or the memory.
    #[error("{}", out_of_bounds(what, *start, *length, *limit))]
    OutOfBounds {
        /// The name of the bound: the region, its last granule, or the memory.
        what: &'static str,
        /// The offset or address of the first byte.
        start: u64,
        /// The number of bytes; 0 for a span that begins past the end. `start + length` may
        /// not fit into 64 bits.
        length: u64,
        /// The end of the region or memory, in bytes.
        limit: u64,
    },
}

/// Returns the text of an error about a span that is out of bounds.
fn out_of_bounds(what: &str, start: u64, length: u64, limit: u64) -> String {
    match length {
        0 => format!("the span begins at {start:#x}, and the {what} ends at {limit:#x}"),
        _ => format!(
            "{length:#x} bytes from {start:#x} on reach beyond {limit:#x}, where the {what} ends"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule 3
    #[test]
    fn window_reaches_the_size_rounded_up() {
        assert_eq!(Span::of_window(0, GRANULE, 1).unwrap(), Span::whole(1));
        assert!(matches!(
            Span::of_window(0, 2 * GRANULE, GRANULE),
            Err(SpanError::OutOfBounds {
                what: LAST_GRANULE,
                ..
            })
        ));
    }

    #[test]
    fn no_length_means_up_to_the_end() {
        let size = (5 << 32) + 1;
        let span = Span::of_pins(GRANULE, 0, size).unwrap();
        assert_eq!(span.granules(), 1..size / GRANULE + 1);
        assert_eq!(Span::of_pins(0, 0, 1).unwrap(), Span::whole(1));
        for offset in [2 * GRANULE, 1 << 40, u64::MAX - GRANULE + 1] {
            assert!(matches!(
                Span::of_pins(offset, 0, 2 * GRANULE),
                Err(SpanError::OutOfBounds {
                    what: LAST_GRANULE,
                    ..
                })
            ));
        }
        assert!(matches!(
            Span::of_pins(1, 0, size),
            Err(SpanError::Misaligned { what: "offset", .. })
        ));
    }

    // rule 3
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
    fn bytes_take_the_granules_they_touch() {
        let span = Span::of_bytes(GRANULE - 1, 2, 3 * GRANULE)
            .unwrap()
            .unwrap();
        assert_eq!((span.offset(), span.length()), (0, 2 * GRANULE));
        assert_eq!(Span::of_bytes(GRANULE, 0, GRANULE).unwrap(), None);
    }

    /// The text does not contradict itself, whatever the numbers are.
    // rule 3
    #[test]
    fn error_names_start_length_and_limit() {
        let last = u64::MAX - GRANULE + 1;
        let size = 100_000;
        let text = |span: Result<Span, SpanError>| span.unwrap_err().to_string();
        let end = "on reach beyond 0x20000, where the region's last granule ends";
        assert_eq!(
            text(Span::of_window(last, 2 * GRANULE, size)),
            format!("0x20000 bytes from 0xffffffffffff0000 {end}")
        );
        assert_eq!(
            text(Span::of_window(0, 3 * GRANULE, size)),
            format!("0x30000 bytes from 0x0 {end}")
        );
        assert_eq!(
            text(Span::of_pins(last, last, size)),
            format!("0xffffffffffff0000 bytes from 0xffffffffffff0000 {end}")
        );
        assert_eq!(
            text(Span::of_pins(2 * GRANULE, 0, size)),
            "the span begins at 0x20000, and the region's last granule ends at 0x20000"
        );
        let text = |start, length| Span::of_bytes(start, length, size).unwrap_err().to_string();
        assert_eq!(
            text(u64::MAX, 2),
            "0x2 bytes from 0xffffffffffffffff on reach beyond 0x186a0, where the region ends"
        );
        assert_eq!(
            text(size + 1, 0),
            "the span begins at 0x186a1, and the region ends at 0x186a0"
        );
        assert_eq!(
            Span::check_memory(last, GRANULE, 2 * GRANULE)
                .unwrap_err()
                .to_string(),
            "0x10000 bytes from 0xffffffffffff0000 on reach beyond 0x20000, where the memory ends"
        );
    }
}
