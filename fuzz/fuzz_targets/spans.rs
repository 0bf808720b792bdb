//! The arithmetic of map calls against the same arithmetic in numbers that cannot overflow.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tombolo_region_tests::region::GRANULE;
use tombolo_region_tests::spans::Question;

/// A number that a guest may try: any, or near a multiple of the granule, at either end of the
/// range.
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

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Asked {
    start: Number,
    length: Number,
    size: Number,
}

impl From<Asked> for Question {
    fn from(asked: Asked) -> Question {
        Question {
            start: asked.start.0,
            length: asked.length.0,
            size: asked.size.0,
        }
    }
}

fuzz_target!(|asked: (Asked, Asked)| {
    let (one, other) = (Question::from(asked.0), Question::from(asked.1));
    one.check();
    one.check_overlap(other);
});
