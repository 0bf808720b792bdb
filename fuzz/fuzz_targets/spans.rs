//! The arithmetic of map calls, against the same in numbers that cannot
//! overflow.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tombolo_core_tests::region::{GRANULE, Span, SpanError};

/// No file is longer, so no region is larger.
const LARGEST_REGION: u64 = i64::MAX as u64;

/// A number that guests try: anywhere, or about a multiple of the granule, at
/// either end of the numbers there are.
#[derive(Clone, Copy, Debug)]
struct Number(u64);

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let granules = |count: u64| count.wrapping_mul(GRANULE);
        Ok(Self(match input.int_in_range(0..=4)? {
            0 => input.arbitrary()?,
            1 => granules(input.int_in_range(0..=16)?),
            2 => granules(input.arbitrary()?),
            3 => granules(input.int_in_range(0..=16)?).wrapping_neg(),
            _ => granules(input.int_in_range(0..=16)?)
                .wrapping_add_signed(input.int_in_range(-2..=2)?),
        }))
    }
}

/// What is asked of a region, or of a memory, of `size` bytes.
#[derive(Arbitrary, Debug)]
struct Question {
    start: Number,
    length: Number,
    size: Number,
    other: (Number, Number),
}

fuzz_target!(|question: Question| {
    window(&question);
    memory(&question);
    bytes(&question);
    overlap(&question);
});

fn region_size(size: Number) -> u64 {
    size.0.clamp(1, LARGEST_REGION)
}

/// Where a run of whole granules ends, if it is one, in wide numbers.
fn end_of_granules(start: u64, length: u64) -> Option<u128> {
    let is_whole = start.is_multiple_of(GRANULE) && length.is_multiple_of(GRANULE);
    (is_whole && length > 0).then(|| u128::from(start) + u128::from(length))
}

/// A refusal names what is wrong, and something is.
fn check_refusal(error: SpanError, start: u64, length: u64, limit: u128) {
    match error {
        SpanError::Misaligned { value, .. } => {
            assert!(value == start || value == length);
            assert!(!value.is_multiple_of(GRANULE));
        }
        SpanError::Empty => assert_eq!(length, 0),
        SpanError::OutOfBounds { .. } => {
            assert!(u128::from(start) + u128::from(length) > limit);
        }
        other => panic!("{other:?} is not about spans"),
    }
}

fn window(question: &Question) {
    let (start, length) = (question.start.0, question.length.0);
    let size = region_size(question.size);
    let file = u128::from(size).next_multiple_of(u128::from(GRANULE));
    let expected = end_of_granules(start, length).filter(|end| *end <= file);
    match Span::of_window(start, length, size) {
        Ok(span) => {
            assert!(expected.is_some());
            assert_eq!((span.offset(), span.length()), (start, length));
            assert!(span.overlaps(Span::whole(size)));
        }
        Err(error) => {
            assert!(expected.is_none());
            check_refusal(error, start, length, file);
        }
    }
}

fn memory(question: &Question) {
    let (start, length, size) = (question.start.0, question.length.0, question.size.0);
    let limit = u128::from(size);
    let expected = end_of_granules(start, length).filter(|end| *end <= limit);
    match Span::check_memory(start, length, size) {
        Ok(end) => assert_eq!(Some(u128::from(end)), expected),
        Err(error) => {
            assert_eq!(expected, None);
            check_refusal(error, start, length, limit);
        }
    }
}

fn bytes(question: &Question) {
    let (start, length) = (question.start.0, question.length.0);
    let size = region_size(question.size);
    let end = u128::from(start) + u128::from(length);
    match Span::of_bytes(start, length, size) {
        Ok(None) => assert!(length == 0 && end <= u128::from(size)),
        Ok(Some(span)) => {
            assert!(length > 0 && end <= u128::from(size));
            // The smallest run of granules that has all the bytes.
            let (first, after) = (span.offset(), span.offset() + span.length());
            assert!(first <= start && start - first < GRANULE);
            assert!(u128::from(after) >= end && u128::from(after) - end < u128::from(GRANULE));
        }
        Err(error) => {
            assert!(matches!(error, SpanError::OutOfBounds { .. }));
            assert!(end > u128::from(size));
        }
    }
}

fn overlap(question: &Question) {
    let size = region_size(question.size);
    let (other_start, other_length) = (question.other.0.0, question.other.1.0);
    let one = Span::of_window(question.start.0, question.length.0, size);
    let other = Span::of_window(other_start, other_length, size);
    let (Ok(one), Ok(other)) = (one, other) else {
        return;
    };
    let first = one.offset().max(other.offset());
    let after = (one.offset() + one.length()).min(other.offset() + other.length());
    assert_eq!(one.overlaps(other), first < after);
    assert_eq!(other.overlaps(one), first < after);
}
