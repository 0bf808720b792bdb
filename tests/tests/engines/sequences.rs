//! The calls that Spin and wash make on a `Config`, in their order, with `prepare` in the places
//! that their code offers. Each sequence has a process of its own, as those programs have.

use super::{assert_copies, assert_maps};
use tombolo::{NotPrepared, PrepareError, is_prepared};
use tombolo_test_util::child::alone;
use tombolo_test_util::store::State;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Spin's `Config::default` in `crates/core`. It uses a pool unless the probe failed.
fn spin(pooling: bool) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    if pooling {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(1000)
            .total_memories(1000)
            .total_tables(2000)
            .total_stacks(1000)
            .total_core_instances(4000)
            .table_elements(100_000)
            .max_component_instance_size(10 << 20)
            .max_core_instance_size(10 << 20)
            .max_core_instances_per_component(200)
            .max_tables_per_component(64)
            .max_memories_per_component(32)
            .max_tables_per_module(2)
            .max_memories_per_module(2)
            .max_memory_size(4 << 30)
            .linear_memory_keep_resident(2 << 20)
            .table_keep_resident(1 << 19);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Spin's probe: it creates an engine to learn whether the machine has room for the pool.
fn spin_probe() {
    let mut config = Config::new();
    config.wasm_memory64(true);
    config.memory_reservation(1 << 42);
    Engine::new(&config).unwrap();
}

/// The end of wash's `EngineBuilder::build`, on the base configuration that a program passes.
fn wash(mut config: Config, pooling: bool) -> Engine {
    if pooling {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(100)
            .total_memories(100)
            .total_tables(100)
            .total_stacks(100)
            .total_core_instances(100);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config.wasm_component_model_async(true);
    config.wasm_component_model_map(true);
    config.wasm_component_model_implements(true);
    Engine::new(&config).unwrap()
}

/// Checks that guests map, and that the host can link WASI 0.3 as both programs do.
#[track_caller]
fn assert_maps_beside_async(engine: &Engine) {
    assert!(engine.get_concurrency_support());
    let mut linker: Linker<State> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
    tombolo::add_to_linker(&mut linker).unwrap();
    tombolo::add_waits_to_linker(&mut linker).unwrap();
    assert_maps(engine);
}

#[test]
fn spin_without_a_pool_maps() {
    alone("sequences::spin_without_a_pool_maps", || {
        let mut config = spin(false);
        tombolo::prepare(&mut config).unwrap();
        assert_maps_beside_async(&Engine::new(&config).unwrap());
    });
}

#[test]
fn spin_with_its_pool_maps_without_it() {
    alone("sequences::spin_with_its_pool_maps_without_it", || {
        let mut config = spin(true);
        tombolo::prepare(&mut config).unwrap();
        let engine = Engine::new(&config).unwrap();
        assert!(engine.get_pooling_config().is_none());
        assert_maps_beside_async(&engine);
    });
}

#[test]
fn spin_after_its_probe_cannot_be_prepared() {
    alone("sequences::spin_after_its_probe_cannot_be_prepared", || {
        spin_probe();
        let error = tombolo::prepare(&mut spin(false)).unwrap_err();
        assert!(matches!(error, PrepareError::EngineBefore), "{error:?}");
    });
}

#[test]
fn spin_prepared_before_its_probe_maps() {
    alone("sequences::spin_prepared_before_its_probe_maps", || {
        // First of all in `main`, for the process.
        tombolo::prepare(&mut Config::new()).unwrap();
        spin_probe();
        let mut config = spin(true);
        tombolo::prepare(&mut config).unwrap();
        assert_maps_beside_async(&Engine::new(&config).unwrap());
    });
}

#[test]
fn wash_without_a_pool_maps() {
    alone("sequences::wash_without_a_pool_maps", || {
        let mut config = Config::new();
        tombolo::prepare(&mut config).unwrap();
        assert_maps_beside_async(&wash(config, false));
    });
}

#[test]
fn wash_with_a_pool_copies_and_is_found() {
    alone("sequences::wash_with_a_pool_copies_and_is_found", || {
        let mut config = Config::new();
        tombolo::prepare(&mut config).unwrap();
        let engine = wash(config, true);
        let error = is_prepared(&engine).unwrap_err();
        assert!(matches!(error, NotPrepared::Pooling), "{error:?}");
        assert_copies(&engine);
    });
}
