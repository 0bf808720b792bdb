//! Engines of embedders: which can map, and what concurrency support changes.
//!
//! | module | content |
//! |---|---|
//! | `prepared` | the reasons why an engine cannot map |
//! | `sequences` | the configurations of Spin and of wash |
//! | `plain_calls` | what runs while a plain call waits in the host |

mod plain_calls;
mod prepared;
mod sequences;

use tombolo::{GRANULE, RegionHost};
use tombolo_test_util::puppet::{ErrorCode, Puppet, WRITE};
use wasmtime::{Config, Engine};

/// Prepares a configuration, changes it, and creates the engine.
fn engine_with(change: impl FnOnce(&mut Config)) -> Engine {
    let mut config = Config::new();
    tombolo::prepare(&mut config).unwrap();
    change(&mut config);
    Engine::new(&config).unwrap()
}

/// Checks that a guest on this engine maps regions.
#[track_caller]
fn assert_maps(engine: &Engine) {
    tombolo::is_prepared(engine).unwrap();
    let mut guest = Puppet::on(engine, &RegionHost::new(), "a").unwrap();
    guest.assert_works();
}

/// Checks that a guest on this engine works by copies, and that `map` refuses.
#[track_caller]
fn assert_copies(engine: &Engine) {
    let host = RegionHost::new();
    let mut guest = Puppet::on(engine, &host, "a").unwrap();
    let number = guest.create("music", GRANULE).unwrap().unwrap();
    let at = guest.allocate(1).unwrap();
    for _ in 0..2 {
        let refused = guest.map(number, 0, GRANULE, WRITE, at).unwrap();
        assert!(
            matches!(refused, Err(ErrorCode::Unsupported(_))),
            "{refused:?}"
        );
    }
    guest.write_at(number, 5, &[1, 2]).unwrap().unwrap();
    assert_eq!(guest.read_at(number, 5, 2).unwrap().unwrap(), [1, 2]);
}
