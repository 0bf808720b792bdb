//! While a plain call of a guest waits in the host, nothing else runs in its store, on engines
//! with concurrency support too. Lends depend on that.

use std::sync::{Arc, Mutex};

use super::engine_with;
use tombolo_test_util::run::one_thread;
use wasmtime::component::{Accessor, Component, Linker};
use wasmtime::{Engine, Store};

/// A guest with two tasks. One waits in the host, and the other reports to it. The import that
/// waits is a `func` or an `async func`; both are called synchronously.
fn guest(wait: &str) -> String {
    format!(
        r#"(component
            (import "wait" (func $wait {wait}))
            (import "note" (func $note))
            (core func $wait (canon lower (func $wait)))
            (core func $note (canon lower (func $note)))
            (core func $return (canon task.return))
            (core module $m
                (import "" "wait" (func $wait))
                (import "" "note" (func $note))
                (import "" "return" (func $return))
                (func (export "waits") (result i32) (call $wait) (call $return) (i32.const 0))
                (func (export "notes") (result i32) (call $note) (call $return) (i32.const 0))
                (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
            (core instance $i (instantiate $m (with "" (instance
                (export "wait" (func $wait))
                (export "note" (func $note))
                (export "return" (func $return))))))
            (func (export "waits") async
                (canon lift (core func $i "waits") async
                    (callback (core func $i "callback"))))
            (func (export "notes") async
                (canon lift (core func $i "notes") async
                    (callback (core func $i "callback")))))"#
    )
}

type Log = Arc<Mutex<Vec<&'static str>>>;

fn note(log: &Log, what: &'static str) {
    log.lock().unwrap().push(what);
}

/// Lets everything else on this thread run, many times.
async fn wait(log: Log) {
    note(&log, "in");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    note(&log, "out");
}

/// Returns a linker whose `wait` is an async function, or a plain one.
fn linker(engine: &Engine, is_async: bool) -> wasmtime::Result<Linker<Log>> {
    let mut linker = Linker::new(engine);
    let mut root = linker.root();
    root.func_wrap("note", |store, (): ()| {
        note(store.data(), "sibling");
        Ok(())
    })?;
    match is_async {
        true => root.func_wrap_concurrent("wait", |accessor, (): ()| {
            let log = accessor.with(|mut access| access.get().clone());
            Box::pin(async move {
                wait(log).await;
                Ok(())
            })
        })?,
        false => root.func_wrap_async("wait", |store, (): ()| {
            let log = store.data().clone();
            Box::new(async move {
                wait(log).await;
                Ok(())
            })
        })?,
    }
    Ok(linker)
}

/// Runs both tasks, while the program looks into the store. Returns what happened.
async fn run(is_async: bool) -> wasmtime::Result<Vec<&'static str>> {
    let engine = engine_with(|config| {
        config.concurrency_support(true);
    });
    let kind = if is_async { "async" } else { "" };
    let wasm = wat::parse_str(guest(kind)).expect("it is well-formed");
    let component = Component::new(&engine, wasm)?;
    let mut store = Store::new(&engine, Log::default());
    let linker = linker(&engine, is_async)?;
    let instance = linker.instantiate_async(&mut store, &component).await?;
    let waits = instance.get_typed_func::<(), ()>(&mut store, "waits")?;
    let notes = instance.get_typed_func::<(), ()>(&mut store, "notes")?;
    let looks = async |accessor: &Accessor<Log>| {
        for _ in 0..20 {
            tokio::task::yield_now().await;
            accessor.with(|mut access| note(access.get(), "program"));
        }
    };
    let ended = store.run_concurrent(async |accessor| {
        let (waited, noted, ()) = tokio::join!(
            waits.call_concurrent(accessor, ()),
            notes.call_concurrent(accessor, ()),
            looks(accessor),
        );
        waited.and(noted)
    });
    ended.await??;
    let log = store.into_data();
    let log = log.lock().unwrap();
    Ok(log.clone())
}

/// Returns what happened between the beginning and the end of the wait.
fn meanwhile(is_async: bool) -> Vec<&'static str> {
    let log = one_thread().block_on(run(is_async)).unwrap();
    let at = |what| log.iter().position(|it| *it == what).unwrap();
    assert!(
        log.contains(&"sibling") && log.contains(&"program"),
        "{log:?}"
    );
    log[at("in") + 1..at("out")].to_vec()
}

// rule 5
#[test]
fn plain_call_keeps_its_store() {
    assert_eq!(meanwhile(false), [""; 0]);
}

#[test]
fn async_call_lets_others_into_its_store() {
    assert!(meanwhile(true).contains(&"program"));
}
