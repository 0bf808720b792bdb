//! A command that writes streams to another guest and reads those of another guest. It panics if
//! an expectation fails.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/streams.wit"],
        world: "test:streams/player",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Player);
    pub(crate) struct Player;
}

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bindings::test::streams::{passers, sinks, sources};
use bindings::wasi::clocks::monotonic_clock::wait_for;
use bindings::{wit_future, wit_stream};
use tombolo_guest::{GRANULE, Region};
use tombolo_test_guests::scenarios::Streams;
use wit_bindgen::rt::async_support::{StreamReader, spawn_local};

/// The most bytes between two guests.
const MOST: u64 = 64 << 10;

/// Lets other tasks run for about a millisecond.
async fn moment() {
    wait_for(1_000_000).await;
}

/// Awaits a call that fails, because its callee dies.
async fn fails(call: impl Future<Output = Result<(), String>>) {
    let why = call.await.expect_err("the callee dies");
    assert!(why.contains("guest `node` was ended"), "{why}");
}

/// Returns bytes 0, 1, 2 and so on.
fn sequence(length: u64) -> Vec<u8> {
    (0..length).map(|at| at.to_le_bytes()[0]).collect()
}

/// Starts a stream of these bytes.
fn stream_of(bytes: Vec<u8>) -> StreamReader<u8> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(bytes).await;
    });
    reader
}

/// Arguments, at any depth.
async fn write() {
    for length in [0, 1, 5_000_000] {
        let count = sinks::count(stream_of(sequence(length))).await;
        assert_eq!(count, (length, true));
    }
    let (writer, text) = wit_future::new(String::new);
    spawn_local(async move {
        writer.write("text".to_owned()).await.expect("it is read");
    });
    let parcel = sources::Parcel {
        label: "label".into(),
        bytes: Some(stream_of(sequence(10))),
        rest: vec![Ok(stream_of(sequence(20))), Err(text)],
    };
    let got = sinks::parcels(parcel).await;
    assert_eq!(got, ("label".into(), 30, vec!["text".into()]));
}

/// Results, at any depth.
async fn read() {
    let bytes = sources::bytes(3_000_000, 10_000).await;
    assert_eq!(bytes.collect().await, sequence(3_000_000));
    let texts = sources::texts(1000, 1000).await;
    assert_eq!(texts.collect().await, vec!["x".repeat(1000); 1000]);
    let parcel = sources::parcels().await;
    assert_eq!(
        parcel.bytes.expect("it is there").collect().await,
        sequence(10)
    );
    for one in parcel.rest {
        match one {
            Ok(bytes) => assert!(bytes.collect().await.len() >= 20),
            Err(text) => assert_eq!(text.await, "text"),
        }
    }
    let text = sources::text("later".into()).await;
    assert_eq!(text.await, "later");
}

/// Regions move in both directions. A window of the writer's on one is gone.
async fn regions() {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        let region = |first: u8| {
            let region = Region::create("sent", GRANULE).expect("it is created");
            region.write(..).expect("it maps").fill(first);
            region
        };
        let left = writer.write_all((0..30).map(region).collect()).await;
        assert!(left.is_empty());
    });
    assert_eq!(sinks::regions(reader).await, sequence(30));
    let mut regions = sources::regions(30, GRANULE, true).await;
    let mut firsts = Vec::new();
    while let Some(region) = regions.next().await {
        // It is this guest's own now.
        region.write(..).expect("it maps")[1] = 1;
        firsts.push(region.read(..).expect("it maps")[0]);
    }
    // The last one may not be moved.
    assert_eq!(firsts, sequence(29));
    let region = sources::region_later(7).await.await;
    assert_eq!(region.read(..).expect("it maps")[0], 7);
}

/// Streams that another guest passes on come back.
async fn pass_on() {
    let bytes = passers::pass(stream_of(sequence(300_000))).await;
    let rest = passers::pass_rest(bytes, 256).await;
    assert_eq!(sinks::count(rest).await, (300_000 - 256, true));
    let text = sources::text("text".into()).await;
    let text = passers::pass_text(text).await;
    assert_eq!(text.await, "text");
}

