//! Writes, reads and passes on streams and futures.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/streams.wit"],
        world: "test:streams/node",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });
    export!(Node);
    pub(crate) struct Node;
}

use std::cell::{Cell, RefCell};
use std::mem::forget;

use bindings::exports::test::streams::{passers, sinks, sources};
use bindings::{wit_future, wit_stream};
use tombolo_guest::{Region, Rights};
use wit_bindgen::rt::async_support::{
    FutureReader, StreamReader, StreamResult, StreamWriter, spawn_local,
};

thread_local! {
    static WRITTEN: Cell<(u64, bool)> = const { Cell::new((0, false)) };
    static TAKEN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    static KEPT: RefCell<Vec<StreamReader<u8>>> = const { RefCell::new(Vec::new()) };
    static KEPT_FUTURES: RefCell<Vec<FutureReader<String>>> = const { RefCell::new(Vec::new()) };
}

/// Returns bytes of the sequence 0, 1, 2 and so on.
fn sequence(from: u64, length: u64) -> Vec<u8> {
    (from..from + length)
        .map(|at| at.to_le_bytes()[0])
        .collect()
}

async fn write_sequence(mut writer: StreamWriter<u8>, length: u64, chunk: u64) {
    let mut at = 0;
    while at < length {
        let next = chunk.min(length - at);
        let left = writer.write_all(sequence(at, next)).await;
        if !left.is_empty() {
            return;
        }
        at += next;
    }
}

fn stream_of<T: 'static>(
    (mut writer, reader): (StreamWriter<T>, StreamReader<T>),
    items: impl IntoIterator<Item = T>,
) -> StreamReader<T> {
    let items: Vec<_> = items.into_iter().collect();
    spawn_local(async move {
        writer.write_all(items).await;
    });
    reader
}

impl sources::Guest for bindings::Node {
    async fn bytes(length: u64, chunk: u32) -> StreamReader<u8> {
        let (writer, reader) = wit_stream::new();
        spawn_local(write_sequence(writer, length, chunk.into()));
        reader
    }

    async fn endless() -> StreamReader<u8> {
        let (mut writer, reader) = wit_stream::new();
        WRITTEN.set((0, false));
        spawn_local(async move {
            loop {
                let left = writer.write_all(vec![1; 10_000]).await;
                let (written, _) = WRITTEN.get();
                WRITTEN.set((written + 10_000 - left.len() as u64, !left.is_empty()));
                if !left.is_empty() {
                    return;
                }
            }
        });
        reader
    }

    async fn written() -> (u64, bool) {
        WRITTEN.get()
    }

    async fn texts(count: u32, length: u32) -> StreamReader<String> {
        let texts = (0..count).map(|_| "x".repeat(length as usize));
        stream_of(wit_stream::new(), texts)
    }

    async fn lists(count: u32, length: u32) -> StreamReader<Vec<u8>> {
        let lists = (0..count).map(|_| vec![7; length as usize]);
        stream_of(wit_stream::new(), lists)
    }

    async fn numbers(count: u32) -> StreamReader<u64> {
        stream_of(wit_stream::new(), 0..u64::from(count))
    }

    async fn floats() -> StreamReader<f32> {
        stream_of(wit_stream::new(), [0.5, -1.0])
    }

    async fn units(count: u32) -> StreamReader<()> {
        stream_of(wit_stream::new(), vec![(); count as usize])
    }

    async fn answers() -> StreamReader<Result<String, String>> {
        stream_of(wit_stream::new(), [Ok("a".into()), Err("b".into())])
    }

    async fn regions(count: u32, size: u64, locked: bool) -> StreamReader<Region> {
        let (mut writer, reader) = wit_stream::new();
        TAKEN.set((0, 0));
        spawn_local(async move {
            let mut regions = Vec::new();
            for number in 0..count {
                let region = Region::create("streamed", size).expect("it is created");
                let first = number.to_le_bytes()[0];
                region.write(..).expect("it maps").fill(first);
                regions.push(match locked && number + 1 == count {
                    true => region.duplicate(Rights::READ).expect("it may"),
                    false => region,
                });
            }
            let left = writer.write_all(regions).await;
            let left = left.len().try_into().expect("they were few");
            TAKEN.set((count - left, left));
        });
        reader
    }

    async fn taken() -> (u32, u32) {
        TAKEN.get()
    }

    async fn parcels() -> sources::Parcel {
        let stream = |length| {
            let (writer, reader) = wit_stream::new();
            spawn_local(write_sequence(writer, length, 100));
            reader
        };
        let (writer, text) = wit_future::new(String::new);
        spawn_local(async move {
            writer.write("text".to_owned()).await.expect("it is read");
        });
        sources::Parcel {
            label: "label".into(),
            bytes: Some(stream(10)),
            rest: vec![Ok(stream(20)), Err(text), Ok(stream(30))],
        }
    }

    async fn text(text: String) -> FutureReader<String> {
        let (writer, reader) = wit_future::new(String::new);
        spawn_local(async move {
            let _ = writer.write(text).await;
        });
        reader
    }

    async fn region_later(first: u8) -> FutureReader<Region> {
        let (writer, reader) = wit_future::new(|| unreachable!("it is written"));
        spawn_local(async move {
            let region = Region::create("later", 65_536).expect("it is created");
            region.write(..).expect("it maps").fill(first);
            let _ = writer.write(region).await;
        });
        reader
    }

