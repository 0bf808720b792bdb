//! Pins: the bytes that unpinning hides, the bytes that purging takes, and the claims that are
//! told. The guests are puppets, which the test drives step by step.
//!
//! | module | content |
//! |---|---|
//! | `hidden` | windows on unpinned bytes |
//! | `purging` | bytes that are purged, and who is told |
//! | `limits` | limits on holes and unpinned spans |
//! | `budget` | the budget and the kernel's accounts |
//! | `death` | the bytes of a guest that has ended |
//! | `races` | threads that pin, unpin and purge at once |

mod budget;
mod death;
mod hidden;
mod limits;
mod purging;
mod races;

use tombolo::{GRANULE, HostLimits, Region, RegionHost};
use tombolo_test_util::puppet::{ErrorCode, Puppet, filled};

/// The bytes of a granule, as a guest's address counts them.
const PAGE: u32 = 65536;

fn host(granules: u64) -> RegionHost {
    let mut limits = HostLimits::default();
    limits.budget = granules * GRANULE;
    RegionHost::with_limits(limits)
}

fn guest(host: &RegionHost, name: &str) -> Puppet {
    Puppet::new(host, name)
}

/// Returns the granules that the kernel has allocated for a region.
fn allocated(region: &Region) -> u64 {
    region.usage().resident / GRANULE
}

/// Creates a region on which the host program and the guest have a claim each. Only the
/// guest's claim pins it.
fn shared(host: &RegionHost, guest: &mut Puppet, granules: u64) -> (Region, u32) {
    let region = filled(host, "shared", granules * GRANULE, 7);
    let number = guest.receive(region.duplicate(tombolo::Rights::ALL).unwrap());
    region.unpin(..).unwrap();
    (region, number)
}

#[track_caller]
fn exhausted<R: std::fmt::Debug>(answer: Result<R, ErrorCode>, what: &str) {
    match answer {
        Err(ErrorCode::Exhausted(text)) => assert!(text.contains(what), "{text}"),
        other => panic!("{other:?}"),
    }
}
