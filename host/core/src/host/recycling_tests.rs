//! Files of ended regions that later regions use again.

use std::ops::Range;

use tombolo_test_util::child::alone;

use tombolo_region::GRANULE;

use super::{Region, RegionHost};
use crate::limits::HostLimits;
use crate::pressure::Level;

const MIB: u64 = 1 << 20;

/// Runs a test in a process of its own, because other tests may fork.
fn by_itself(name: &str, test: impl FnOnce()) {
    alone(&format!("host::recycling_tests::{name}"), test);
}

/// Returns a host with so many bytes of budget.
fn host(budget: u64) -> RegionHost {
    RegionHost::with_limits(HostLimits {
        budget,
        margin: 0,
        spare: budget,
        ..HostLimits::default()
    })
}

/// Creates a region with these bytes written.
fn written(host: &RegionHost, size: u64, range: Range<u64>) -> Region {
    let region = host.create("written", size).unwrap();
    region.try_write(range).unwrap().fill(7);
    region
}

fn recycled(host: &RegionHost) -> u64 {
    host.counts().regions_recycled
}

#[track_caller]
fn assert_zero(region: &Region) {
    let bytes = region.try_read(..).unwrap();
    assert_eq!(bytes.iter().position(|byte| *byte != 0), None);
}

// rule 4
#[test]
fn next_region_sees_zeros() {
    by_itself("next_region_sees_zeros", || {
        let host = host(64 * MIB);
        for (count, size) in [(1, 100), (2, 3 * GRANULE), (3, 4 * MIB)] {
            let inode = written(&host, size, 0..size).inode();
            let next = host.create("next", size).unwrap();
            assert_eq!((recycled(&host), next.inode()), (count, inode));
            assert_zero(&next);
            assert_eq!(next.read_at(size - 1..).unwrap(), [0]);
        }
    });
}

// rule 4
#[test]
fn bytes_past_the_size_are_zeros() {
    by_itself("bytes_past_the_size_are_zeros", || {
        let host = host(64 * MIB);
        drop(written(&host, GRANULE, 0..GRANULE));
        let short = host.create("short", 10).unwrap();
        assert_eq!(recycled(&host), 1);
        let file = short.inner().file().unwrap();
        let mut all = vec![1; usize::try_from(GRANULE).unwrap()];
        file.read_at(0, &mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 0));
    });
}

#[test]
fn untouched_pages_stay_unallocated() {
    by_itself("untouched_pages_stay_unallocated", || {
        let host = host(64 * MIB);
        let size = 2 * MIB;
        let region = written(&host, size, MIB..MIB + 1);
        let resident = region.usage().resident;
        drop(region);
        let next = host.create("next", size).unwrap();
        assert_eq!(recycled(&host), 1);
        assert_eq!(next.usage().resident, resident);
        assert!(resident < size);
        assert_zero(&next);
    });
}

// rules 4, 7
#[test]
fn half_purged_region_comes_back_as_zeros() {
    by_itself("half_purged_region_comes_back_as_zeros", || {
        let host = host(64 * MIB);
        let region = written(&host, MIB, 0..MIB);
        region.unpin(..MIB / 2).unwrap();
        assert_eq!(host.purge(u64::MAX), MIB / 2);
        drop(region);
        assert_eq!(host.budget().spare, MIB);
        let next = host.create("next", MIB).unwrap();
        assert_eq!((recycled(&host), host.budget().spare), (1, 0));
        assert_zero(&next);
    });
}

// rule 4
#[test]
fn large_file_without_a_whole_mapping_is_closed() {
    by_itself("large_file_without_a_whole_mapping_is_closed", || {
        let host = host(64 * MIB);
        let region = host.create("copied", 2 * MIB).unwrap();
        region.write_at(0, &[7; 100]).unwrap();
        drop(region);
        assert_eq!(host.budget().spare, 0);
    });
}

// rules 4, 6
#[test]
fn poisoned_and_frozen_files_are_closed() {
    by_itself("poisoned_and_frozen_files_are_closed", || {
        let host = host(64 * MIB);
        let region = written(&host, MIB, 0..MIB);
        let guard = region.try_write(..).unwrap();
        drop(region);
        let panicked = std::thread::spawn(move || {
            let _guard = guard;
            panic!("a writer that dies");
        });
        assert!(panicked.join().is_err());
        assert_eq!(host.counts().regions_freed, 1);
        let region = written(&host, MIB, 0..MIB);
        region.freeze().unwrap();
        drop(region);
        assert_eq!(host.counts().regions_freed, 2);
        assert_eq!(host.budget().spare, 0);
    });
}

// rule 4
#[test]
fn file_under_a_guard_has_no_other_region() {
    by_itself("file_under_a_guard_has_no_other_region", || {
        let host = host(64 * MIB);
        let region = written(&host, MIB, 0..MIB);
        let guard = region.try_read(..).unwrap();
        drop(region);
        let other = host.create("other", MIB).unwrap();
        other.try_write(..).unwrap().fill(9);
        assert_eq!(recycled(&host), 0);
        assert!(guard.iter().all(|byte| *byte == 7));
        drop(guard);
        let next = host.create("next", MIB).unwrap();
        assert_eq!(recycled(&host), 1);
        assert_zero(&next);
    });
}

