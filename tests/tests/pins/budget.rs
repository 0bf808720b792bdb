//! The budget, which counts pinned bytes, and the kernel's accounts.

use super::{PAGE, allocated, exhausted, guest, host, shared};
use tombolo::{GRANULE, Limits};
use tombolo_test_util::puppet::{Pinned, Puppet, WRITE, filled};

// rule 8
#[test]
fn sparse_regions_cost_their_pinned_bytes() {
    let host = host(4);
    // By default, claims can have at most half of the machine's memory.
    let mut limits = Limits::default();
    limits.region_bytes = 16 << 30;
    limits.claimed_bytes = 16 << 30;
    let mut a = Puppet::with_limits(&host, "a", limits);
    let size = (9 << 30) + 5;
    let number = a.create_unpinned("sparse", size).unwrap().unwrap();
    assert_eq!(host.budget().committed, 0);
    let last = size / GRANULE * GRANULE;
    assert_eq!(a.pin(number, last, 0).unwrap(), Ok(Pinned::Intact));
    assert_eq!(a.pin(number, 5 << 30, GRANULE).unwrap(), Ok(Pinned::Intact));
    assert_eq!(host.budget().committed, 2 * GRANULE);
    a.write_at(number, 5 << 30, b"far").unwrap().unwrap();
    a.write_at(number, size - 3, b"end").unwrap().unwrap();
    // A request over the whole budget changes nothing.
    exhausted(a.pin(number, 0, 0).unwrap(), "budget");
    assert_eq!(host.budget().committed, 2 * GRANULE);
    // The span reaches to the end of a region of more than 4 GiB.
    a.unpin(number, GRANULE, 0).unwrap().unwrap();
    assert_eq!(a.is_pinned(number, 5 << 30, GRANULE).unwrap(), Ok(false));
    assert_eq!(a.is_pinned(number, last, 0).unwrap(), Ok(false));
    assert_eq!(host.purge(u64::MAX), 2 * GRANULE);
    assert_eq!(a.pin(number, last, 0).unwrap(), Ok(Pinned::Lost));
}

// rule 8
#[test]
fn smaller_budget_purges_and_refuses() {
    let host = host(8);
    let pinned = filled(&host, "pinned", 4 * GRANULE, 1);
    let cache = filled(&host, "cache", 4 * GRANULE, 2);
    cache.unpin(..).unwrap();
    assert_eq!(host.set_budget(6 * GRANULE), 0);
    assert_eq!(host.purgeable(), 2 * GRANULE);
    assert_eq!(host.set_budget(GRANULE), 3 * GRANULE);
    assert_eq!(allocated(&cache), 0);
    assert_eq!(allocated(&pinned), 4);
    assert!(host.create("more", 1).is_err());
    pinned.unpin(..).unwrap();
    assert_eq!(allocated(&pinned), 1, "what is over it goes at once");
    host.create("more", 1).unwrap();
}

// rule 8
#[test]
fn bytes_unpinned_over_budget_are_purged_at_once() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 6);
    let (window, at) = a.mapped(number, 6, WRITE);
    assert_eq!(host.set_budget(3 * GRANULE), 3 * GRANULE);
    assert_eq!(allocated(&region), 6);

    a.unpin(number, 0, 2 * GRANULE).unwrap().unwrap();
    assert_eq!((allocated(&region), host.purgeable()), (4, 0));
    // One of these granules stays.
    a.unpin(number, 2 * GRANULE, 2 * GRANULE).unwrap().unwrap();
    assert_eq!((allocated(&region), host.purgeable()), (3, GRANULE));
    let pinned = a.pin(number, 3 * GRANULE, GRANULE).unwrap();
    assert_eq!(pinned, Ok(Pinned::Intact));
    assert_eq!(a.byte(at + 3 * PAGE), 7);
    exhausted(a.pin(number, 0, GRANULE).unwrap(), "budget");

    // A dead guest pins nothing.
    assert_eq!(host.set_budget(GRANULE), 2 * GRANULE);
    a.drop_window(window).unwrap();
    assert_eq!(allocated(&region), 3);
    drop(a);
    assert_eq!((allocated(&region), host.purgeable()), (1, GRANULE));
    assert_eq!(host.budget().committed, GRANULE);
}

// rule 8
#[test]
fn accounts_agree_with_the_blocks_of_the_kernel() {
    let host = host(64);
    let one = filled(&host, "one", 10 * GRANULE, 1);
    let two = filled(&host, "two", 7 * GRANULE, 2);
    one.unpin(2 * GRANULE..7 * GRANULE).unwrap();
    two.unpin(..3 * GRANULE).unwrap();
    for rest in (0..8).rev() {
        host.purge(GRANULE);
        let usage = host.budget();
        assert_eq!(usage.purgeable, rest * GRANULE);
        assert_eq!(usage.committed, one.usage().resident + two.usage().resident);
    }
}
