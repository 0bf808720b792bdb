//! The bytes of a guest that has ended.

use std::os::unix::fs::MetadataExt;

use super::{PAGE, guest, host};
use tombolo::GRANULE;
use tombolo_test_util::process::{Process, drop_parked_mappings};
use tombolo_test_util::puppet::{READ, WRITE, filled};

// rule 6
#[test]
fn dead_guest_frees_pinned_and_unpinned_bytes() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let name = "half of it purged when its guest dies";

    let number = a.create(name, 6 * GRANULE).unwrap().unwrap();
    let (_, at) = a.mapped(number, 6, WRITE);
    a.fill(at, 6 * PAGE, 7).unwrap();
    a.unpin(number, GRANULE, 2 * GRANULE).unwrap().unwrap();
    assert_eq!(kernels(name), (vec![6 * GRANULE], 2));
    assert_eq!(host.purge(GRANULE), GRANULE);
    assert_eq!(kernels(name), (vec![5 * GRANULE], 2));
    assert_eq!(host.budget().committed, 5 * GRANULE);
    assert_eq!(host.purgeable(), GRANULE);
    drop(a);
    let left = host.budget();
    assert_eq!((left.committed, left.purgeable), (0, 0));
    // Without a descriptor and a mapping, the kernel has freed the pages.
    assert_eq!(kernels(name), (vec![], 0));
    host.create("next", 8 * GRANULE).unwrap();
}

/// Returns what the kernel has for the regions of a name: the allocated bytes of each
/// descriptor of this process, and the number of mappings.
fn kernels(name: &str) -> (Vec<u64>, usize) {
    let memfd = format!("tombolo:{name}");
    drop_parked_mappings();
    let process = Process::current();
    let descriptors = process.descriptors().unwrap().into_iter();
    let bytes = descriptors
        .filter(|it| it.memfd().is_some_and(|it| it == &*memfd))
        .map(|it| {
            let file = std::fs::metadata(format!("/proc/self/fd/{}", it.number)).unwrap();
            file.blocks() * 512
        })
        .collect();
    let mappings = process.mappings().unwrap().into_iter();
    let mappings = mappings.filter(|it| it.memfd().is_some_and(|it| it == &*memfd));
    (bytes, mappings.count())
}

// rule 6
#[test]
fn dead_guest_leaves_other_claims_their_bytes() {
    let host = host(8);
    let mut a = guest(&host, "a");
    let region = filled(&host, "half purged, and shared", 6 * GRANULE, 7);
    let number = a.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    a.mapped(number, 6, READ);
    // The host program pins the first three granules, the guest the last two. One is
    // unpinned.
    region.unpin(3 * GRANULE..).unwrap();
    a.unpin(number, 0, 4 * GRANULE).unwrap().unwrap();
    assert_eq!(host.purge(u64::MAX), GRANULE);
    assert_eq!(kernels(region.name()), (vec![5 * GRANULE], 1));
    drop(a);
    assert_eq!(kernels(region.name()), (vec![5 * GRANULE], 0));
    assert_eq!(host.purge(u64::MAX), 2 * GRANULE);
    assert_eq!(kernels(region.name()), (vec![3 * GRANULE], 0));
    assert!(
        region
            .try_read(0..3 * GRANULE)
            .unwrap()
            .iter()
            .all(|it| *it == 7)
    );
    drop(region);
    assert_eq!(host.budget().committed, 0);
}
