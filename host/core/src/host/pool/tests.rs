use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tombolo_test_util::child::alone;

use super::*;
use crate::limits::HostLimits;
use crate::pressure::Level;

const MIB: u64 = 1 << 20;

/// Runs a test in a process of its own, because other tests may fork.
fn by_itself(name: &str, test: impl FnOnce()) {
    alone(&format!("host::pool::tests::{name}"), test);
}

fn host(budget: u64) -> RegionHost {
    RegionHost::with_limits(HostLimits {
        budget,
        margin: 0,
        ..HostLimits::default()
    })
}

/// Takes a region and fills it, after a check that it is all zero.
fn filled(pool: &RegionPool) -> Region {
    let region = pool.try_take().unwrap();
    let mut guard = region.try_write(..).unwrap();
    assert!(guard.iter().all(|byte| *byte == 0));
    guard.fill(7);
    drop(guard);
    region
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

// rule 4
#[test]
fn region_comes_back_as_zeros() {
    by_itself("region_comes_back_as_zeros", || {
        let host = host(8 * MIB);
        let pool = host.pool("body", MIB, 2).unwrap();
        let (a, b) = (filled(&pool), filled(&pool));
        assert_ne!(a.id(), b.id());
        assert!(matches!(pool.try_take(), Err(RegionError::Exhausted(_))));
        // By its last holder.
        let copy = a.duplicate(tombolo_region::Rights::ALL).unwrap();
        let (id, inode) = (a.id(), a.inode());
        drop(a);
        assert_eq!(pool.free(), 0);
        drop(copy);
        assert_eq!(pool.free(), 1);
        let again = filled(&pool);
        assert_eq!(again.inode(), inode);
        assert_ne!(again.id(), id);
        assert_eq!(host.counts().regions_recycled, 1);
        drop(b);
    });
}

// rule 8
#[test]
fn pool_is_committed_as_a_whole() {
    by_itself("pool_is_committed_as_a_whole", || {
        let host = host(4 * MIB);
        let pool = host.pool("body", MIB, 3).unwrap();
        assert_eq!(host.budget().committed, 3 * MIB);
        let full = host.create("others", MIB).unwrap();
        let taken = [0, 1, 2].map(|_| filled(&pool));
        assert_eq!(host.budget().committed, 4 * MIB);
        drop(taken);
        host.report_pressure(Level::Critical);
        assert_eq!(host.budget().committed, 4 * MIB);
        let last = filled(&pool);
        drop(pool);
        assert_eq!(host.budget().committed, 2 * MIB);
        drop((last, full));
        assert_eq!(host.budget().committed, 0);
        assert!(matches!(
            host.pool("body", MIB, 5),
            Err(RegionError::Exhausted(_))
        ));
    });
}

// rules 6, 8
#[test]
fn frozen_and_unpinned_regions_come_back_in_full() {
    by_itself("frozen_and_unpinned_regions_come_back_in_full", || {
        let host = host(4 * MIB);
        let pool = host.pool("body", MIB, 1).unwrap();
        let region = filled(&pool);
        region.freeze().unwrap();
        drop(region);
        let region = filled(&pool);
        assert_eq!(host.counts().regions_recycled, 0);
        region.unpin(..).unwrap();
        assert_eq!(region.usage().purgeable, 0);
        assert_eq!((host.purgeable(), host.purge(u64::MAX)), (0, 0));
        // The end of its holder would free nothing.
        assert_eq!(host.exclusive_bytes(host.own()), 0);
        drop(region);
        assert_eq!(host.budget().committed, MIB);
        drop(filled(&pool));
        assert_eq!(host.counts().regions_recycled, 1);
    });
}

// rule 8
#[test]
fn refused_file_leaves_the_pool_whole() {
    by_itself("refused_file_leaves_the_pool_whole", || {
        let host = host(4 * MIB);
        let pool = host.pool("body", MIB, 2).unwrap();
        let limit = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(0),
            ..limit
        };
        setrlimit(Resource::Nofile, none).unwrap();
        assert!(matches!(pool.try_take(), Err(RegionError::System(_))));
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!((pool.free(), host.budget().committed), (2, 2 * MIB));
        drop([filled(&pool), filled(&pool)]);
    });
}

#[test]
fn waiters_take_turns_and_may_leave() {
    by_itself("waiters_take_turns_and_may_leave", || {
        let host = host(4 * MIB);
        let pool = host.pool("body", MIB, 1).unwrap();
        let taken = pool.try_take().unwrap();
        let mut first = Box::pin(pool.take());
        let mut second = pin!(pool.take());
        let mut third = pin!(pool.take());
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        // It is the first one's turn, which leaves.
        drop(taken);
        drop(first);
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(Ok(region)) = poll(second.as_mut()) else {
            panic!("it is the second one's turn");
        };
        assert!(poll(third.as_mut()).is_pending());
        drop(region);
        assert!(poll(third.as_mut()).is_ready());
    });
}

#[test]
fn warm_pool_has_all_its_pages() {
    by_itself("warm_pool_has_all_its_pages", || {
        let host = host(8 * MIB);
        let pool = host.pool("body", 2 * MIB, 2).unwrap();
        pool.warm().unwrap();
        assert_eq!(pool.free(), 2);
        let regions = [pool.try_take().unwrap(), pool.try_take().unwrap()];
        assert!(regions.iter().all(|it| it.usage().resident == 2 * MIB));
        assert_eq!(host.counts().regions_recycled, 2);
    });
}
