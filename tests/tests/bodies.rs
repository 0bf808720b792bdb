//! Streams of WASI, into regions and out of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tombolo::{GRANULE, Limits, Region, RegionError, RegionHost, Rights};
use tombolo_test_util::puppet::filled;
use tombolo_test_util::store::{self, State, component, engine};
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Instance, Lift, Linker, Lower, Resource};
use wasmtime_wasi_io::IoView;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

tombolo_tests::guests!(bodies);

/// A stream that has these parts, one after the other. An empty one means that there is nothing
/// yet.
struct Source(VecDeque<StreamResult<Bytes>>);

#[async_trait]
impl Pollable for Source {
    async fn ready(&mut self) {}
}

impl InputStream for Source {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.0.pop_front() {
            None => Err(StreamError::Closed),
            Some(Ok(mut part)) => {
                let taken = part.split_to(size.min(part.len()));
                if !part.is_empty() {
                    self.0.push_front(Ok(part));
                }
                Ok(taken)
            }
            Some(error) => error,
        }
    }
}

/// Bytes that a sink has taken and not passed on yet.
type Taken = Arc<Mutex<Vec<Bytes>>>;

/// A stream that takes so many bytes each time, and fails or ends after these.
struct Sink {
    permits: VecDeque<StreamResult<usize>>,
    taken: Taken,
}

#[async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {}
}

impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.taken.lock().unwrap().push(bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let next = self.permits.pop_front();
        next.unwrap_or(Err(StreamError::Closed))
    }
}

/// A guest with a region of two granules, which is full of ones.
struct Node {
    host: RegionHost,
    region: Region,
    store: Store<State>,
    instance: Instance,
}

type Answer<R> = Result<R, String>;

impl Node {
    fn new() -> Node {
        Node::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Node {
        let host = RegionHost::new();
        let mut linker: Linker<State> = store::linker();
        tombolo::add_streams_to_linker(&mut linker).unwrap();
        let regions = host.context("node").limits(limits).build();
        let mut store = Store::new(engine(), State::new(regions));
        let component = component(guests::BODIES_NODE);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let region = filled(&host, "body", 2 * GRANULE, 1);
        let mut node = Node {
            host,
            region,
            store,
            instance,
        };
        let given = node.region.duplicate(Rights::ALL).unwrap();
        let given = given.give(&mut node.store).unwrap();
        node.call::<_, ()>("keep", (given,));
        node
    }

    fn call<P, R>(&mut self, name: &str, params: P) -> R
    where
        P: ComponentNamedList + Lower,
        R: 'static,
        R: Returned,
    {
        let Node {
            store, instance, ..
        } = self;
        let acts = instance.get_export_index(&mut *store, None, "test:bodies/acts");
        let act = instance.get_export_index(&mut *store, acts.as_ref(), name);
        let act = instance.get_func(&mut *store, act.unwrap()).unwrap();
        let act = act.typed::<P, R::List>(&*store).unwrap();
        R::of(act.call(&mut *store, params).unwrap())
    }

    /// Passes a stream to the guest, which reads at most `most` bytes of it.
    fn read(&mut self, act: &str, source: &Resource<DynInputStream>, most: u64) -> Answer<u64> {
        let source = Resource::<DynInputStream>::new_borrow(source.rep());
        self.call(act, (source, 0_u64, most))
    }

    fn source(
        &mut self,
        parts: impl IntoIterator<Item = StreamResult<Bytes>>,
    ) -> Resource<DynInputStream> {
        let source: DynInputStream = Box::new(Source(parts.into_iter().collect()));
        self.store.data_mut().table().push(source).unwrap()
    }

    fn sink(&mut self, permits: impl IntoIterator<Item = StreamResult<usize>>) -> (Sunk, Taken) {
        let taken = Taken::default();
        let sink: DynOutputStream = Box::new(Sink {
            permits: permits.into_iter().collect(),
            taken: taken.clone(),
        });
        let sink = self.store.data_mut().table().push(sink).unwrap();
        (sink, taken)
    }

    fn write(&mut self, sink: &Sunk, length: u64) -> Answer<()> {
        self.call("write", (Sunk::new_borrow(sink.rep()), 0_u64, length))
    }
}

type Sunk = Resource<DynOutputStream>;

/// A result of a function, or none.
trait Returned {
    type List: ComponentNamedList + Lift + 'static;
    fn of(list: Self::List) -> Self;
}

impl Returned for () {
    type List = ();
    fn of((): ()) {}
}

impl<R: Lift + 'static> Returned for Answer<R>
where
    (Answer<R>,): ComponentNamedList + Lift,
{
    type List = (Answer<R>,);
    fn of((answer,): Self::List) -> Self {
        answer
    }
}

fn text(text: &'static str) -> StreamResult<Bytes> {
    Ok(Bytes::from_static(text.as_bytes()))
}

fn failure() -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::msg("the peer has gone"))
}

#[test]
fn bytes_come_in_as_they_arrive() {
    let mut node = Node::new();
    let source = node.source([text("hello"), text(""), text(", world")]);
    assert_eq!(node.read("read", &source, 3), Ok(3));
    assert_eq!(node.read("read", &source, 9), Ok(2));
    assert_eq!(node.read("fill", &source, 99), Ok(7));
    // The stream has ended.
    assert_eq!(node.read("read", &source, 9), Ok(0));
    assert_eq!(node.region.try_read(..8).unwrap()[..], *b", world\x01");
    let source = node.source([text("hello"), text(""), text(", world")]);
    assert_eq!(node.read("fill", &source, 12), Ok(12));
    assert_eq!(
        node.region.try_read(..13).unwrap()[..],
        *b"hello, world\x01"
    );
}

