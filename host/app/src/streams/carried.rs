//! Streams and futures without a store, and the list of the types of their items.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{FutureAny, FutureReader, StreamAny, StreamReader, Val};

use super::ends::{FutureWriterEnd, ReaderEnd, Receiver, WriterEnd};
use super::item::Item;
use tombolo::internal::{RecipientInternals as _, RegionErrorInternals as _, each_handle};
use tombolo::{Recipient, Region, RegionError, RegionView};
use tombolo_exchange::bridge;
use tombolo_region::{Exhausted, escape};

/// The entries of a stream or future in wasmtime's table of a store: both ends, and what they share.
const TABLE_ENTRIES: usize = 3;

/// The guests between which streams and futures pass.
pub(crate) struct StreamRoute<'a> {
    /// The receiver of regions.
    pub(crate) to: &'a Recipient,
    /// The guest that pays for the bridges: the caller.
    pub(crate) payer: &'a Recipient,
}

/// Why a stream or future does not pass.
enum StreamError {
    /// A limit of the caller is used up.
    Exhausted(Exhausted),
    /// The guest whose store is in use cannot go on.
    Fatal(wasmtime::Error),
}

impl From<wasmtime::Error> for StreamError {
    fn from(error: wasmtime::Error) -> StreamError {
        StreamError::Fatal(error)
    }
}

/// The streams and futures of values, on their way from one store to another. Dropping one closes
/// it for its writer.
#[derive(Default)]
pub(crate) struct CarriedStreams {
    /// In the order of their places in the values, which stale ends of the sender mark.
    ends: Vec<AnyReader>,
}

impl CarriedStreams {
    /// Takes all streams and futures in the values out of the store in hand. If the caller's
    /// account does not allow one, notes the text for the caller in `refused`, and closes it.
    ///
    /// # Errors
    ///
    /// The guest whose store is in hand cannot go on.
    pub(crate) fn take<D: RegionView + 'static>(
        store: &mut StoreContextMut<'_, D>,
        vals: &mut [Val],
        route: &StreamRoute<'_>,
        refused: &mut Option<String>,
    ) -> wasmtime::Result<CarriedStreams> {
        let mut ends = Vec::new();
        each_stream(vals, |val| {
            match AnyReader::take(store, val, route) {
                Ok(end) => ends.push(end),
                Err(StreamError::Fatal(error)) => return Err(error),
                Err(StreamError::Exhausted(exhausted)) => {
                    close(store, val)?;
                    let why = RegionError::from(exhausted).for_its_guest();
                    refused.get_or_insert(format!("a stream or future cannot be passed: {why}"));
                }
            }
            Ok(())
        })?;
        Ok(CarriedStreams { ends })
    }

    /// Checks that the store in hand has room for them, before anything is put there.
    ///
    /// # Errors
    ///
    /// The text for the caller, if it has not.
    pub(crate) fn check_room<D: RegionView>(
        &self,
        store: &mut StoreContextMut<'_, D>,
    ) -> Result<(), String> {
        let entries = self.ends.len() * TABLE_ENTRIES;
        let Some(table) = store.concurrent_resource_table().filter(|_| entries > 0) else {
            return Ok(());
        };
        let spare: Vec<_> = (0..entries).map_while(|_| table.push(()).ok()).collect();
        let fits = spare.len() == entries;
        for entry in spare {
            // It was just put there.
            let _ = table.delete(entry);
        }
        match fits {
            true => Ok(()),
            false => {
                let guest = escape(store.data_mut().region_ctx().name());
                Err(format!(
                    "the limit `host-memory` of guest `{guest}` leaves no room for more streams \
                     and futures at a time"
                ))
            }
        }
    }

    /// Puts them into the store in hand, and into their places in the values.
    ///
    /// # Errors
    ///
    /// If the store has no room for them.
    pub(crate) fn put<D: RegionView + 'static>(
        self,
        store: &mut StoreContextMut<'_, D>,
        vals: &mut [Val],
    ) -> wasmtime::Result<()> {
        let mut ends = self.ends.into_iter();
        if ends.len() == 0 {
            return Ok(());
        }
        each_stream(vals, |val| {
            let Some(end) = ends.next() else {
                wasmtime::bail!("more streams in values than were taken out of them");
            };
            *val = end.put(store)?;
            Ok(())
        })
    }

    /// Closes all streams and futures in values of a call that is refused before it begins.
    ///
    /// # Errors
    ///
    /// If they are not of the store in hand.
    pub(crate) fn close<D>(
        store: &mut StoreContextMut<'_, D>,
        vals: &mut [Val],
    ) -> wasmtime::Result<()> {
        each_stream(vals, |val| close(store, val))
    }
}

/// Calls `visit` for each stream and future in the values.
fn each_stream(
    vals: &mut [Val],
    mut visit: impl FnMut(&mut Val) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    vals.iter_mut().try_for_each(|val| {
        each_handle(val, &mut |val| match val {
            Val::Resource(_) => Ok(()),
            Val::ErrorContext(_) => wasmtime::bail!("an error context cannot pass to a guest"),
            stream => visit(stream),
        })
    })
}

/// Closes the readable end of a stream or future that does not pass.
fn close<D>(store: &mut StoreContextMut<'_, D>, val: &Val) -> wasmtime::Result<()> {
    match val {
        Val::Stream(any) => any.clone().close(store),
        Val::Future(any) => any.clone().close(store),
        _ => Ok(()),
    }
}

