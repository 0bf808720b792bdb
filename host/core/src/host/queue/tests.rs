use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::limits::HostLimits;

const MIB: u64 = 1 << 20;

fn host() -> RegionHost {
    RegionHost::with_limits(HostLimits {
        budget: 4 * MIB,
        margin: 0,
        ..HostLimits::default()
    })
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn run<R>(test: impl Future<Output = R>) -> R {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(test)
}

// rule 8
#[test]
fn waiters_get_memory_in_their_order() {
    run(async {
        let host = host();
        let full = host.create("full", 4 * MIB).unwrap();
        let mut large = Box::pin(host.create_when_free("large", 3 * MIB));
        let mut small = Box::pin(host.create_when_free("small", MIB));
        assert!(poll(large.as_mut()).is_pending());
        assert!(poll(small.as_mut()).is_pending());
        drop(full);
        let some = host.create("some", 2 * MIB).unwrap();
        assert!(poll(large.as_mut()).is_pending());
        // There is room for it, but it is not its turn.
        assert!(poll(small.as_mut()).is_pending());
        drop(some);
        let large = large.await.unwrap();
        let small = small.await.unwrap();
        assert_eq!(host.budget().committed, 4 * MIB);
        drop((large, small));
    });
}

// rule 8
#[test]
fn dropped_waiter_leaves_the_queue() {
    run(async {
        let host = host();
        let full = host.create("full", 4 * MIB).unwrap();
        let mut first = Box::pin(host.create_when_free("first", 4 * MIB));
        let mut second = Box::pin(host.create_when_free("second", MIB));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        drop(full);
        let second = second.await.unwrap();
        assert_eq!(host.budget().committed, second.size());
        assert_eq!(host.queue().waiting.load(Ordering::SeqCst), 0);
    });
}

// rule 8
#[test]
fn unpinned_memory_ends_a_wait() {
    run(async {
        let host = host();
        let full = host.create("full", 4 * MIB).unwrap();
        let mut waiter = Box::pin(host.create_when_free("next", MIB));
        assert!(poll(waiter.as_mut()).is_pending());
        full.unpin(..).unwrap();
        assert_eq!(waiter.await.unwrap().size(), MIB);
    });
}

// rule 10
#[test]
fn too_large_region_is_refused_at_once() {
    run(async {
        let host = host();
        let refused = host.create_when_free("large", 4 * MIB + 1).await;
        assert!(matches!(refused, Err(RegionError::Exhausted(_))));
        let refused = host.create_when_free("none", 0).await;
        assert!(matches!(refused, Err(RegionError::Size { .. })));
    });
}

// rule 8
#[test]
fn threads_lose_no_wakeup() {
    let host = host();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                run(async {
                    for _ in 0..200 {
                        let region = host.create_when_free("any", 3 * MIB).await.unwrap();
                        tokio::task::yield_now().await;
                        drop(region);
                    }
                });
            });
        }
    });
    assert_eq!(host.budget().committed, 0);
}