    async fn never() -> FutureReader<String> {
        let (writer, reader) = wit_future::new(String::new);
        forget(writer);
        reader
    }

    async fn never_result() -> FutureReader<Result<String, String>> {
        let (writer, reader) = wit_future::new(|| Err(String::new()));
        forget(writer);
        reader
    }

    async fn never_bytes() -> StreamReader<u8> {
        let (writer, reader) = wit_stream::new();
        forget(writer);
        reader
    }

    async fn many(count: u32) -> Result<Vec<StreamReader<u8>>, String> {
        let stream = |_| {
            let (writer, reader) = wit_stream::new();
            spawn_local(write_sequence(writer, 1, 1));
            reader
        };
        Ok((0..count).map(stream).collect())
    }

    async fn die() -> Result<(), String> {
        panic!("told to die");
    }
}

/// Reads a stream to its end, in reads of this length.
async fn count(mut bytes: StreamReader<u8>, length: usize) -> (u64, bool) {
    let (mut count, mut right) = (0, true);
    let mut buffer = Vec::with_capacity(length);
    loop {
        let (result, read) = bytes.read(buffer).await;
        right &= read == sequence(count, read.len() as u64);
        count += read.len() as u64;
        match result {
            StreamResult::Complete(_) => {}
            StreamResult::Dropped | StreamResult::Cancelled => return (count, right),
        }
        buffer = read;
        buffer.clear();
    }
}

impl sinks::Guest for bindings::Node {
    async fn count(bytes: StreamReader<u8>) -> (u64, bool) {
        count(bytes, 1 << 20).await
    }

    async fn sip(bytes: StreamReader<u8>, length: u32) -> (u64, bool) {
        count(bytes, length as usize).await
    }

    async fn texts(texts: StreamReader<String>) -> (u64, u64) {
        let texts = texts.collect().await;
        let length: usize = texts.iter().map(String::len).sum();
        (texts.len() as u64, length as u64)
    }

    async fn lists(lists: StreamReader<Vec<u8>>) -> (u64, u64) {
        let lists = lists.collect().await;
        let length: usize = lists.iter().map(Vec::len).sum();
        (lists.len() as u64, length as u64)
    }

    async fn numbers(numbers: StreamReader<u64>) -> u64 {
        numbers.collect().await.into_iter().sum()
    }

    async fn floats(floats: StreamReader<f32>) -> Vec<f32> {
        floats.collect().await
    }

    async fn units(units: StreamReader<()>) -> u64 {
        units.collect().await.len() as u64
    }

    async fn answers(answers: StreamReader<Result<String, String>>) -> Vec<Result<String, String>> {
        answers.collect().await
    }

    async fn regions(mut regions: StreamReader<Region>) -> Vec<u8> {
        let mut firsts = Vec::new();
        while let Some(region) = regions.next().await {
            firsts.push(region.read(..).expect("it maps")[0]);
        }
        firsts
    }

    async fn parcels(it: sinks::Parcel) -> (String, u64, Vec<String>) {
        let (mut bytes, mut texts) = (0, Vec::new());
        let streams = it.bytes.into_iter().map(Ok).chain(it.rest);
        for one in streams {
            match one {
                Ok(stream) => bytes += count(stream, 7).await.0,
                Err(text) => texts.push(text.await),
            }
        }
        (it.label, bytes, texts)
    }

    async fn text(text: FutureReader<String>) -> String {
        text.await
    }

    async fn first_byte(it: FutureReader<Region>) -> u8 {
        it.await.read(..).expect("it maps")[0]
    }

    async fn try_text(text: FutureReader<Result<String, String>>) -> Result<String, String> {
        text.await
    }

    async fn keep(bytes: StreamReader<u8>) {
        KEPT.with_borrow_mut(|kept| kept.push(bytes));
    }

    async fn keep_future(text: FutureReader<String>) {
        KEPT_FUTURES.with_borrow_mut(|kept| kept.push(text));
    }

    async fn read(length: u32) -> u64 {
        let mut kept = KEPT.with_borrow_mut(Vec::pop).expect("a stream is kept");
        let mut left = u64::from(length);
        while left > 0 {
            let most = left.min(1 << 16).try_into().expect("it is small");
            let (result, read) = kept.read(Vec::with_capacity(most)).await;
            left -= read.len() as u64;
            if result == StreamResult::Dropped {
                break;
            }
        }
        KEPT.with_borrow_mut(|all| all.push(kept));
        u64::from(length) - left
    }

    async fn drop() {
        KEPT.take();
        KEPT_FUTURES.take();
    }

    async fn die() -> Result<(), String> {
        panic!("told to die");
    }
}

impl passers::Guest for bindings::Node {
    async fn pass(bytes: StreamReader<u8>) -> StreamReader<u8> {
        bytes
    }

    async fn pass_rest(mut bytes: StreamReader<u8>, skip: u32) -> StreamReader<u8> {
        for _ in 0..skip {
            bytes.next().await;
        }
        bytes
    }

    async fn pass_rest_of_regions(
        mut regions: StreamReader<Region>,
        skip: u32,
    ) -> StreamReader<Region> {
        for _ in 0..skip {
            regions.next().await;
        }
        regions
    }

    async fn pass_text(text: FutureReader<String>) -> FutureReader<String> {
        text
    }
}

fn main() {}
