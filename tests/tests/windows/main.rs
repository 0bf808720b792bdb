//! Windows: their places, the lock, and the memory after them. The guests are puppets, which
//! the test drives step by step.
//!
//! | module | content |
//! |---|---|
//! | `map` | the call that maps a window |
//! | `own_memory` | windows over memory that the guest uses |
//! | `memory` | a memory around its windows and after them |
//! | `lock` | accesses, rights and freezing |
//! | `regions` | sizes, and pages that guests share |
//! | `life` | handles and guests that end before a window |
//! | `limits` | limits of a guest's account |
//! | `contexts` | contexts that safe code takes out of their stores |

mod contexts;
mod life;
mod limits;
mod lock;
mod map;
mod memory;
mod own_memory;
mod parked;
mod recycled;
mod regions;

use tombolo::{HostLimits, RegionHost};
use tombolo_test_util::puppet::{Puppet, assert_filled, mappings_of};

fn guest(host: &RegionHost, name: &str) -> Puppet {
    Puppet::new(host, name)
}

/// Creates a host with default limits.
fn host() -> RegionHost {
    RegionHost::with_limits(HostLimits::default())
}

const MASK: u32 = 0xffff;
/// The bytes of a granule, as a guest's address counts them.
const PAGE: u32 = 65536;

/// Checks that no guest has a window on a region, that its bytes are unchanged, and that it
/// is usable.
#[track_caller]
fn assert_nothing_is_held(region: &tombolo::Region, byte: u8) {
    assert!(mappings_of(region).is_empty());
    let guard = region.try_write(..).expect("nobody holds it");
    drop(guard);
    assert_filled(region, byte);
}

/// Checks that a guest which could only read changed nothing.
#[track_caller]
fn assert_filled_after(guest: Puppet, region: &tombolo::Region, byte: u8) {
    drop(guest);
    assert!(!region.is_poisoned());
    assert_nothing_is_held(region, byte);
}
