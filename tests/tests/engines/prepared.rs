//! `is_prepared`: each reason why an engine cannot map, and what its guests do then.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::{assert_copies, assert_maps, engine_with};
use tombolo::{NotPrepared, is_prepared};
use tombolo_test_util::child::alone;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, LinearMemory, MemoryCreator, MemoryType,
    PoolingAllocationConfig, WasmFeatures,
};

/// Returns a small pool.
fn pool() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(4)
        .total_core_instances(20)
        .total_memories(4)
        .total_tables(8)
        .total_stacks(4)
        .max_memory_size(16 << 20);
    InstanceAllocationStrategy::Pooling(pool)
}

#[test]
fn prepared_engine_maps() {
    let engine = engine_with(|_| {});
    // The second answer is known from the first.
    for _ in 0..2 {
        is_prepared(&engine).unwrap();
    }
    assert_maps(&engine);
}

#[test]
fn harmless_settings_keep_an_engine_prepared() {
    let engine = engine_with(|config| {
        config
            .wasm_component_model_async(true)
            .epoch_interruption(true)
            .consume_fuel(true)
            .memory_guard_size(64 << 10);
    });
    is_prepared(&engine).unwrap();
}

// rule 9
#[test]
fn process_that_was_not_prepared_copies() {
    alone("prepared::process_that_was_not_prepared_copies", || {
        let engine = Engine::new(&Config::new()).unwrap();
        let error = is_prepared(&engine).unwrap_err();
        assert!(matches!(error, NotPrepared::Process), "{error:?}");
        assert_copies(&engine);
    });
}

// rule 9
#[test]
fn configuration_that_failed_to_prepare_copies() {
    alone(
        "prepared::configuration_that_failed_to_prepare_copies",
        || {
            Engine::new(&Config::new()).unwrap();
            let mut config = Config::new();
            tombolo::prepare(&mut config).unwrap_err();
            // Its memories are Tombolo's, but nobody knows that faults are absorbed.
            let engine = Engine::new(&config).unwrap();
            let error = is_prepared(&engine).unwrap_err();
            assert!(matches!(error, NotPrepared::Process), "{error:?}");
            assert_copies(&engine);
        },
    );
}

#[test]
fn pool_that_was_put_back_copies() {
    let engine = engine_with(|config| {
        config.allocation_strategy(pool());
    });
    let error = is_prepared(&engine).unwrap_err();
    assert!(matches!(error, NotPrepared::Pooling), "{error:?}");
    assert_copies(&engine);
}

#[test]
fn pool_before_prepare_is_replaced() {
    let mut config = Config::new();
    config.allocation_strategy(pool());
    tombolo::prepare(&mut config).unwrap();
    assert_maps(&Engine::new(&config).unwrap());
}

#[test]
fn configuration_that_was_never_prepared_copies() {
    // The process is prepared, by the first configuration.
    engine_with(|_| {});
    let engine = Engine::new(&Config::new()).unwrap();
    let error = is_prepared(&engine).unwrap_err();
    assert!(matches!(error, NotPrepared::OtherMemories), "{error:?}");
    assert_copies(&engine);
}

/// A memory on the heap.
struct HeapMemory(Vec<u8>, usize);

#[allow(unsafe_code)]
// SAFETY: the vector has room for the largest size from the start, so it never moves.
unsafe impl LinearMemory for HeapMemory {
    fn byte_size(&self) -> usize {
        self.1
    }

    fn byte_capacity(&self) -> usize {
        self.0.len()
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        wasmtime::ensure!(size <= self.0.len(), "the memory is too small");
        self.1 = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut()
    }
}

struct HeapMemories;

#[allow(unsafe_code)]
// SAFETY: no test stores to such a memory beyond its size.
unsafe impl MemoryCreator for HeapMemories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        _: Option<usize>,
        _: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        Ok(Box::new(HeapMemory(vec![0; 32 << 20], minimum)))
    }
}

#[test]
fn memories_of_another_creator_copy() {
    let engine = engine_with(|config| {
        config.with_host_memory(Arc::new(HeapMemories));
    });
    let error = is_prepared(&engine).unwrap_err();
    assert!(matches!(error, NotPrepared::OtherMemories), "{error:?}");
    assert_copies(&engine);
}

#[test]
fn other_reservation_is_found() {
    let engine = engine_with(|config| {
        config.memory_reservation(1 << 20);
    });
    let error = is_prepared(&engine).unwrap_err();
    assert!(
        matches!(error, NotPrepared::Reservation(0x10_0000)),
        "{error:?}"
    );
    assert!(error.to_string().contains("reserves 0x100000 bytes"));
}

#[test]
fn copy_on_write_images_are_found() {
    let engine = engine_with(|config| {
        config.memory_init_cow(true);
    });
    let error = is_prepared(&engine).unwrap_err();
    assert!(matches!(error, NotPrepared::CopyOnWrite), "{error:?}");
}

#[test]
fn engine_without_traps_by_signals_copies() {
    let engine = engine_with(|config| {
        config.signals_based_traps(false);
    });
    let error = is_prepared(&engine).unwrap_err();
    assert!(matches!(error, NotPrepared::NoSignals), "{error:?}");
    assert_copies(&engine);
}

#[test]
fn interpreter_is_found() {
    let engine = engine_with(|config| {
        config.enable_compiler(false).target("pulley64").unwrap();
    });
    let error = is_prepared(&engine).unwrap_err();
    assert!(matches!(error, NotPrepared::OtherCode), "{error:?}");
}

// rule 5
#[test]
fn engine_with_wider_async_copies() {
    for feature in [WasmFeatures::CM_ASYNC_STACKFUL, WasmFeatures::CM_THREADING] {
        let engine = engine_with(|config| {
            config.wasm_features(feature, true);
        });
        let error = is_prepared(&engine).unwrap_err();
        assert!(matches!(error, NotPrepared::WiderAsync), "{error:?}");
        assert_copies(&engine);
    }
}

#[test]
fn handler_of_a_crash_reporter_is_found() {
    alone("prepared::handler_of_a_crash_reporter_is_found", || {
        let engine = engine_with(|_| {});
        is_prepared(&engine).unwrap();
        ignore_faults();
        let error = is_prepared(&engine).unwrap_err();
        assert!(matches!(error, NotPrepared::ForeignHandler), "{error:?}");
    });
}

#[allow(unsafe_code)]
fn ignore_faults() {
    // SAFETY: it sets no handler.
    let before = unsafe { libc::signal(libc::SIGSEGV, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR);
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn reason_is_logged_once_per_engine() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..2 {
            let engine = engine_with(|config| {
                config.allocation_strategy(pool());
            });
            assert_copies(&engine);
            assert_copies(&engine);
        }
        assert_maps(&engine_with(|_| {}));
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        assert!(
            line.contains("work by copies: the engine has the pooling allocator"),
            "{line}"
        );
        assert!(line.contains("guest=\"a\""), "{line}");
    }
}
