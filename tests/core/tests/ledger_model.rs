//! The ledger against its model: any steps, by several holders.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tombolo_core_tests::world::{Op, Seen, World};

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if cfg!(miri) {
        config.cases = 2;
        // It would look for its file, which Miri keeps from it.
        config.failure_persistence = None;
    }
    config
}

fn steps() -> impl Strategy<Value = Vec<Op>> {
    let most = if cfg!(miri) { 30 } else { 300 };
    prop::collection::vec(op(), 0..most)
}

fn op() -> impl Strategy<Value = Op> {
    let some = any::<u8>;
    // Mostly all rights, else few paths lead far.
    let rights = || prop_oneof![2 => Just(7), 2 => Just(3), 2 => 0_u8..8];
    // Mostly among the first that there are, of which there are few.
    let near = || prop_oneof![3 => 0_u8..4, 1 => any::<u8>()];
    let flag = any::<bool>;
    let seldom = || prop::bool::weighted(0.3);
    prop_oneof![
        4 => (near(), rights()).prop_map(|(handle, rights)| Op::Duplicate { handle, rights }),
        3 => (some(), rights()).prop_map(|(handle, rights)| Op::Restrict { handle, rights }),
        8 => (some(), rights(), some())
            .prop_map(|(handle, rights, to)| Op::Lend { handle, rights, to }),
        2 => some().prop_map(|lend| Op::Revoke { lend }),
        4 => some().prop_map(|lend| Op::Return { lend }),
        4 => (some(), some()).prop_map(|(handle, to)| Op::Move { handle, to }),
        4 => some().prop_map(|handle| Op::Release { handle }),
        16 => (some(), some(), some(), flag())
            .prop_map(|(handle, first, length, write)| Op::Open { handle, first, length, write }),
        2 => (some(), some(), some(), flag())
            .prop_map(|(handle, first, length, write)| Op::Guard { handle, first, length, write }),
        6 => (some(), flag()).prop_map(|(window, write)| Op::SetAccess { window, write }),
        10 => (some(), seldom()).prop_map(|(window, died)| Op::Close { window, died }),
        1 => some().prop_map(|handle| Op::Freeze { handle }),
        2 => some().prop_map(|handle| Op::ClearPoison { handle }),
        1 => (some(), seldom()).prop_map(|(holder, died)| Op::End { holder, died }),
    ]
}

fn run(steps: &[Op]) -> World {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    world
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_ledger_does_as_its_model(steps in steps()) {
        run(&steps).finish();
    }

    #[test]
    fn a_dropped_ledger_gives_all_charges_back(steps in steps()) {
        run(&steps).drop_all();
    }
}

/// What the steps must have come to, or the test above says little.
const OUTCOMES: &[(&str, &str)] = &[
    ("windows", "set aside"),
    ("lend", "own"),
    ("lend", "on"),
    ("return", "over"),
    ("return", "not over"),
    ("move", "done"),
    ("move", "with windows"),
    ("move", "exhausted"),
    ("duplicate", "done"),
    ("duplicate", "exhausted"),
    ("restrict", "done"),
    ("open", "done"),
    ("guard", "done"),
    ("set-access", "done"),
    ("close", "Died"),
    ("close", "again"),
    ("freeze", "done"),
    ("clear-poison", "done"),
    ("end", "died"),
    ("end", "orderly"),
];

const REFUSALS: &[(&str, &[tombolo_core_tests::region::Refusal])] = {
    use tombolo_core_tests::region::Refusal::{Frozen, Gone, NotPermitted, Poisoned, WouldBlock};
    &[
        ("duplicate", &[Gone, NotPermitted]),
        ("restrict", &[Gone, NotPermitted]),
        ("lend", &[Gone, NotPermitted, WouldBlock]),
        ("move", &[Gone, NotPermitted, WouldBlock]),
        ("open", &[Gone, NotPermitted, Frozen, Poisoned, WouldBlock]),
        ("guard", &[Gone, NotPermitted, Frozen, Poisoned, WouldBlock]),
        ("set-access", &[Gone, NotPermitted, Frozen, WouldBlock]),
        ("freeze", &[Gone, NotPermitted, Poisoned, WouldBlock]),
        ("clear-poison", &[Gone, NotPermitted]),
    ]
};

#[test]
#[cfg_attr(miri, ignore = "takes many steps")]
fn random_steps_come_to_every_outcome() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let mut seen = Seen::new();
    for _ in 0..400 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        for (outcome, count) in run(&steps).finish() {
            *seen.entry(outcome).or_default() += count;
        }
    }
    let often = |name, outcome: String| {
        let count = seen.get(&(name, outcome.clone())).copied().unwrap_or(0);
        assert!(count >= 10, "{name}: {outcome}: {count} times\n{seen:#?}");
    };
    for (name, outcome) in OUTCOMES {
        often(*name, (*outcome).to_owned());
    }
    for (name, refusals) in REFUSALS {
        for refusal in *refusals {
            often(*name, refusal.to_string());
        }
    }
}
