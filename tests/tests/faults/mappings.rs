//! Kernel mappings, which guests cannot use up.

use super::{PAGE, assert_violation};
use tombolo::{GRANULE, Limits, RegionHost};
use tombolo_test_util::child::alone;
use tombolo_test_util::process::{Process, drop_parked_mappings};
use tombolo_test_util::puppet::{ErrorCode, Puppet, READ, assert_filled, filled, mappings_of};

fn count_of_mappings() -> usize {
    drop_parked_mappings();
    Process::current().mappings().unwrap().len()
}

fn most_mappings() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    text.trim().parse().unwrap()
}

/// Checks that the process still has threads and memory.
#[track_caller]
fn assert_process_is_well() {
    let bytes = std::thread::spawn(|| vec![1u8; 64 << 20]).join().unwrap();
    assert_eq!(bytes.len(), 64 << 20);
}

// rule 9
#[test]
fn scattered_violations_make_few_mappings() {
    alone("mappings::scattered_violations_make_few_mappings", || {
        const FILLS: u32 = 32_740;
        let host = RegionHost::new();
        let (mut a, mut b) = (Puppet::new(&host, "a"), Puppet::new(&host, "b"));
        let region = host.create("music", 256 << 20).unwrap();
        let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
        let (_, at) = a.mapped(number, 4096, READ);
        let before = count_of_mappings();
        a.fill_apart(at, 8192, FILLS).unwrap();
        let after = count_of_mappings();
        assert!(after <= before + 8, "{before} mappings became {after}");
        assert_violation(a.create("more", 1));
        // The region has no page yet, so no write reached it.
        assert_eq!(region.try_read(0..1 << 20).unwrap().iter().max(), Some(&0));
        drop(a);
        b.assert_works();
        assert_process_is_well();
    });
}

// rule 10
#[test]
fn isolated_windows_stop_at_the_windows_limit() {
    alone(
        "mappings::isolated_windows_stop_at_the_windows_limit",
        || {
            let (count, text) = isolated_windows(Limits::default());
            assert!(
                text.contains("`windows`") || text.contains("`vmas`"),
                "{text}"
            );
            assert!((4000..=4096).contains(&count), "{count}: {text}");
        },
    );
}

// rule 10
#[test]
fn isolated_windows_stop_at_the_mappings_limit() {
    alone(
        "mappings::isolated_windows_stop_at_the_mappings_limit",
        || {
            let mut limits = Limits::default();
            (limits.windows, limits.vmas) = (40_000, 2000);
            let (count, text) = isolated_windows(limits);
            assert!(text.contains("`vmas`"), "{text}");
            assert!((990..=1000).contains(&count), "{count}: {text}");
        },
    );
}

// rule 10
#[test]
fn isolated_windows_stop_at_half_of_max_map_count() {
    alone(
        "mappings::isolated_windows_stop_at_half_of_max_map_count",
        || {
            let mut limits = Limits::default();
            (limits.windows, limits.vmas) = (u32::MAX / 4, u32::MAX);
            let (count, text) = isolated_windows(limits);
            assert!(
                text.contains("`vmas`") && text.contains("max_map_count"),
                "{text}"
            );
            assert!(count * 2 <= most_mappings() / 2, "{count}: {text}");
        },
    );
}

/// Maps separate windows of one granule until one is refused, and checks that other guests
/// still work. Returns their number and the refusal.
fn isolated_windows(limits: Limits) -> (usize, String) {
    let host = RegionHost::new();
    let region = filled(&host, "music", GRANULE, 1);
    let mut b = Puppet::new(&host, "b");
    let mut a = Puppet::with_limits(&host, "a", limits);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let first = a.pages().unwrap();
    assert!(a.grow(65_500 - first).unwrap() > 0);
    let mut count = 0;
    let text = loop {
        assert!(count < 32_700, "nothing stopped it");
        let at = (first + 2 * count as u32) * PAGE;
        match a.map(number, 0, GRANULE, READ, at).unwrap() {
            Ok(_) => count += 1,
            Err(ErrorCode::Exhausted(text)) => break text,
            Err(other) => panic!("{other:?}"),
        }
    };
    let mappings = count_of_mappings();
    assert!(mappings < most_mappings() / 2 + 300, "{mappings} mappings");
    assert_process_is_well();
    // The guest can still drop its windows, and other guests are unharmed.
    assert_eq!(b.churn(100).unwrap(), b.churn(100).unwrap());
    assert_eq!(a.byte(first * PAGE), 1);
    for window in 0..count as u32 / 2 {
        a.drop_window(window).unwrap();
    }
    assert_eq!(a.byte(first * PAGE), 0);
    drop(a);
    assert!(mappings_of(&region).is_empty());
    b.assert_works();
    assert_filled(&region, 1);
    (count, text)
}

// rule 10
#[test]
fn windows_at_new_places_stay_below_the_limit() {
    alone(
        "mappings::windows_at_new_places_stay_below_the_limit",
        || {
            let host = RegionHost::new();
            let region = filled(&host, "music", GRANULE, 1);
            let mut limits = Limits::default();
            limits.vmas = 1000;
            let mut a = Puppet::with_limits(&host, "a", limits);
            let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
            let first = a.pages().unwrap();
            assert!(a.grow(20_000).unwrap() > 0);
            let before = count_of_mappings();
            let mut refused = 0;
            for round in 0..9_000 {
                let at = (first + 2 * round) * PAGE;
                // Used pages keep the kernel from merging the mappings.
                let touch = |a: &mut Puppet| a.poke(at, 1).unwrap();
                touch(&mut a);
                match a.map(number, 0, GRANULE, READ, at).unwrap() {
                    Ok(window) => {
                        a.drop_window(window).unwrap();
                        touch(&mut a);
                    }
                    Err(ErrorCode::Exhausted(text)) => {
                        assert!(text.contains("`vmas`"), "{text}");
                        refused += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
                if round % 500 == 0 {
                    assert!(count_of_mappings() <= before + 1000);
                }
            }
            assert!(count_of_mappings() <= before + 1000);
            assert!(refused > 0, "nothing was counted");
            // A place that had a window before costs nothing.
            let window = a
                .map(number, 0, GRANULE, READ, first * PAGE)
                .unwrap()
                .unwrap();
            a.drop_window(window).unwrap();
            drop(a);
            // The reservation is kept for the next memory, in no more pieces than at first.
            assert!(count_of_mappings() <= before);
            Puppet::new(&host, "b").assert_works();
        },
    );
}
