//! Calls of exports in one step, and each way in which a call can end.

use std::error::Error as _;
use std::future::pending;
use std::sync::Arc;

use tokio::sync::Notify;
use tombolo::{
    Call, CallFailure, Called, GRANULE, Region, RegionError, RegionHost, Rights, Session,
};
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{assert_filled, filled};
use wasmtime::component::{Resource, Val};
use wasmtime::{Result, StoreContextMut};

use crate::world::{Nodes, READ, State, World, getter};

fn both() -> Rights {
    Rights::READ | Rights::WRITE
}

/// Returns a session with the first of two guests, and a region full of threes.
fn session(host: &RegionHost) -> (Session<State>, Nodes, Region) {
    let region = filled(host, "body", GRANULE, 3);
    let world = World::new([host.context("a"), host.context("b")]);
    let (store, nodes) = world.into_parts();
    (Session::with(store, getter(0)), nodes, region)
}

/// Lets the guest write to a lent region, and keep the window.
fn write(
    call: &mut Call<State>,
    nodes: &Nodes,
    region: &Region,
) -> Result<std::result::Result<u8, String>> {
    let handle = call.lend(region, both())?;
    nodes[0]
        .test_contexts_peer()
        .call_write(call.store(), handle, 9, true)
}

// rule 5
#[test]
fn value_comes_back_with_the_guest() {
    let host = RegionHost::new();
    let (session, nodes, region) = session(&host);
    let called = session.call(|call| write(call, &nodes, &region));
    let (session, before) = called.into_result().unwrap();
    assert_eq!(before, Ok(3));
    // The lend is over, with the window that the guest kept.
    assert_eq!(region.try_write(0..1).unwrap()[..], [9]);
    // Again, with a value that the guest keeps, and one that it returns.
    let given = region.duplicate(Rights::ALL).unwrap();
    let (session, number) = session
        .call(|call| {
            let given = call.give(given).map_err(|error| error.reason)?;
            nodes[0].test_contexts_acts().call_keep(call.store(), given)
        })
        .into_result()
        .unwrap();
    let (mut session, handle) = session
        .call(|call| {
            nodes[0]
                .test_contexts_acts()
                .call_give(call.store(), number)
        })
        .into_result()
        .unwrap();
    assert_eq!(session.take(handle).unwrap().id(), region.id());
}

// rule 5
#[test]
fn dynamic_function_gets_a_value() {
    let host = RegionHost::new();
    let (session, _, region) = session(&host);
    let called = session.call(|call| {
        let values = [call.lend_value(&region, Rights::READ)?];
        let mut results = [Val::Bool(false)];
        let func = crate::world::peer(call.store(), 0, "read");
        func.call(call.store(), &values, &mut results)?;
        Ok(results)
    });
    let (session, [result]) = called.into_result().unwrap();
    assert_eq!(result, Val::Result(Ok(Some(Box::new(Val::U8(3))))));
    drop(session);
    drop(region.try_write(..).unwrap());
    assert!(!region.is_poisoned());
}

// rule 6
#[test]
fn trap_drops_the_guest_and_names_the_poisoned() {
    let host = RegionHost::new();
    let (session, nodes, region) = session(&host);
    let other = filled(&host, "only read", GRANULE, 1);
    let Called { session, result } = session.call(|call| {
        call.lend(&other, Rights::READ)?;
        let handle = call.lend(&region, both())?;
        nodes[0]
            .test_contexts_peer()
            .call_die(call.store(), handle, 9)
    });
    assert!(session.is_none());
    let error = result.unwrap_err();
    assert!(
        matches!(error.failure(), CallFailure::Failed(_)),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "the guest failed");
    assert!(error.source().is_some());
    assert_eq!(error.poisoned(), [region.id()]);
    assert!(region.is_poisoned() && !other.is_poisoned());
    // Both lends are over.
    region.clear_poison().unwrap();
    drop((region.try_write(..).unwrap(), other.try_write(..).unwrap()));
}

// rule 5
#[test]
fn refused_lend_keeps_the_guest() {
    let host = RegionHost::new();
    let (session, nodes, region) = session(&host);
    let given = region.duplicate(Rights::ALL).unwrap();
    let guard = region.try_read(..).unwrap();
    let Called { session, result } = session.call(|call| {
        call.give(given).map_err(|error| error.reason)?;
        write(call, &nodes, &region)
    });
    let error = result.unwrap_err();
    let CallFailure::Refused(reason) = error.failure() else {
        panic!("{error:?}");
    };
    let reason: &RegionError = reason.downcast_ref().unwrap();
    assert!(matches!(reason, RegionError::WouldBlock));
    drop(guard);
    let mut session = session.expect("the guest was not entered");
    // What was given to it is dropped.
    assert_eq!(session.store().data().guests[0].claimed_bytes(), 0);
    let called = session.call(|call| write(call, &nodes, &region));
    assert_eq!(called.into_result().unwrap().1, Ok(3));
}

