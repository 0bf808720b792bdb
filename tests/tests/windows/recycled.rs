//! Regions with the memory of ended ones.

use tombolo::GRANULE;
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{READ, WRITE};

use super::{guest, host};

const PAGE: u32 = 65536;

// rules 4, 7
#[test]
fn guests_never_see_bytes_of_ended_regions() {
    // All tests of a process share its parked mappings.
    alone("recycled::guests_never_see_bytes_of_ended_regions", || {
        let host = host();
        let (mut a, mut b) = (guest(&host, "a"), guest(&host, "b"));
        for (granules, unpins) in [(1, false), (4, false), (4, true), (16, false), (16, true)] {
            let size = u64::from(granules) * GRANULE;
            for _ in 0..2 {
                let past = a.create("past", size).unwrap().unwrap();
                let (window, at) = a.mapped(past, granules, WRITE);
                assert_eq!(a.sum(at, granules * PAGE).unwrap(), 0);
                a.fill(at, granules * PAGE, 7).unwrap();
                if unpins {
                    a.unpin(past, 0, GRANULE).unwrap().unwrap();
                    // Into pages of its own, which stand there now.
                    a.fill(at, PAGE, 8).unwrap();
                    host.purge(GRANULE);
                }
                a.drop_window(window).unwrap();
                a.drop_handle(past).unwrap();

                let next = b.create("next", size).unwrap().unwrap();
                assert_eq!(b.read_at(next, size - 9, 9).unwrap().unwrap(), [0; 9]);
                let (window, at) = b.mapped(next, granules, READ);
                assert_eq!(b.sum(at, granules * PAGE).unwrap(), 0);
                b.drop_window(window).unwrap();
                b.drop_handle(next).unwrap();
            }
        }
        assert!(host.counts().regions_recycled >= 15, "{:?}", host.counts());
        assert_eq!(host.budget().committed, 0);
    });
}

// rules 4, 6
#[test]
fn region_of_a_dead_writer_is_not_recycled() {
    alone("recycled::region_of_a_dead_writer_is_not_recycled", || {
        let host = host();
        let mut a = guest(&host, "a");
        let region = a.create("poisoned", GRANULE).unwrap().unwrap();
        let (_, at) = a.mapped(region, 1, WRITE);
        a.fill(at, PAGE, 7).unwrap();
        // Without `finish`.
        drop(a);
        assert_eq!(host.counts().regions_freed, 1);
        assert_eq!(host.budget().spare, 0);
    });
}