// rule 4
#[test]
fn file_in_use_elsewhere_has_no_other_region() {
    by_itself("file_in_use_elsewhere_has_no_other_region", || {
        let host = host(64 * MIB);
        let region = written(&host, MIB, 0..MIB);
        // As a purge has it, on another thread.
        let file = region.inner().file().unwrap();
        drop(region);
        assert_eq!(host.counts().regions_freed, 1);
        // Its memory exists, so it is committed.
        assert_eq!((host.budget().spare, host.budget().committed), (0, MIB));
        drop(file);
        assert_eq!((host.budget().spare, host.budget().committed), (MIB, 0));
    });
}

// rule 4
#[test]
fn file_is_zeroed_after_each_way_to_write() {
    by_itself("file_is_zeroed_after_each_way_to_write", || {
        let host = host(64 * MIB);
        let write: [fn(&Region); 3] = [
            |region| region.try_write(..).unwrap().fill(7),
            |region| region.write_at(5, &[7; 100]).unwrap(),
            |region| drop(region.try_write(MIB / 2..).unwrap()),
        ];
        drop(written(&host, MIB, 0..MIB));
        for (count, write) in (0..9).zip(write.iter().cycle()) {
            let region = host.create("next", MIB).unwrap();
            let file = region.inner().file().unwrap();
            assert!(file.is_untouched());
            assert_zero(&region);
            assert!(file.is_untouched());
            drop((file, region));
            let region = host.create("next", MIB).unwrap();
            write(&region);
            assert!(!region.inner().file().unwrap().is_untouched());
            drop(region);
            assert_eq!(recycled(&host), 2 * count + 2);
        }
    });
}

// rule 4
#[test]
fn file_with_too_much_to_zero_is_closed() {
    by_itself("file_with_too_much_to_zero_is_closed", || {
        let host = host(64 * MIB);
        drop(written(&host, 32 * MIB, 0..16 * MIB + 1));
        assert_eq!(host.budget().spare, 0);
        drop(written(&host, 32 * MIB, 8 * MIB..24 * MIB));
        assert_eq!(host.budget().spare, 32 * MIB);
        assert_zero(&host.create("next", 32 * MIB).unwrap());
        assert_eq!(recycled(&host), 1);
    });
}

#[test]
fn file_without_pages_is_closed() {
    by_itself("file_without_pages_is_closed", || {
        let host = host(64 * MIB);
        drop(host.create("untouched", MIB).unwrap());
        assert_eq!(host.budget().spare, 0);
    });
}

// rule 8
#[test]
fn taken_file_counts_once() {
    by_itself("taken_file_counts_once", || {
        let host = host(4 * MIB);
        drop((written(&host, MIB, 0..MIB), written(&host, 3 * MIB, 0..MIB)));
        let region = host.create("next", 3 * MIB).unwrap();
        let usage = host.budget();
        assert_eq!((usage.spare, usage.committed), (MIB, 3 * MIB));
        assert_eq!(recycled(&host), 1);
        drop(region);
    });
}

// rule 8
#[test]
fn unpinned_region_gets_a_new_file() {
    by_itself("unpinned_region_gets_a_new_file", || {
        let host = host(64 * MIB);
        drop(written(&host, MIB, 0..MIB));
        let region = host.create_unpinned("next", MIB).unwrap();
        assert_eq!((recycled(&host), region.usage().resident), (0, 0));
        // The kept file is still there.
        assert_eq!(host.budget().spare, MIB);
    });
}

// rule 8
#[test]
fn commit_gives_up_files_before_it_purges() {
    by_itself("commit_gives_up_files_before_it_purges", || {
        let host = host(4 * MIB);
        let cached = written(&host, MIB, 0..MIB);
        cached.unpin(..).unwrap();
        drop([0, 1].map(|_| written(&host, MIB, 0..MIB)));
        assert_eq!(host.budget().spare, 2 * MIB);
        // One MiB is left, beside what is kept.
        let region = host.create("large", 3 * MIB).unwrap();
        let usage = host.budget();
        assert_eq!((usage.spare, usage.committed), (0, 4 * MIB));
        assert_eq!((usage.purged, recycled(&host)), (0, 0));
        drop(region);
    });
}

// rule 8
#[test]
fn smaller_budget_gives_up_files() {
    by_itself("smaller_budget_gives_up_files", || {
        let host = host(4 * MIB);
        let pinned = host.create("pinned", MIB).unwrap();
        drop([0, 1].map(|_| written(&host, MIB, 0..MIB)));
        assert_eq!(host.set_budget(2 * MIB), 0);
        assert_eq!(host.budget().spare, MIB);
        assert_eq!(host.set_budget(MIB), 0);
        assert_eq!(host.budget().spare, 0);
        drop(pinned);
    });
}

