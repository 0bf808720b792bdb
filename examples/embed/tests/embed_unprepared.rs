//! The same plugin on an engine that cannot map. In a test program of its own, because no engine
//! can be prepared after such a one.

mod client;

use client::{Server, letters};
use embed::Settings;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

#[test]
fn plugin_works_by_copies_without_windows() {
    let mut pool = PoolingAllocationConfig::default();
    // Not the terabytes of addresses that the default sets aside.
    pool.total_memories(20).total_core_instances(80);
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config).unwrap();
    let server = Server::start(&engine, Settings::default());

    // The plugin reports that only if `map` answers `unsupported`.
    let reply = server.post("/count", &vec![b'x'; 2 << 20]);
    assert_eq!(
        reply.text(),
        "2097152 bytes, 1 words, 0 lines, CRC-32 79284fff, seen as a copy\n"
    );

    let mut copied = server.plugins.host().counts().bytes_copied;
    for size in [0, 1, 65_536, 5 << 20, (40 << 20) + 3] {
        let (body, capitals) = letters(size);
        let reply = server.post("/translate", &body);
        assert_eq!(reply.status, 200, "{size} bytes");
        assert!(reply.body == capitals, "{size} bytes");
        if size >= 2 << 20 {
            // Once in and once out.
            copied += 2 * size as u64;
        }
        assert_eq!(server.plugins.host().counts().bytes_copied, copied);
    }
    assert_eq!(server.plugins.host().counts().windows, 0);
    assert_eq!(server.post("/trap", b"x").status, 500);
    assert_eq!(server.post("/count", b"x").status, 200);

    // The other order is an error, and not a hole.
    let error = tombolo::prepare(&mut Config::new()).unwrap_err();
    assert!(
        matches!(error, tombolo::PrepareError::EngineBefore),
        "{error}"
    );
}