// rule 9
#[test]
fn violation_drops_the_guest() {
    alone("sessions::violation_drops_the_guest", || {
        let host = RegionHost::new();
        let (session, nodes, region) = session(&host);
        let acts = nodes[0].test_contexts_acts();
        let given = region.duplicate(Rights::ALL).unwrap();
        let (session, window) = session
            .call(|call| {
                let given = call.give(given).map_err(|error| error.reason)?;
                let number = acts.call_keep(call.store(), given)?;
                let window = acts.call_map_window(call.store(), number, READ)?;
                Ok(window.expect("it is mapped"))
            })
            .into_result()
            .unwrap();
        // Nothing checks during the call.
        let Called { session, result } =
            session.call(|call| acts.call_violate(call.store(), window));
        assert!(session.is_none());
        let error = result.unwrap_err();
        let CallFailure::Violation(violation) = error.failure() else {
            panic!("{error:?}");
        };
        assert_eq!((violation.guest(), violation.region()), ("a", Some("body")));
        assert!(error.poisoned().is_empty());
        assert_filled(&region, 3);
    });
}

/// Asynchronous stores.
mod asynchronous {
    use super::*;

    const INTERFACE: &str = "test:contexts/host";

    /// Returns a session with a guest whose function `host-fill` waits for the gate, with a window
    /// of the guest's own that writes.
    async fn waiting(host: &RegionHost, gate: &Arc<Notify>) -> (Session<State>, Region, Val) {
        let region = filled(host, "body", GRANULE, 3);
        let mut world = World::linked_async([host.context("a")], |linker, _| {
            let gate = gate.clone();
            linker.instance(INTERFACE)?.func_wrap_async(
                "fill",
                move |_: StoreContextMut<'_, State>, (_, byte): (Resource<Region>, u8)| {
                    let gate = gate.clone();
                    Box::new(async move {
                        gate.notified().await;
                        Ok((Ok::<u64, String>(byte.into()),))
                    })
                },
            )
        })
        .await;
        let (number, _) = world.give_and_map(0, &region, "write").await;
        let (store, _) = world.into_parts();
        (Session::with(store, getter(0)), region, number)
    }

    async fn fill(call: &mut Call<State>, number: Val) -> Result<Val> {
        let func = crate::world::act(call.store(), 0, "host-fill");
        let mut results = [Val::Bool(false)];
        let params = [number, Val::U8(7)];
        func.call_async(call.store(), &params, &mut results).await?;
        let [result] = results;
        Ok(result)
    }

    /// Runs a future on another task, which only those that can be sent may do.
    async fn spawned<R: Send + 'static>(work: impl Future<Output = R> + Send + 'static) -> R {
        tokio::spawn(work).await.unwrap()
    }

    // rule 5
    #[tokio::test]
    async fn call_waits_on_any_task() {
        let (host, gate) = (RegionHost::new(), Arc::new(Notify::new()));
        let (session, _, number) = waiting(&host, &gate).await;
        gate.notify_one();
        let called = spawned(session.call_async(async move |call| fill(call, number).await)).await;
        let (_, result) = called.into_result().unwrap();
        assert_eq!(result, Val::Result(Ok(Some(Box::new(Val::U64(7))))));
    }

    // rule 6
    #[tokio::test]
    async fn stopped_call_drops_the_guest() {
        let (host, gate) = (RegionHost::new(), Arc::new(Notify::new()));
        let (session, region, number) = waiting(&host, &gate).await;
        let lent = filled(&host, "lent", GRANULE, 1);
        let Called { session, result } = session
            .call_until(tokio::task::yield_now(), async |call| {
                call.lend(&lent, both())?;
                fill(call, number).await
            })
            .await;
        assert!(session.is_none());
        let error = result.unwrap_err();
        assert!(matches!(error.failure(), CallFailure::Stopped), "{error:?}");
        // It had no window on what it was lent, but one on its own region.
        assert!(error.poisoned().is_empty());
        assert!(region.is_poisoned());
        drop(lent.try_write(..).unwrap());
    }

    // rule 5
    #[tokio::test]
    async fn call_that_ends_is_not_stopped() {
        let (host, gate) = (RegionHost::new(), Arc::new(Notify::new()));
        let (session, _, number) = waiting(&host, &gate).await;
        gate.notify_one();
        let called = session.call_until(pending(), async |call| fill(call, number).await);
        assert!(called.await.into_result().is_ok());
    }

    // rules 5, 6
    #[tokio::test]
    async fn dropped_future_drops_the_guest() {
        let (host, gate) = (RegionHost::new(), Arc::new(Notify::new()));
        let (session, region, number) = waiting(&host, &gate).await;
        let lent = filled(&host, "lent", GRANULE, 1);
        let called = session.call_async(async |call| {
            call.lend(&lent, both())?;
            fill(call, number).await
        });
        let mut called = Box::pin(called);
        let polled = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(called.as_mut().poll(cx).is_pending())
        });
        assert!(polled.await, "it waits for the gate");
        assert!(lent.unpin(..).is_err(), "the lend lasts");
        drop(called);
        assert!(region.is_poisoned(), "its windows are gone");
        lent.unpin(..).unwrap();
    }
}