#[test]
fn disused_files_are_closed() {
    by_itself("disused_files_are_closed", || {
        let host = host(64 * MIB);
        drop([0, 1].map(|_| written(&host, MIB, 0..MIB)));
        host.recycler().give_up_disused();
        assert_eq!(host.budget().spare, 2 * MIB);
        host.recycler().age();
        // Each drop of a region closes some.
        drop(written(&host, 1, 0..1));
        assert_eq!(host.budget().spare, MIB + GRANULE);
        host.recycler().give_up_disused();
        assert_eq!(host.budget().spare, GRANULE);
    });
}

#[test]
fn files_keep_to_the_limit() {
    by_itself("files_keep_to_the_limit", || {
        let host = RegionHost::with_limits(HostLimits {
            spare: 2 * MIB,
            ..HostLimits::default()
        });
        drop([0, 1, 2].map(|_| written(&host, MIB, 0..MIB)));
        assert_eq!(host.budget().spare, 2 * MIB);
        // One that does not fit pushes nobody out.
        drop(written(&host, 3 * MIB, 0..MIB));
        assert_eq!(host.budget().spare, 2 * MIB);
        let none = RegionHost::with_limits(HostLimits {
            spare: 0,
            ..HostLimits::default()
        });
        drop(written(&none, MIB, 0..MIB));
        assert_eq!(none.budget().spare, 0);
        // As many files as descriptors permit, however small.
        let many: Vec<Region> = (0..100).map(|_| written(&host, 1, 0..1)).collect();
        drop(many);
        assert!(host.recycler().count() <= 64);
    });
}

// rule 8
#[test]
fn pressure_gives_up_files_and_keeps_none() {
    by_itself("pressure_gives_up_files_and_keeps_none", || {
        let host = host(64 * MIB);
        drop(written(&host, MIB, 0..MIB));
        host.report_pressure(Level::Moderate);
        assert_eq!(host.budget().spare, 0);
        drop(written(&host, MIB, 0..MIB));
        assert_eq!(host.budget().spare, 0);
        host.report_pressure(Level::Normal);
        let region = written(&host, MIB, 0..MIB);
        // As a purge has it, on another thread, when the pressure rises.
        let file = region.inner().file().unwrap();
        drop(region);
        host.report_pressure(Level::Moderate);
        drop(file);
        assert_eq!(host.budget().spare, 0);
        host.report_pressure(Level::Normal);
        drop(written(&host, MIB, 0..MIB));
        assert_eq!(host.budget().spare, MIB);
    });
}

// rule 4
#[test]
fn file_from_before_a_fork_is_closed() {
    by_itself("file_from_before_a_fork_is_closed", || {
        let host = host(64 * MIB);
        let [kept, region] = [0, 1].map(|_| written(&host, MIB, 0..MIB));
        drop(kept);
        fork();
        // The child may have had a guard on either.
        drop(region);
        assert_eq!(host.budget().spare, MIB, "kept before the fork");
        let next = host.create("next", MIB).unwrap();
        assert_eq!((recycled(&host), host.budget().spare), (0, 0));
        next.write_at(0, &[1]).unwrap();
        drop(next);
        drop(host.create("next", MIB).unwrap());
        assert_eq!(recycled(&host), 1, "created after the fork");
    });
}

/// Forks a child that ends at once.
#[allow(unsafe_code)]
fn fork() {
    // SAFETY: the child only ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: this ends the child without exit handlers.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: the process is our child, and `status` is valid for the call.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}

/// Regions of random sizes that threads write, purge and drop at the same time.
// rules 4, 8
#[test]
fn threads_never_see_bytes_of_others() {
    by_itself("threads_never_see_bytes_of_others", || {
        let host = host(8 * MIB);
        std::thread::scope(|scope| {
            for mut seed in [1_u64, 2, 3] {
                let host = &host;
                scope.spawn(move || {
                    let mut random = move |most: u64| {
                        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                        (seed >> 33) % most
                    };
                    let mut held = Vec::new();
                    for _ in 0..2000 {
                        let size = [100, 3 * GRANULE, MIB][random(3) as usize];
                        let Ok(region) = host.create("random", size) else {
                            held.clear();
                            continue;
                        };
                        assert_zero(&region);
                        let start = random(size);
                        region.try_write(start..).unwrap().fill(5);
                        match random(4) {
                            0 => drop(host.purge(GRANULE)),
                            1 => region.unpin(..).unwrap(),
                            2 => drop(region.duplicate(tombolo_region::Rights::ALL)),
                            _ => {}
                        }
                        held.push(region);
                        if held.len() > random(6) as usize {
                            held.swap_remove(random(held.len() as u64) as usize);
                        }
                        let usage = host.budget();
                        assert!(usage.committed <= usage.budget, "{usage:?}");
                        // Each thread may be about to use a file, or to close one.
                        let all = usage.committed + usage.spare;
                        assert!(all <= usage.budget + 3 * MIB, "{usage:?}");
                    }
                });
            }
        });
        assert!(recycled(&host) > 100);
        assert_eq!(host.budget().committed, 0);
    });
}
