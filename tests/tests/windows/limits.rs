//! Limits of a guest's account.

use super::{guest, host};
use tombolo::{GRANULE, Limits};
use tombolo_test_util::puppet::{ErrorCode, Puppet, READ, all, filled, mappings_of};

// rule 10
#[test]
fn window_over_the_limit_is_refused_by_name() {
    let host = host();
    let mut limits = Limits::default();
    limits.windows = 3;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let region = filled(&host, "music", GRANULE, 1);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    let shown: Vec<_> = (0..3).map(|_| a.mapped(number, 1, READ).0).collect();
    let at = a.allocate(1).unwrap();
    match a.map(number, 0, GRANULE, READ, at).unwrap() {
        Err(ErrorCode::Exhausted(text)) => {
            assert!(
                text.contains("`windows`") && text.contains("guest `a`"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(mappings_of(&region).len(), 3);
    a.drop_window(shown[1]).unwrap();
    a.map(number, 0, GRANULE, READ, at).unwrap().unwrap();
    let mut b = guest(&host, "b");
    b.assert_works();
}

// rule 10
#[test]
fn accounts_over_their_limits_are_refused_by_name() {
    let host = host();
    let mut limits = Limits::default();
    (limits.handles, limits.regions, limits.claimed_bytes) = (3, 2, 4 * GRANULE);
    let mut a = Puppet::with_limits(&host, "a", limits);
    let exhausted = |refused: Result<u32, ErrorCode>, limit: &str| match refused {
        Err(ErrorCode::Exhausted(text)) => assert!(text.contains(limit), "{limit}: {text}"),
        other => panic!("{limit}: {other:?}"),
    };
    exhausted(a.create("big", 4 * GRANULE + 1).unwrap(), "`claimed-bytes`");
    let first = a.create("first", 2 * GRANULE).unwrap().unwrap();
    // Each claim counts with the whole size.
    let second = a.duplicate(first, all()).unwrap().unwrap();
    exhausted(a.create("third", 1).unwrap(), "`regions`");
    exhausted(a.duplicate(first, all()).unwrap(), "`regions`");
    a.restrict(first, all()).unwrap().unwrap();
    exhausted(a.restrict(first, all()).unwrap(), "`handles`");
    a.drop_handle(second).unwrap();
    exhausted(
        a.create("fourth", 2 * GRANULE + 1).unwrap(),
        "`claimed-bytes`",
    );
    a.create("fourth", 2 * GRANULE).unwrap().unwrap();
    assert_eq!(a.store.data().regions.claimed_bytes(), 4 * GRANULE);
    assert_eq!(host.counts().regions_created, 2);
}
