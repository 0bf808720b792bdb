//! `prepare`, and the handlers that stand in its way.

use super::{busy_guest, handle_faults, handmade, noticed};
use tombolo::{GRANULE, PrepareError, RegionHost};
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::filled;
use tombolo_test_util::store::State;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store, WasmFeatures};

#[test]
fn prepare_fails_after_an_engine_was_created() {
    alone("prepare::prepare_fails_after_an_engine_was_created", || {
        let engine = Engine::new(&Config::new()).unwrap();
        for _ in 0..2 {
            let error = tombolo::prepare(&mut Config::new()).unwrap_err();
            assert!(matches!(error, PrepareError::EngineBefore), "{error:?}");
            assert!(
                error.to_string().contains("before the first `Engine::new`"),
                "{error}"
            );
        }

        // The process continues, and regions work by copies.
        let mut linker = Linker::new(&engine);
        tombolo::add_to_linker(&mut linker).unwrap();
        let component = Component::new(&engine, handmade()).unwrap();
        let host = RegionHost::new();
        let mut store = Store::new(&engine, State::new(host.context("a").build()));
        linker.instantiate(&mut store, &component).unwrap();
        let region = filled(&host, "music", GRANULE, 1);
        region.write_at(5, &[2]).unwrap();
        assert_eq!(region.read_at(4..6).unwrap(), [1, 2]);
    });
}

#[test]
fn prepare_fails_if_another_handler_runs_first() {
    alone(
        "prepare::prepare_fails_if_another_handler_runs_first",
        || {
            tombolo::prepare(&mut Config::new()).unwrap();
            handle_faults(
                noticed as *const () as usize,
                libc::SA_SIGINFO | libc::SA_ONSTACK,
            );
            let error = tombolo::prepare(&mut Config::new()).unwrap_err();
            assert!(matches!(error, PrepareError::ForeignHandler), "{error:?}");
        },
    );
}

#[test]
fn prepare_succeeds_after_an_earlier_handler() {
    alone("prepare::prepare_succeeds_after_an_earlier_handler", || {
        handle_faults(
            noticed as *const () as usize,
            libc::SA_SIGINFO | libc::SA_ONSTACK,
        );
        tombolo::prepare(&mut Config::new()).unwrap();
        busy_guest(&RegionHost::new()).assert_works();
    });
}

#[test]
fn prepare_allows_async_components_before_and_after() {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    tombolo::prepare(&mut config).unwrap();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config).unwrap();
    assert!(engine.get_concurrency_support());
}

#[test]
fn prepare_leaves_concurrency_off() {
    let mut config = Config::new();
    config.concurrency_support(false);
    tombolo::prepare(&mut config).unwrap();
    let engine = Engine::new(&config).unwrap();
    assert!(!engine.get_concurrency_support());
}

// rule 5
#[test]
fn prepare_turns_stackful_async_and_threads_off() {
    let wider = WasmFeatures::CM_ASYNC_STACKFUL | WasmFeatures::CM_THREADING;
    let mut config = Config::new();
    config.wasm_features(wider, true);
    tombolo::prepare(&mut config).unwrap();
    let engine = Engine::new(&config).unwrap();
    assert!(!engine.get_wasm_features().intersects(wider));
}

#[test]
fn prepare_overrides_unsuitable_settings() {
    let mut config = Config::new();
    config
        .memory_reservation(0)
        .memory_init_cow(true)
        .signals_based_traps(false);
    tombolo::prepare(&mut config).unwrap();
}
