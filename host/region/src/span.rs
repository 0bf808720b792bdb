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
        let limit = size
            .checked_next_multiple_of(GRANULE)
            .unwrap_or(size - size % GRANULE);
        let end = whole_granules("offset", LAST_GRANULE, offset, length, limit)?;
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
        whole_granules("address", "memory", address, length, size)
    }

    /// The granules that `length` bytes from `offset` on touch, in a region of
    /// `size` bytes; `None` if there are no bytes.
    ///
    /// # Errors
    ///
    /// [`SpanError::OutOfBounds`] where the bytes do not lie inside the region.
    pub fn of_bytes(offset: u64, length: u64, size: u64) -> Result<Option<Span>, SpanError> {
        let end = end_within("region", offset, length, size)?;
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
                what: LAST_GRANULE,
                start: offset,
                length: 0,
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

/// The end that windows and pins must not reach beyond, for messages.
const LAST_GRANULE: &str = "region's last granule";

/// The end of a run of whole granules that is not empty, inside of what ends at
/// `limit`.
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

/// The end of a run of bytes, inside of what ends at `limit`.
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

/// Why a span was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    /// The span does not lie inside the region, or the memory.
    #[error("{}", out_of_bounds(what, *start, *length, *limit))]
    OutOfBounds {
        /// The region, its last granule, or the memory.
        what: &'static str,
        /// The first byte of the span.
        start: u64,
        /// Its number of bytes; 0 for a span that begins past the end. The sum of both may
        /// not fit into 64 bits.
        length: u64,
        /// The end of the region or memory.
        limit: u64,
    },
}

/// Returns text about the way in which a span is not inside.
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

    #[test]
    fn a_window_may_reach_the_size_rounded_up_but_no_further() {
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
    fn no_length_means_to_the_end_also_beyond_4_gib() {
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

    /// Whatever the numbers are, the text does not contradict itself.
    #[test]
    fn refusal_says_what_was_asked_for() {
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
