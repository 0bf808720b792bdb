//! The two ends of a bridge, as wasmtime polls them in the stores of the writer and of the reader.

use std::any::{Any, TypeId};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, FutureConsumer, FutureProducer, Source, StreamConsumer, StreamProducer,
    StreamResult, VecBuffer,
};

use super::item::{Item, ItemError, lift_one};
use tombolo::{Recipient, RegionView};
use tombolo_exchange::{BridgeReader, BridgeWriter};

/// Why a future of a guest that has ended has no value.
const NOTHING: &str = "it has ended, or wrote nothing that can be passed";

/// The receiver of a stream's regions, as both ends know it: it changes when the stream is passed
/// on.
#[derive(Clone)]
pub(super) struct Receiver(Arc<Mutex<Recipient>>);

impl Receiver {
    pub(super) fn new(to: &Recipient) -> Receiver {
        Receiver(Arc::new(Mutex::new(to.clone())))
    }

    fn get(&self) -> Recipient {
        let to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        to.clone()
    }

    /// Has the regions that are written from now on charged to another guest.
    pub(super) fn set(&self, to: &Recipient) {
        let mut it = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::replace(&mut *it, to.clone());
        drop(it);
        drop(last); // Without the lock.
    }
}

/// The end of a stream in the writer's store. wasmtime drops it when the writer closes its stream,
/// when it traps, and when its store is dropped.
pub(super) struct WriterEnd<I: Item> {
    pub(super) bridge: BridgeWriter<I::Kept>,
    pub(super) to: Receiver,
}

impl<D: RegionView + 'static, I: Item> StreamConsumer<D> for WriterEnd<I> {
    type Item = I::Wire;

    fn poll_consume(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<D>,
        mut source: Source<'_, I::Wire>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let WriterEnd { bridge, to } = self.get_mut();
        let items = source.remaining(&mut store);
        let room = match bridge.poll_room(context, I::wanted(items)) {
            Poll::Ready(Some(room)) => room,
            Poll::Ready(None) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
        };
        // A guest may ask for room before it writes.
        if items == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let consumed = I::consume(&mut store, &mut source, (bridge, room), &to.get());
        Poll::Ready(ended(consumed))
    }
}

/// The end of a future in the writer's store.
pub(super) struct FutureWriterEnd<I: Item> {
    /// `None` once the value is written.
    pub(super) bridge: Option<BridgeWriter<I::Kept>>,
    /// The receiver of regions.
    pub(super) to: Recipient,
}

impl<D: RegionView + 'static, I: Item> FutureConsumer<D> for FutureWriterEnd<I> {
    type Item = I::Wire;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<D>,
        mut source: Source<'_, I::Wire>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let FutureWriterEnd { bridge, to } = self.get_mut();
        // The bridge has room for one. If the reader is gone, the value goes with it.
        let Some(wire) = lift_one(&mut store, &mut source)? else {
            return Poll::Ready(Ok(()));
        };
        let Some(mut bridge) = bridge.take() else {
            return Poll::Ready(Ok(()));
        };
        let mut push = |kept| bridge.push(|items| items.push_back(kept));
        let kept = I::keep(wire, &mut store, to);
        let refused = match kept.and_then(|kept| Ok(push(kept)?)) {
            Ok(()) => None,
            Err(ItemError::Refused(why)) => I::failure(&why),
            Err(ItemError::Fatal(error)) => return Poll::Ready(Err(error)),
        };
        if let Some(failure) = refused {
            // If the account does not have this little, the reader gets no value.
            let _ = push(failure);
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns how a stream goes on. It ends in order if an item was refused.
fn ended(result: Result<StreamResult, ItemError>) -> wasmtime::Result<StreamResult> {
    match result {
        Ok(result) => Ok(result),
        Err(ItemError::Refused(_)) => Ok(StreamResult::Dropped),
        Err(ItemError::Fatal(error)) => Err(error),
    }
}

/// The end of a stream or future in the reader's store. wasmtime drops it when the reader closes
/// its stream, when it traps, and when its store is dropped.
pub(super) struct ReaderEnd<I: Item> {
    pub(super) bridge: BridgeReader<I::Kept>,
    /// The same as that of the writer's end.
    pub(super) to: Receiver,
    /// The name of the guest that passed it.
    pub(super) from: Arc<str>,
}

impl<D: RegionView + 'static, I: Item> StreamProducer<D> for ReaderEnd<I> {
    type Item = I::Wire;
    type Buffer = VecBuffer<I::Wire>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, I::Wire, VecBuffer<I::Wire>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let bridge = &mut self.get_mut().bridge;
        let items = match bridge.poll_items(context) {
            Poll::Ready(Some(items)) => items,
            Poll::Ready(None) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
        };
        // A guest may ask for items before it reads them.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let produced = I::produce(&mut store, &mut destination, (bridge, items));
        Poll::Ready(ended(produced))
    }

    /// Moves the bridge to the guest that the stream is passed on to.
    fn try_into(me: Pin<Box<Self>>, ty: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        if ty != TypeId::of::<ReaderEnd<I>>() {
            return Err(me);
        }
        let end: Box<Self> = Pin::into_inner(me);
        Ok(end)
    }
}

/// A guest waits for a future that will never have a value.
#[derive(Debug, thiserror::Error)]
#[error("{0}; a future of `result<_, string>` can carry this as its error")]
struct NoValue(String);

impl<D: RegionView + 'static, I: Item> FutureProducer<D> for ReaderEnd<I> {
    type Item = I::Wire;

    fn poll_produce(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<D>,
        finish: bool,
    ) -> Poll<wasmtime::Result<Option<I::Wire>>> {
        let ReaderEnd { bridge, from, .. } = self.get_mut();
        let polled = bridge.poll_items(context);
        if polled.is_pending() && finish {
            return Poll::Ready(Ok(None));
        }
        let kept = ready!(polled).and_then(|_| bridge.take(1, |items, _| items.pop_front()));
        let given = match kept {
            Some(kept) => I::give(kept, &mut store),
            None => Err(ItemError::Refused(NOTHING.to_owned())),
        };
        let why = match given {
            Ok(wire) => return Poll::Ready(Ok(Some(wire))),
            Err(ItemError::Fatal(error)) => return Poll::Ready(Err(error)),
            Err(ItemError::Refused(why)) => {
                format!("the future of guest `{from}` has no value: {why}")
            }
        };
        let Some(failure) = I::failure(&why) else {
            return Poll::Ready(Err(NoValue(why).into()));
        };
        Poll::Ready(match I::give(failure, &mut store) {
            Ok(wire) => Ok(Some(wire)),
            Err(ItemError::Fatal(error)) => Err(error),
            Err(ItemError::Refused(why)) => Err(NoValue(why).into()),
        })
    }
}
