//! Windows that a guest keeps after a lend has ended.

use tombolo::{GRANULE, Limits, RegionHost, Rights};
use tombolo_test_util::puppet::{Puppet, WRITE, filled};

use tombolo_test_util::puppet::ErrorCode;

// rules 5, 10
#[test]
fn windows_kept_after_a_lend_count() {
    let host = RegionHost::new();
    let mut limits = Limits::default();
    limits.windows = 3;
    limits.handles = 4;
    let mut guest = Puppet::with_limits(&host, "keeper", limits);
    let region = filled(&host, "lent again and again", GRANULE, 7);
    let rights = Rights::READ | Rights::WRITE;
    let at = guest.allocate(1).unwrap();
    for round in 0..60 {
        let mapped = guest.lend_to_map(&region, rights, WRITE, at).unwrap();
        match mapped {
            Ok(_) => assert!(round < 3, "a window more than allowed"),
            Err(ErrorCode::Exhausted(why)) => {
                assert!(round >= 3 && why.contains("`windows`"), "{why}");
            }
            Err(other) => panic!("{other:?}"),
        }
        // The lend is over, even if the borrower keeps something.
        drop(region.try_write(0..GRANULE).unwrap());
    }
}