/// Takes the readable end of a stream of `I` out of the store in hand. Returns `None` if it is one
/// of another type.
fn take_stream<I: Item, D: RegionView + 'static>(
    store: &mut StoreContextMut<'_, D>,
    any: &StreamAny,
    route: &StreamRoute<'_>,
) -> Option<Result<ReaderEnd<I>, StreamError>> {
    let reader = any.clone().try_into_stream_reader::<I::Wire>().ok()?;
    // Already a bridge: the guest passes it on.
    let reader = match reader.try_into::<ReaderEnd<I>>(&mut *store) {
        Ok(end) => {
            end.to.set(route.to);
            return Some(Ok(end));
        }
        Err(reader) => reader,
    };
    let (writer, bridge) = match bridge(&route.payer.owner().account) {
        Ok(bridge) => bridge,
        Err(exhausted) => return Some(Err(StreamError::Exhausted(exhausted))),
    };
    let from = store.data_mut().region_ctx().name().into();
    let to = Receiver::new(route.to);
    let end = WriterEnd::<I> {
        bridge: writer,
        to: to.clone(),
    };
    let piped = reader.pipe(&mut *store, end);
    Some(match piped {
        Ok(()) => Ok(ReaderEnd { bridge, to, from }),
        Err(error) => Err(error.into()),
    })
}

/// Takes the readable end of a future as [`take_stream`] does.
fn take_future<I: Item, D: RegionView + 'static>(
    store: &mut StoreContextMut<'_, D>,
    any: &FutureAny,
    route: &StreamRoute<'_>,
) -> Option<Result<ReaderEnd<I>, StreamError>> {
    let reader = any.clone().try_into_future_reader::<I::Wire>().ok()?;
    let (writer, bridge) = match bridge(&route.payer.owner().account) {
        Ok(bridge) => bridge,
        Err(exhausted) => return Some(Err(StreamError::Exhausted(exhausted))),
    };
    let from: Arc<str> = store.data_mut().region_ctx().name().into();
    let end = FutureWriterEnd::<I> {
        bridge: Some(writer),
        to: route.to.clone(),
    };
    let piped = reader.pipe(&mut *store, end);
    // It carries one value, to the guest that it was passed to first.
    let to = Receiver::new(route.to);
    Some(match piped {
        Ok(()) => Ok(ReaderEnd { bridge, to, from }),
        Err(error) => Err(error.into()),
    })
}

/// Defines the list of the types of items, each with a name.
macro_rules! item_types {
    ($($name:ident: $item:ty;)*) => {
        /// An end for the reader, by the type of its items.
        enum AnyReader {
            $(
                $name(ReaderEnd<$item>, Kind),
            )*
        }

        impl AnyReader {
            /// Takes a stream or future out of the store in hand.
            ///
            /// # Errors
            ///
            /// [`StreamError`]. Close it then.
            fn take<D: RegionView + 'static>(
                store: &mut StoreContextMut<'_, D>,
                val: &Val,
                route: &StreamRoute<'_>,
            ) -> Result<AnyReader, StreamError> {
                let taken = match val {
                    Val::Stream(any) => {
                        let mut taken = None;
                        $(
                            taken = taken.or_else(|| {
                                let end = take_stream::<$item, D>(store, any, route)?;
                                Some(end.map(|end| AnyReader::$name(end, Kind::Stream)))
                            });
                        )*
                        taken
                    }
                    Val::Future(any) => {
                        let mut taken = None;
                        $(
                            taken = taken.or_else(|| {
                                let end = take_future::<$item, D>(store, any, route)?;
                                Some(end.map(|end| AnyReader::$name(end, Kind::Future)))
                            });
                        )*
                        taken
                    }
                    _ => None,
                };
                // Linking has checked the type.
                let unknown = || wasmtime::Error::msg("a stream of such items cannot pass");
                taken.unwrap_or_else(|| Err(unknown().into()))
            }

            /// Puts the stream or future into the store in hand.
            ///
            /// # Errors
            ///
            /// If the store has no room for it.
            fn put<D: RegionView + 'static>(
                self,
                store: &mut StoreContextMut<'_, D>,
            ) -> wasmtime::Result<Val> {
                Ok(match self {
                    $(
                        AnyReader::$name(end, Kind::Stream) => {
                            let reader = StreamReader::new(&mut *store, end)?;
                            Val::Stream(reader.try_into_stream_any(&mut *store)?)
                        }
                        AnyReader::$name(end, Kind::Future) => {
                            let reader = FutureReader::new(&mut *store, end)?;
                            Val::Future(reader.try_into_future_any(&mut *store)?)
                        }
                    )*
                })
            }
        }
    };
}

/// Whether an end is one of a stream or of a future.
#[derive(Clone, Copy)]
enum Kind {
    Stream,
    Future,
}

item_types! {
    U8: u8;
    String: String;
    Bytes: Vec<u8>;
    Region: Region;
    Unit: ();
    Bool: bool;
    S8: i8;
    U16: u16;
    S16: i16;
    U32: u32;
    S32: i32;
    U64: u64;
    S64: i64;
    F32: f32;
    F64: f64;
    Char: char;
    Done: Result<(), ()>;
    DoneOrText: Result<(), String>;
    StringOrText: Result<String, String>;
    BytesOrText: Result<Vec<u8>, String>;
    RegionOrText: Result<Region, String>;
}
