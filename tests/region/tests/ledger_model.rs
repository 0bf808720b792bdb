//! The ledgers of two regions against their models, in random histories of several holders
//! within one budget.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tombolo_region_tests::system_under_test::{Op, Seen, Step, System};

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if cfg!(miri) {
        config.cases = 1;
        // Miri does not let it look for its file.
        config.failure_persistence = None;
    }
    config
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let most = if cfg!(miri) { 4 } else { 300 };
    // One region gets most steps, so that many holders meet there.
    let region = prop_oneof![2 => Just(0), 1 => Just(1)];
    let step = (region, op()).prop_map(|(region, op)| Step { region, op });
    prop::collection::vec(step, 0..most)
}

fn op() -> impl Strategy<Value = Op> {
    let some = any::<u8>;
    // Mostly all rights, because few rights end most histories early.
    let rights = || prop_oneof![2 => Just(7), 2 => Just(3), 2 => 0_u8..8];
    // Mostly one of the first few objects that exist.
    let near = || prop_oneof![3 => 0_u8..4, 1 => any::<u8>()];
    let flag = any::<bool>;
    let seldom = || prop::bool::weighted(0.3);
    let rarely = || prop::bool::weighted(0.1);
    // Often the whole region, because freezing needs that.
    let pins = || prop_oneof![2 => Just((0, 3)), 3 => (0_u8..4, 0_u8..4)];
    prop_oneof![
        4 => (near(), rights()).prop_map(|(handle, rights)| Op::Duplicate { handle, rights }),
        3 => (some(), rights()).prop_map(|(handle, rights)| Op::Restrict { handle, rights }),
        8 => (some(), rights(), some())
            .prop_map(|(handle, rights, to)| Op::Lend { handle, rights, to }),
        4 => (some(), rights()).prop_map(|(handle, rights)| Op::LendWithin { handle, rights }),
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
        6 => some().prop_map(|waiter| Op::Poll { waiter }),
        1 => some().prop_map(|waiter| Op::Dequeue { waiter }),
        6 => some().prop_map(|millis| Op::Advance { millis }),
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

fn run(steps: &[Step]) -> System {
    let mut system = System::new();
    for step in steps {
        system.step(step);
    }
    system
}

proptest! {
    #![proptest_config(config())]

    // rules 1, 2, 5, 6, 7, 8, 10, 11
    #[test]
    fn ledger_agrees_with_its_model(steps in steps()) {
        run(&steps).finish();
    }

    // rules 6, 8
    #[test]
    fn dropped_ledger_returns_all_charges(steps in steps()) {
        run(&steps).drop_all();
    }
}

/// The outcomes that the steps must have, so that the tests above cover them.
const OUTCOMES: &[(&str, &str)] = &[
    ("windows", "set aside"),
    ("windows", "live together"),
    ("lend", "own"),
    ("lend", "on"),
    ("lend within", "own"),
    ("lend within", "on"),
    ("revoke", "with lends within"),
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
    ("poll", "reserved"),
    ("poll", "left"),
    ("poll", "not yet"),
    ("advance", "reserved"),
    ("advance", "expired"),
    ("advance", "left"),
    ("dequeue", "done"),
];

const REFUSALS: &[(&str, &[tombolo_region_tests::region::LedgerError])] = {
    use tombolo_region_tests::region::LedgerError::{
        Frozen, Gone, NotPermitted, OtherStrand, Poisoned, Purged, Unpinned, WouldBlock,
    };
    &[
        ("duplicate", &[Gone, NotPermitted, Purged]),
        ("restrict", &[Gone, NotPermitted, Purged]),
        ("lend", &[Gone, NotPermitted, WouldBlock, Purged]),
        ("lend within", &[Gone, NotPermitted, WouldBlock, Purged]),
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
fn random_steps_reach_every_outcome() {
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
