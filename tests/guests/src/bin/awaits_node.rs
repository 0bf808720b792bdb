//! A guest with async functions, which waits in several tasks at once.
#![allow(unsafe_code, missing_docs)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/awaits.wit"],
        world: "test:awaits/guest",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Node);
    pub(crate) struct Node;
}

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;

use bindings::Node;
use bindings::exports::test::awaits::{far as borrower, node};
use bindings::test::awaits::{far, host};
use tombolo_guest::pressure::{Level, Watch};
use tombolo_guest::{GRANULE, Region};

static KEPT: OnceLock<Region> = OnceLock::new();

fn kept() -> &'static Region {
    KEPT.get().expect("the host has passed a region")
}

fn bytes(granule: u64) -> std::ops::Range<u64> {
    granule * GRANULE..(granule + 1) * GRANULE
}

/// Returns the output of the future that is ready first. The other one is dropped.
async fn first<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> Result<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| {
        if let Poll::Ready(output) = one.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        other.as_mut().poll(context).map(Err)
    })
    .await
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Normal => "normal",
        Level::Moderate => "moderate",
        Level::Critical => "critical",
    }
}

fn gate(name: &str) -> impl Future<Output = ()> {
    host::gate(name.to_owned())
}

impl borrower::Guest for Node {
    async fn fill(region: &Region, value: u8) -> u8 {
        let mut window = region.write_async(..).await.expect("it maps");
        window.fill(value);
        gate("fill").await;
        window[0]
    }
}

impl node::Guest for Node {
    fn keep(region: Region) {
        KEPT.set(region).expect("it is the first one");
    }

    async fn write(granule: u64, value: u8) -> Result<(), String> {
        let window = kept().write_async(bytes(granule)).await;
        window.map_err(|error| error.to_string())?[0] = value;
        Ok(())
    }

    async fn write_or_gate(granule: u64) -> String {
        match first(kept().write_async(bytes(granule)), gate("cancel")).await {
            Ok(window) => format!("{window:?}"),
            Err(()) => "cancelled".to_owned(),
        }
    }

    async fn hold(granule: u64) -> u8 {
        let window = kept().try_write(bytes(granule)).expect("it is free");
        gate("hold").await;
        window[0]
    }

    async fn hoard(granules: u64) -> String {
        let windows = (0..granules).map(|it| kept().try_write(bytes(it)).expect("it is free"));
        let windows: Vec<_> = windows.collect();
        let more = kept().write_async(bytes(granules)).await;
        drop(windows);
        more.expect_err("the limit is reached").to_string()
    }

    async fn pressure(first: String) -> String {
        let watch = Watch::new();
        while name(watch.level()) != first {
            watch.wait_async().await;
        }
        gate("level").await;
        name(watch.wait_async().await).to_owned()
    }

    async fn lend(value: u8) -> Result<(u8, u8), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut window = kept().write_async(..).await.map_err(|it| text(&it))?;
        window.fill(value);
        let lent = window.lend_async(async |region| far::fill(region, value + 1).await);
        let (window, answer) = lent.await.map_err(|it| text(&it))?;
        Ok((window[0], answer))
    }

    async fn lend_and_cancel(value: u8) -> Result<u8, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut window = kept().write_async(..).await.map_err(|it| text(&it))?;
        window.fill(value);
        let lent = window.lend_async(async |region| far::fill(region, value + 1).await);
        if first(lent, gate("cancel")).await.is_ok() {
            return Err("the call ended before it was cancelled".to_owned());
        }
        let window = kept().read_async(..).await.map_err(|it| text(&it))?;
        Ok(window[0])
    }

    async fn lend_and_forget() -> u8 {
        let window = kept().try_write(..).expect("it is free");
        let lent = window.lend_async(async |region| {
            let mut call = Box::pin(far::fill(region, 1));
            poll_fn(|context| {
                assert!(call.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            std::mem::forget(call);
        });
        let (window, ()) = lent.await.expect("it is lent");
        window[0]
    }
}

fn main() {}
