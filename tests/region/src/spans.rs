//! Rule 3 about spans, in numbers that cannot overflow.

use crate::region::{GRANULE, Span, SpanError};

/// The size of the largest region: the length of its file is signed and whole granules.
pub const LARGEST_REGION: u64 = i64::MAX as u64 - GRANULE;

/// The arguments of a map call, for a region or memory of `size` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The offset or the address.
    pub start: u64,
    /// The length of the span, in bytes.
    pub length: u64,
    /// The size of the region or the memory, in bytes.
    pub size: u64,
}

impl Question {
    fn end(self) -> u128 {
        u128::from(self.start) + u128::from(self.length)
    }

    /// Returns whether the span is whole granules, and at least one.
    fn is_whole(self) -> bool {
        let granule = u128::from(GRANULE);
        u128::from(self.start) % granule == 0
            && u128::from(self.length) % granule == 0
            && self.length > 0
    }

    fn region_size(self) -> u64 {
        self.size.clamp(1, LARGEST_REGION)
    }

    /// Returns the size rounded up to granules.
    fn file(self) -> u128 {
        u128::from(self.region_size()).next_multiple_of(u128::from(GRANULE))
    }

    /// Checks the answers of all constructors of spans.
    ///
    /// # Panics
    ///
    /// Panics if an answer is wrong.
    pub fn check(self) {
        self.check_window();
        self.check_memory();
        self.check_bytes();
        self.check_any_size();
    }

    fn check_window(self) {
        let may = self.is_whole() && self.end() <= self.file();
        match Span::of_window(self.start, self.length, self.region_size()) {
            Ok(span) => {
                assert!(may, "{self:?}");
                assert_eq!((span.offset(), span.length()), (self.start, self.length));
                assert!(span.overlaps(Span::whole(self.region_size())));
            }
            Err(error) => {
                assert!(!may, "{self:?}");
                self.check_refusal(error, "region's last granule", "offset", self.file());
            }
        }
    }

    fn check_memory(self) {
        let may = self.is_whole() && self.end() <= u128::from(self.size);
        match Span::check_memory(self.start, self.length, self.size) {
            Ok(end) => {
                assert!(may, "{self:?}");
                assert_eq!(u128::from(end), self.end());
            }
            Err(error) => {
                assert!(!may, "{self:?}");
                self.check_refusal(error, "memory", "address", self.size.into());
            }
        }
    }

    fn check_bytes(self) {
        let size = self.region_size();
        let may = self.end() <= u128::from(size);
        match Span::of_bytes(self.start, self.length, size) {
            Ok(None) => assert!(may && self.length == 0, "{self:?}"),
            Ok(Some(span)) => {
                assert!(may && self.length > 0, "{self:?}");
                // The smallest run of granules that has all the bytes.
                let (first, after) = edges(span);
                let (start, granule) = (u128::from(self.start), u128::from(GRANULE));
                assert!(first <= start && start - first < granule, "{self:?}");
                assert!(
                    after >= self.end() && after - self.end() < granule,
                    "{self:?}"
                );
                assert!(after <= self.file(), "{self:?}");
            }
            Err(error) => {
                assert!(!may, "{self:?}");
                self.check_refusal(error, "region", "offset", size.into());
            }
        }
    }

    /// Checks sizes that no region has. Windows on them are at most those that the rule permits,
    /// and none if rounding up overflows.
    fn check_any_size(self) {
        let file = u128::from(self.size).next_multiple_of(u128::from(GRANULE));
        if let Ok(span) = Span::of_window(self.start, self.length, self.size) {
            assert!(self.is_whole() && self.end() <= file, "{self:?}");
            assert_eq!((span.offset(), span.length()), (self.start, self.length));
        }
        let bytes = Span::of_bytes(self.start, self.length, self.size);
        assert_eq!(bytes.is_ok(), self.end() <= u128::from(self.size));
    }

    /// Checks that an error names an argument, and that this argument is wrong.
    fn check_refusal(self, error: SpanError, whole: &str, start: &str, limit: u128) {
        match error {
            SpanError::Misaligned { what, value } => {
                let named = if what == "length" {
                    self.length
                } else {
                    assert_eq!(what, start);
                    self.start
                };
                assert_eq!(value, named);
                assert!(!value.is_multiple_of(GRANULE), "{self:?}");
            }
            SpanError::Empty => assert_eq!(self.length, 0),
            SpanError::OutOfBounds {
                what,
                start,
                length,
                limit: told,
            } => {
                assert_eq!(what, whole);
                assert!(self.end() > limit, "{self:?}");
                assert_eq!((start, length), (self.start, self.length));
                assert_eq!(u128::from(told), limit);
            }
            other => panic!("{other:?} for {self:?}"),
        }
    }

    /// Checks whether two such windows on one region have a byte in common.
    ///
    /// # Panics
    ///
    /// Panics if the answer is wrong.
    pub fn check_overlap(self, other: Question) {
        let size = self.region_size();
        let window = |of: Question| Span::of_window(of.start, of.length, size);
        let (Ok(one), Ok(other)) = (window(self), window(other)) else {
            return;
        };
        let ((one_first, one_after), (first, after)) = (edges(one), edges(other));
        let common = one_first.max(first) < one_after.min(after);
        assert_eq!(one.overlaps(other), common);
        assert_eq!(other.overlaps(one), common);
        assert!(one.overlaps(one));
    }
}

fn edges(span: Span) -> (u128, u128) {
    let first = u128::from(span.offset());
    (first, first + u128::from(span.length()))
}