/// Starts a stream without an end. Returns its end, and how much was written.
fn endless() -> (StreamReader<u8>, Rc<Cell<(u64, bool)>>) {
    let (mut writer, reader) = wit_stream::new();
    let written = Rc::new(Cell::new((0, false)));
    let notes = written.clone();
    spawn_local(async move {
        loop {
            let left = writer.write_all(vec![1; 1000]).await;
            let (written, _) = notes.get();
            notes.set((written + 1000 - left.len() as u64, !left.is_empty()));
            if !left.is_empty() {
                return;
            }
        }
    });
    (reader, written)
}

/// A reader that never reads stops the writer, and nothing else.
async fn flood() {
    let (reader, written) = endless();
    sinks::keep(reader).await;
    while written.get().0 < MOST - 1000 {
        moment().await;
    }
    for _ in 0..5 {
        moment().await;
        assert!(written.get().0 <= MOST, "{written:?}");
    }
    assert_eq!(sinks::read(500_000).await, 500_000);
    assert!(written.get().0 >= 499_000);
    sinks::drop().await;
    while !written.get().1 {
        moment().await;
    }
}

/// The writer learns of the reader's death.
async fn reader_dies() {
    let (reader, written) = endless();
    sinks::keep(reader).await;
    fails(sinks::die()).await;
    while !written.get().1 {
        moment().await;
    }
}

/// The reader gets the end of the stream.
async fn writer_dies() {
    let mut bytes = sources::never_bytes().await;
    fails(sources::die()).await;
    assert_eq!(bytes.next().await, None);
}

/// The reader gets the reason, if the future can carry it.
async fn future_dies() {
    let result = sources::never_result().await;
    drop(sources::never().await);
    fails(sources::die()).await;
    let why = result.await.expect_err("nothing was written");
    assert!(
        why.starts_with("the future of guest `node` has no value"),
        "{why}"
    );
}

/// This guest is ended otherwise.
async fn plain_future_dies() {
    let plain = sources::never().await;
    fails(sources::die()).await;
    plain.await;
    unreachable!("there is no value");
}

/// Hundreds of streams meet the limit, and take nothing afterwards.
async fn many() {
    let mut all = Vec::new();
    let why = loop {
        match sources::many(50).await {
            Ok(streams) => all.extend(streams),
            Err(why) => break why,
        }
    };
    assert!(
        why.contains("limit `host-memory` of guest `player`"),
        "{why}"
    );
    let before = all.len();
    assert!(before >= 200, "{before}");
    drop(all);
    moment().await;
    for _ in 0..4 {
        let all = sources::many(50).await.expect("there is room again");
        for stream in all {
            assert_eq!(stream.collect().await, [0]);
        }
    }
}

/// Streams that come and go leave nothing behind.
async fn churn() {
    for round in 0..3000_u32 {
        let mut bytes = sources::bytes(10, 10).await;
        match round % 3 {
            0 => drop(bytes),
            1 => assert_eq!(bytes.collect().await, sequence(10)),
            _ => {
                let mut next = pin!(bytes.next());
                std::future::poll_fn(|context| {
                    let _ = next.as_mut().poll(context);
                    Poll::Ready(())
                })
                .await;
            }
        }
    }
}

impl bindings::exports::wasi::cli::run::Guest for bindings::Player {
    async fn run() -> Result<(), ()> {
        let scenario = std::env::args().nth(1).expect("it is given a scenario");
        match scenario.parse().expect("it knows the scenario") {
            Streams::Write => write().await,
            Streams::Read => read().await,
            Streams::Regions => regions().await,
            Streams::PassOn => pass_on().await,
            Streams::Flood => flood().await,
            Streams::ReaderDies => reader_dies().await,
            Streams::WriterDies => writer_dies().await,
            Streams::FutureDies => future_dies().await,
            Streams::PlainFutureDies => plain_future_dies().await,
            Streams::Many => many().await,
            Streams::Churn => churn().await,
        }
        Ok(())
    }
}

fn main() {}
