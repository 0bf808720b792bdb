//! The ledgers of two regions against their models: any steps, by several
//! holders, within one budget.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tombolo_core_tests::world::{Op, Seen, Step, World};

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if cfg!(miri) {
        config.cases = 1;
        // It would look for its file, which Miri keeps from it.
        config.failure_persistence = None;
    }
    config
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let most = if cfg!(miri) { 4 } else { 300 };
    // One of the regions sees most of it, so that much comes together there.
    let region = prop_oneof![2 => Just(0), 1 => Just(1)];
    let step = (region, op()).prop_map(|(region, op)| Step { region, op });
    prop::collection::vec(step, 0..most)
}

fn op() -> impl Strategy<Value = Op> {
    let some = any::<u8>;
    // Mostly all rights, else few paths lead far.
    let rights = || prop_oneof![2 => Just(7), 2 => Just(3), 2 => 0_u8..8];
    // Mostly among the first that there are, of which there are few.
    let near = || prop_oneof![3 => 0_u8..4, 1 => any::<u8>()];
    let flag = any::<bool>;
    let seldom = || prop::bool::weighted(0.3);
    let rarely = || prop::bool::weighted(0.1);
    // Often all of it, as freezing needs and as a frozen region is purged.
    let pins = || prop_oneof![2 => Just((0, 3)), 3 => (0_u8..4, 0_u8..4)];
    prop_oneof![
        4 => (near(), rights()).prop_map(|(handle, rights)| Op::Duplicate { handle, rights }),
        3 => (some(), rights()).prop_map(|(handle, rights)| Op::Restrict { handle, rights }),
        8 => (some(), rights(), some())
            .prop_map(|(handle, rights, to)| Op::Lend { handle, rights, to }),
        2 => some().prop_map(|lend| Op::Revoke { lend }),
        4 => some().prop_map(|lend| Op::Return { lend }),
        4 => (some(), some()).prop_map(|(handle, to)| Op::Move { handle, to }),
        4 => some().prop_map(|handle| Op::Release { handle }),
        16 => (some(), some(), some(), some())
            .prop_map(|(handle, first, length, access)| Op::Open { handle, first, length, access }),
        2 => (some(), some(), some(), flag())
            .prop_map(|(handle, first, length, write)| Op::Guard { handle, first, length, write }),
        8 => (some(), some()).prop_map(|(window, access)| Op::SetAccess { window, access }),
        10 => (some(), seldom()).prop_map(|(window, died)| Op::Close { window, died }),
        4 => some().prop_map(|handle| Op::Freeze { handle }),
        2 => some().prop_map(|handle| Op::ClearPoison { handle }),
        8 => (near(), some(), some(), some())
            .prop_map(|(handle, first, length, access)| Op::Wait { handle, first, length, access }),
        6 => some().prop_map(|waiter| Op::Ask { waiter }),
        1 => some().prop_map(|waiter| Op::Forget { waiter }),
        6 => some().prop_map(|millis| Op::Pass { millis }),
        1 => (some(), seldom()).prop_map(|(holder, died)| Op::End { holder, died }),
        16 => (near(), pins(), rarely()).prop_map(|(handle, (first, length), undo)| Op::Pin {
            handle,
            first,
            length,
            undo,
        }),
        16 => (near(), pins(), rarely()).prop_map(|(handle, (first, length), undo)| Op::Unpin {
            handle,
            first,
            length,
            undo,
        }),
        2 => (some(), pins()).prop_map(|(handle, (first, length))| Op::IsPinned {
            handle,
            first,
            length,
        }),
        8 => (some(), some()).prop_map(|(handle, granule)| Op::Write { handle, granule }),
        6 => (0_u8..6).prop_map(|granules| Op::Purge { granules }),
        2 => (1_u8..10).prop_map(|granules| Op::SetBudget { granules }),
    ]
}

fn run(steps: &[Step]) -> World {
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
    ("windows", "live together"),
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
    ("open", "live-read"),
    ("open", "live-write"),
    ("guard", "done"),
    ("set-access", "done"),
    ("set-access", "read to live-read"),
    ("set-access", "write to live-write"),
    ("set-access", "live-read to live-write"),
    ("set-access", "live-write to live-read"),
    ("set-access", "live-read to read"),
    ("set-access", "live-write to write"),
    ("close", "Died"),
    ("close", "again"),
    ("freeze", "done"),
    ("clear-poison", "done"),
    ("end", "died"),
    ("end", "orderly"),
    ("create", "pinned"),
    ("create", "unpinned"),
    ("create", "exhausted"),
    ("duplicate", "of what was lost"),
    ("pin", "intact"),
    ("pin", "lost"),
    ("pin", "paid for"),
    ("pin", "undone"),
    ("pin", "budget"),
    ("pin", "unpinned-spans"),
    ("unpin", "done"),
    ("unpin", "undone"),
    ("unpin", "unpinned-spans"),
    ("is-pinned", "true"),
    ("is-pinned", "false"),
    ("write", "done"),
    ("purge", "enough"),
    ("purge", "less"),
    ("purged", "granule"),
    ("purged", "frozen"),
    ("set-budget", "kept"),
    ("set-budget", "over"),
    ("over budget", "granule"),
    ("over budget", "frozen"),
    ("wait", "done"),
    ("waited", "reserved"),
    ("waited", "left"),
    ("waited", "not yet"),
    ("pass", "reserved"),
    ("pass", "lapsed"),
    ("pass", "left"),
    ("forget", "done"),
];

const REFUSALS: &[(&str, &[tombolo_core_tests::region::LedgerError])] = {
    use tombolo_core_tests::region::LedgerError::{
        Frozen, Gone, NotPermitted, OtherStrand, Poisoned, Purged, Unpinned, WouldBlock,
    };
    &[
        ("duplicate", &[Gone, NotPermitted, Purged]),
        ("restrict", &[Gone, NotPermitted, Purged]),
        ("lend", &[Gone, NotPermitted, WouldBlock, Purged]),
        ("move", &[Gone, NotPermitted, WouldBlock, Purged]),
        (
            "open",
            &[
                Gone,
                NotPermitted,
                Frozen,
                Poisoned,
                WouldBlock,
                OtherStrand,
                Unpinned,
                Purged,
            ],
        ),
        (
            "guard",
            &[
                Gone,
                NotPermitted,
                Frozen,
                Poisoned,
                WouldBlock,
                Unpinned,
                Purged,
            ],
        ),
        (
            "set-access",
            &[Gone, NotPermitted, Frozen, WouldBlock, Purged],
        ),
        (
            "freeze",
            &[Gone, NotPermitted, Poisoned, WouldBlock, Unpinned, Purged],
        ),
        (
            "wait",
            &[Gone, NotPermitted, Frozen, Poisoned, Unpinned, Purged],
        ),
        ("clear-poison", &[Gone, NotPermitted, Purged]),
        ("pin", &[Gone, NotPermitted, WouldBlock, Purged]),
        ("unpin", &[Gone, NotPermitted, WouldBlock, Purged]),
        ("is-pinned", &[Gone, Purged]),
    ]
};

#[test]
#[cfg_attr(miri, ignore = "takes many steps")]
fn random_steps_come_to_every_outcome() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let mut seen = Seen::new();
    for _ in 0..1000 {
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
