//! Limits on holes and on unpinned spans.

use super::{PAGE, exhausted, host, shared};
use tombolo::{GRANULE, Limits};
use tombolo_test_util::puppet::{Pinned, Puppet, READ, WRITE, mappings_in, mappings_of};

// rule 10
#[test]
fn holes_in_windows_count_as_mappings() {
    let host = host(1000);
    let mut limits = Limits::default();
    limits.vmas = 12;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let (region, number) = shared(&host, &mut a, 64);
    let (window, at) = a.mapped(number, 64, WRITE);
    let place = mappings_of(&region)[0].range.clone();
    let base = mappings_in(place.clone()).len();
    // The window counts two splits, and each hole inside it two.
    for hole in 0..5 {
        let offset = (2 * hole + 1) * GRANULE;
        a.unpin(number, offset, GRANULE).unwrap().unwrap();
    }
    exhausted(a.unpin(number, 20 * GRANULE, GRANULE).unwrap(), "vmas");
    assert_eq!(
        a.is_pinned(number, 20 * GRANULE, GRANULE).unwrap(),
        Ok(true)
    );
    assert_eq!(a.byte(at + 20 * PAGE), 7);
    let holes = mappings_in(place.clone()).len();
    assert!(holes <= base + 10, "{holes} and {base}");
    // Parts that are unmasked cost nothing, because the kernel merges the mappings.
    a.pin(number, 0, 0).unwrap().unwrap();
    assert_eq!(mappings_in(place.clone()).len(), base);
    for hole in 0..5 {
        let offset = (2 * hole + 20) * GRANULE;
        a.unpin(number, offset, GRANULE).unwrap().unwrap();
    }
    // The splits end with their window.
    a.drop_window(window).unwrap();
    a.pin(number, 0, 0).unwrap().unwrap();
    a.map(number, 0, 64 * GRANULE, WRITE, at).unwrap().unwrap();
    a.unpin(number, 8 * GRANULE, GRANULE).unwrap().unwrap();
    assert_eq!((a.byte(at + 8 * PAGE), a.byte(at + 9 * PAGE)), (0, 7));
}

/// Pinning the middle of a hidden part makes three mappings of one.
// rules 7, 10
#[test]
fn pin_refused_at_the_limit_reports_its_loss_later() {
    let host = host(1000);
    let mut limits = Limits::default();
    limits.vmas = 12;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let (region, number) = shared(&host, &mut a, 64);
    let (_, at) = a.mapped(number, 64, WRITE);
    a.unpin(number, 10 * GRANULE, 20 * GRANULE)
        .unwrap()
        .unwrap();
    // The window counts two splits, and each hidden part two.
    for hole in 0..4 {
        let offset = (2 * hole + 40) * GRANULE;
        a.unpin(number, offset, GRANULE).unwrap().unwrap();
    }
    assert_eq!(host.purge(u64::MAX), 24 * GRANULE);
    let middle = at + 20 * PAGE;
    a.poke(middle, 5).unwrap();
    let mapped = mappings_of(&region);
    for _ in 0..2 {
        exhausted(a.pin(number, 20 * GRANULE, GRANULE).unwrap(), "vmas");
        assert_eq!(
            a.is_pinned(number, 20 * GRANULE, GRANULE).unwrap(),
            Ok(false)
        );
        assert_eq!(a.byte(middle), 5, "it is still the guest's own");
        assert_eq!(mappings_of(&region), mapped);
        let budget = host.budget();
        assert_eq!(budget.committed - budget.purgeable, 40 * GRANULE);
    }
    host.purge(u64::MAX);
    // At its edge, the hidden part only shrinks.
    assert_eq!(
        a.pin(number, 10 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!(
        a.pin(number, 40 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!(
        a.pin(number, 20 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!(a.byte(middle), 0);
    assert_eq!(
        a.pin(number, 20 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Intact)
    );
    assert_eq!(a.pin(number, 0, 0).unwrap(), Ok(Pinned::Lost));
    a.assert_works();
}

// rules 7, 10
#[test]
fn refused_pin_hides_both_windows_again() {
    let host = host(1000);
    let mut limits = Limits::default();
    // Each window counts two splits and its hidden part two. Two are left for one more.
    limits.vmas = 10;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let (region, number) = shared(&host, &mut a, 9);
    let (_, one) = a.mapped(number, 9, READ);
    let (other_window, other) = a.mapped(number, 9, READ);
    a.unpin(number, 2 * GRANULE, 5 * GRANULE).unwrap().unwrap();
    let mapped = mappings_of(&region);
    exhausted(a.pin(number, 4 * GRANULE, GRANULE).unwrap(), "vmas");
    assert_eq!(mappings_of(&region), mapped);
    assert_eq!(
        a.is_pinned(number, 4 * GRANULE, GRANULE).unwrap(),
        Ok(false)
    );
    for at in [one, other] {
        assert_eq!([a.byte(at), a.byte(at + 4 * PAGE)], [7, 0]);
    }
    assert_eq!(host.purge(u64::MAX), 5 * GRANULE);
    a.drop_window(other_window).unwrap();
    assert_eq!(
        a.pin(number, 4 * GRANULE, GRANULE).unwrap(),
        Ok(Pinned::Lost)
    );
    assert_eq!([a.byte(one), a.byte(one + 4 * PAGE)], [7, 0]);
    let region_and_hole: Vec<_> = mappings_of(&region);
    assert_eq!(region_and_hole.len(), 3, "{region_and_hole:?}");
}

// rule 10
#[test]
fn unpinned_spans_are_limited() {
    let host = host(1000);
    let mut limits = Limits::default();
    limits.unpinned_spans = 3;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let number = a.create("region", 64 * GRANULE).unwrap().unwrap();
    for hole in 0..3 {
        a.unpin(number, 2 * hole * GRANULE, GRANULE)
            .unwrap()
            .unwrap();
    }
    exhausted(
        a.unpin(number, 10 * GRANULE, GRANULE).unwrap(),
        "unpinned-spans",
    );
    assert_eq!(
        a.is_pinned(number, 10 * GRANULE, GRANULE).unwrap(),
        Ok(true)
    );
    // Adjacent runs are one.
    a.unpin(number, 0, 0).unwrap().unwrap();
    // Pinning the middle makes two runs of one.
    a.pin(number, 10 * GRANULE, GRANULE).unwrap().unwrap();
    a.pin(number, 20 * GRANULE, GRANULE).unwrap().unwrap();
    exhausted(
        a.pin(number, 30 * GRANULE, GRANULE).unwrap().map(|_| ()),
        "unpinned-spans",
    );
}