// rule 2
#[test]
fn refusal_takes_no_bytes_from_the_stream() {
    let mut node = Node::new();
    let source = node.source([text("hello")]);
    let refused = node.read("read-in-use", &source, 5).unwrap_err();
    assert!(refused.contains("would block"), "{refused}");
    let refused = node.read("read", &source, 3 * GRANULE).unwrap_err();
    assert!(refused.contains("out of bounds"), "{refused}");
    let guard = node.region.try_read(..1).unwrap();
    let refused = node.read("read", &source, 5).unwrap_err();
    assert!(refused.contains("would block"), "{refused}");
    drop(guard);
    assert_eq!(node.read("read", &source, 5), Ok(5));
    assert_eq!(node.region.try_read(..6).unwrap()[..], *b"hello\x01");
}

#[test]
fn failure_of_a_stream_is_told() {
    let mut node = Node::new();
    let source = node.source([text("hel"), Err(failure())]);
    let error = node.read("fill", &source, 9).unwrap_err();
    assert!(error.contains("the peer has gone"), "{error}");
    // What had come is there.
    assert_eq!(node.region.try_read(..4).unwrap()[..], *b"hel\x01");
    let (sink, taken) = node.sink([Ok(5), Err(failure())]);
    let error = node.write(&sink, 9).unwrap_err();
    assert!(error.contains("the peer has gone"), "{error}");
    assert_eq!(taken.lock().unwrap()[..], [&b"hel\x01\x01"[..]]);
    let error = node.write(&sink, 9).unwrap_err();
    assert!(error.contains("closed"), "{error}");
}

// rule 10
#[test]
fn calls_copy_no_more_than_the_limit() {
    let mut limits = Limits::default();
    limits.copy_bytes = 4;
    let mut node = Node::with_limits(limits);
    let source = node.source([text("hello, world")]);
    assert_eq!(node.read("read", &source, 12), Ok(4));
    assert_eq!(node.read("fill", &source, 12), Ok(8));
    assert_eq!(node.region.try_read(..9).unwrap()[..], *b"o, world\x01");
}

// rule 2
#[test]
fn bytes_go_out_from_where_they_are() {
    let mut node = Node::new();
    let before = node.host.counts().bytes_copied;
    let (sink, taken) = node.sink([Ok(3), Ok(0), Ok(100_000), Ok(100_000)]);
    assert_eq!(node.write(&sink, GRANULE + 5), Ok(()));
    assert_eq!(node.host.counts().bytes_copied, before);
    let lengths: Vec<usize> = taken.lock().unwrap().iter().map(Bytes::len).collect();
    assert_eq!(lengths, [3, GRANULE as usize + 2]);
    // They stay as they are until they are passed on.
    let refused = node.region.try_write(..);
    assert!(matches!(refused, Err(RegionError::WouldBlock)));
    let source = node.source([text("hello")]);
    let refused = node.read("read", &source, 5).unwrap_err();
    assert!(refused.contains("would block"), "{refused}");
    assert!(taken.lock().unwrap().iter().flatten().all(|it| *it == 1));
    taken.lock().unwrap().clear();
    node.region.try_write(..).unwrap();
    assert_eq!(node.read("read", &source, 5), Ok(5));
}

// rule 5
#[test]
fn bytes_of_a_borrower_are_copied() {
    let mut node = Node::new();
    let (sink, taken) = node.sink([Ok(100_000), Ok(100_000)]);
    let before = node.host.counts().bytes_copied;
    let lent = node.region.lend(&mut node.store, Rights::READ).unwrap();
    let borrowed = Sunk::new_borrow(sink.rep());
    let written: Answer<()> = node.call("write-lent", (borrowed, lent.resource()));
    assert_eq!(written, Ok(()));
    lent.end(&mut node.store, Ok(())).unwrap();
    // The lender has all of it again.
    node.region.try_write(..).unwrap().fill(2);
    assert_eq!(node.host.counts().bytes_copied - before, 2 * GRANULE);
    let taken = taken.lock().unwrap();
    assert!(taken.iter().flatten().all(|it| *it == 1));
    assert_eq!(taken.iter().flatten().count() as u64, 2 * GRANULE);
}

// rule 10
#[test]
fn bytes_on_their_way_count_as_windows() {
    let mut limits = Limits::default();
    limits.windows = 2;
    let mut node = Node::with_limits(limits);
    let (sink, taken) = node.sink((0..5).map(|_| Ok(3)));
    let refused = node.write(&sink, 9).unwrap_err();
    assert!(refused.contains("`windows`"), "{refused}");
    taken.lock().unwrap().clear();
    assert_eq!(node.write(&sink, 3), Ok(()));
}

// rule 6
#[test]
fn bytes_on_their_way_outlive_their_guest() {
    let mut node = Node::new();
    let (sink, taken) = node.sink([Ok(100_000)]);
    assert_eq!(node.write(&sink, GRANULE), Ok(()));
    node.call::<_, ()>("drop-region", ());
    let Node {
        host,
        region,
        store,
        ..
    } = node;
    drop(store);
    assert!(!region.is_poisoned());
    let refused = region.try_write(..);
    assert!(matches!(refused, Err(RegionError::WouldBlock)));
    drop(region);
    assert_eq!(host.counts().regions_freed, 0);
    let bytes = taken.lock().unwrap().pop().unwrap();
    assert!(bytes.iter().all(|it| *it == 1));
    drop(bytes);
    assert_eq!(host.counts().regions_freed, 1);
}
