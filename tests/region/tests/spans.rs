//! Span arithmetic against rule 3, without a fuzzer.

use proptest::prelude::*;
use tombolo_region_tests::region::GRANULE;
use tombolo_region_tests::spans::Question;

/// Returns a number that a guest may try: any, or near a multiple of the granule, at either end
/// of the range.
fn number() -> impl Strategy<Value = u64> {
    let few = || (0_u64..16).prop_map(|count| count * GRANULE);
    prop_oneof![
        any::<u64>(),
        few(),
        any::<u64>().prop_map(|count| count.wrapping_mul(GRANULE)),
        few().prop_map(u64::wrapping_neg),
        (few(), -2_i64..=2).prop_map(|(near, by)| near.wrapping_add_signed(by)),
        (-2_i64..=2).prop_map(|by| (1_u64 << 63).wrapping_add_signed(by)),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    (number(), number(), number()).prop_map(|(start, length, size)| Question {
        start,
        length,
        size,
    })
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::with_cases(20_000);
    if cfg!(miri) {
        config.cases = 4;
        config.failure_persistence = None;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    // rule 3
    #[test]
    fn spans_are_accepted_by_the_rule(question in question()) {
        question.check();
    }

    #[test]
    fn spans_overlap_if_they_share_a_granule(
        one in question(),
        other in question(),
    ) {
        one.check_overlap(other);
    }
}
