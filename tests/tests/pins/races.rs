//! Threads that pin, unpin and purge at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{guest, host, shared};
use tombolo::GRANULE;
use tombolo_test_util::puppet::READ;

/// Threads of an embedder pin, unpin and purge. Each reads what it wrote, or is told of the
/// loss.
// rule 7
#[test]
fn racing_threads_are_told_of_every_loss() {
    let host = host(24);
    std::thread::scope(|scope| {
        for number in 1..=3u8 {
            let host = &host;
            scope.spawn(move || {
                let region = host.create_unpinned("cache", 16 * GRANULE).unwrap();
                let mut whole = [false; 16];
                let mut lost = 0;
                for step in 0..3000u64 {
                    let granule = step * 7 % 16;
                    let offset = granule * GRANULE;
                    let pinned = match region.pin(offset..offset + GRANULE) {
                        Ok(pinned) => pinned,
                        Err(error) => panic!("{error}"),
                    };
                    let mut bytes = region.try_write(offset..offset + GRANULE).unwrap();
                    let filled = std::mem::replace(&mut whole[granule as usize], true);
                    match pinned {
                        tombolo::Pinned::Intact if filled => {
                            assert!(bytes.iter().all(|byte| *byte == number));
                        }
                        _ => {
                            assert!(bytes.iter().all(|byte| *byte == 0));
                            lost += u64::from(filled);
                            bytes.fill(number);
                        }
                    }
                    drop(bytes);
                    region.unpin(offset..offset + GRANULE).unwrap();
                    if step % 64 == 0 {
                        host.purge(2 * GRANULE);
                    }
                }
                assert!(lost > 0);
            });
        }
    });
    assert_eq!(host.budget().committed, 0);
    assert!(host.budget().committed_peak <= 24 * GRANULE);
}

/// Hiding and showing take a system call for each window. Others can use the region
/// meanwhile.
#[test]
fn pins_of_many_windows_keep_no_guard_waiting() {
    let host = host(64);
    let mut a = guest(&host, "a");
    let (region, number) = shared(&host, &mut a, 2);
    region.pin(GRANULE..2 * GRANULE).unwrap();
    for _ in 0..1000 {
        a.mapped(number, 1, READ);
    }
    let (over, guards) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut unpinning, mut pinning) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                drop(region.try_read(GRANULE..GRANULE + 1).unwrap());
                guards.fetch_add(1, SeqCst);
            }
        });
        let begun = Instant::now();
        // On a busy machine, the thread may not run during one of them.
        while (unpinning < 100 || pinning < 100) && begun.elapsed() < Duration::from_secs(60) {
            let before = guards.load(SeqCst);
            let unpinned = a.unpin(number, 0, GRANULE);
            let between = guards.load(SeqCst);
            let pinned = a.pin(number, 0, GRANULE);
            unpinning = unpinning.max(between - before);
            pinning = pinning.max(guards.load(SeqCst) - between);
            if !matches!((unpinned, pinned), (Ok(Ok(())), Ok(Ok(_)))) {
                break;
            }
        }
        over.store(true, SeqCst);
    });
    assert!(
        unpinning >= 100 && pinning >= 100,
        "{unpinning} and {pinning} guards during one call"
    );
}
