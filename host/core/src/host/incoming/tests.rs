use tombolo_test_util::child::alone;

use super::*;
use crate::limits::HostLimits;

const MIB: u64 = 1 << 20;

fn host(budget: u64) -> RegionHost {
    RegionHost::with_limits(HostLimits {
        budget,
        margin: 0,
        spare: budget,
        ..HostLimits::default()
    })
}

fn pinned(host: &RegionHost) -> u64 {
    let usage = host.budget();
    usage.committed - usage.purgeable
}

// rule 8
#[test]
fn slow_senders_reserve_only_what_has_come() {
    let host = host(4 * MIB);
    let senders: Vec<_> = (0..16)
        .map(|_| {
            let mut body = host.incoming("body", 64 * MIB).unwrap();
            body.try_extend(b"first").unwrap();
            body
        })
        .collect();
    assert_eq!(host.budget().committed, 4 * MIB);
    let mut last = host.incoming("body", 64 * MIB).unwrap();
    assert!(matches!(
        last.try_extend(b"first"),
        Err(RegionError::Exhausted(_))
    ));
    assert_eq!(last.filled(), 0);
    drop(senders);
    last.try_extend(b"first").unwrap();
}

// rules 7, 8
#[test]
fn bytes_come_piece_by_piece() {
    let host = host(4 * MIB);
    let size = MIB + 5;
    let mut body = host.incoming("body", size).unwrap();
    let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    for piece in bytes.chunks(100_000) {
        body.try_extend(piece).unwrap();
        let ahead = pinned(&host) - body.filled().next_multiple_of(GRANULE);
        assert!(ahead < AHEAD, "{ahead}");
    }
    assert!(matches!(body.try_extend(&[0]), Err(RegionError::Span(_))));
    assert_eq!(body.filled(), size);
    let region = body.finish().unwrap();
    assert!(region.is_pinned(..).unwrap());
    assert_eq!(region.try_read(..).unwrap()[..], bytes[..]);
}

// rules 4, 8
#[test]
fn kept_memory_is_used_and_can_be_purged() {
    alone(
        "host::incoming::tests::kept_memory_is_used_and_can_be_purged",
        || {
            let host = host(4 * MIB);
            let ended = host.create("ended", 2 * MIB).unwrap();
            ended.try_write(..).unwrap().fill(7);
            drop(ended);
            let mut body = host.incoming("body", 2 * MIB).unwrap();
            assert_eq!(host.counts().regions_recycled, 1);
            assert_eq!((host.budget().committed, pinned(&host)), (2 * MIB, 0));
            body.try_extend(&[1; 10]).unwrap();
            // Somebody else needs the memory that the sender has not filled.
            let other = host.create("other", 3 * MIB).unwrap();
            let region = body.finish();
            assert!(matches!(region, Err(RegionError::Exhausted(_))));
            drop(other);
            let mut body = host.incoming("body", 2 * MIB).unwrap();
            body.try_extend(&[1; 10]).unwrap();
            let region = body.finish().unwrap();
            let bytes = region.try_read(..).unwrap();
            assert_eq!(
                (&bytes[..10], bytes[10..].iter().max()),
                (&[1; 10][..], Some(&0))
            );
        },
    );
}
