//! The interface `streams`, registered by hand, because it takes regions from Tombolo's table and
//! streams from WASI's.

use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceTable};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi_io::IoView;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, Error, StreamError};

use super::bindings::tombolo::memory::regions::ErrorCode;
use super::getter::{Both, Views, WasiGetter};
use crate::ctx::{RegionCtx, RegionView};
use crate::error::RegionError;
use crate::guest::guest_in;
use crate::host::Region;

const INTERFACE: &str = "tombolo:memory/streams@0.1.0";

type ReadArgs = (Resource<DynInputStream>, Resource<Region>, u64, u64);
type WriteArgs = (Resource<DynOutputStream>, Resource<Region>, u64, u64);

/// The variant `failure` of the interface.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum WitFailure {
    #[component(name = "closed")]
    Closed,
    #[component(name = "failed")]
    Failed(Resource<Error>),
    #[component(name = "region")]
    Region(ErrorCode),
}

/// A reason why no bytes passed.
enum Failure {
    Stream(StreamError),
    Region(RegionError),
    /// The guest cannot go on.
    Trap(wasmtime::Error),
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Failure {
        Failure::Stream(error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(error)
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Failure {
        Failure::Trap(error)
    }
}

/// Adds the interface `tombolo:memory/streams` to a linker. By it, guests read WASI's streams into
/// regions and write regions to them, bodies of `wasi:http` for example.
///
/// It is separate from [`add_to_linker`](crate::add_to_linker), because its streams are WASI's. Its
/// functions do not wait, and work in synchronous and asynchronous stores.
///
/// Bytes that a guest writes are passed on as `Bytes` that own a
/// [`ReadGuard`](crate::ReadGuard). So the region stays locked for reading until the consumer of the
/// stream has dropped them, even if the guest ends before. Limit the time that a client may take.
///
/// # Errors
///
/// If the linker has it already.
pub fn add_streams_to_linker<T: RegionView + IoView>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    add(linker, Views)
}

/// Adds the interface as [`add_streams_to_linker`] does, for store data of any type. The getter
/// returns the context of the guest that the linker is for, and WASI's table.
///
/// # Errors
///
/// If the linker has it already.
pub fn add_streams_to_linker_with<T, G>(linker: &mut Linker<T>, getter: G) -> wasmtime::Result<()>
where
    T: 'static,
    G: Fn(&mut T) -> (&mut RegionCtx, &mut ResourceTable) + Clone + Send + Sync + 'static,
{
    add(linker, Both(getter))
}

fn add<T: 'static>(linker: &mut Linker<T>, getter: impl WasiGetter<T>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(INTERFACE)?;
    let get = getter.clone();
    instance.func_wrap(
        "read-into",
        move |mut store: StoreContextMut<'_, T>, args: ReadArgs| {
            let read = read(&mut store, &get, args);
            answer(get.table(store.data_mut()), read)
        },
    )?;
    instance.func_wrap(
        "write-from",
        move |mut store: StoreContextMut<'_, T>, args: WriteArgs| {
            let written = write(&mut store, &getter, args);
            answer(getter.table(store.data_mut()), written)
        },
    )
}

/// Lets the region of a handle act, for the guest of the store in hand.
fn with_region<T: 'static, R>(
    store: &mut StoreContextMut<'_, T>,
    getter: &impl WasiGetter<T>,
    region: &Resource<Region>,
    act: impl FnOnce(&Region) -> Result<R, RegionError>,
) -> Result<R, Failure> {
    let mut guest = guest_in(store.as_context_mut(), |data: &mut T| {
        getter.region_ctx(data)
    });
    let (_, ctx) = guest.bound();
    ctx.check().map_err(wasmtime::Error::from)?;
    let region = ctx.region_table.get(region);
    Ok(act(region.map_err(wasmtime::Error::from)?)?)
}

fn read<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    getter: &impl WasiGetter<T>,
    (from, region, offset, most): ReadArgs,
) -> Result<u64, Failure> {
    // Locked first, so that a refusal takes no bytes from the stream.
    let copy = with_region(store, getter, &region, |region| {
        region.begin_copy(offset, most)
    })?;
    let Some(copy) = copy else {
        return Ok(0);
    };
    let stream = getter.table(store.data_mut()).get_mut(&from);
    let bytes = stream.map_err(wasmtime::Error::from)?.read(copy.most())?;
    if bytes.len() > copy.most() {
        return Err(StreamError::trap("the stream returned more bytes than asked for").into());
    }
    Ok(copy.finish(&bytes)?)
}

fn write<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    getter: &impl WasiGetter<T>,
    (to, region, offset, length): WriteArgs,
) -> Result<u64, Failure> {
    let stream = getter.table(store.data_mut()).get_mut(&to);
    let permit = stream.map_err(wasmtime::Error::from)?.check_write()?;
    let bytes = with_region(store, getter, &region, |region| {
        region.outgoing(offset, length, permit as u64)
    })?;
    let taken = bytes.len() as u64;
    if taken > 0 {
        let stream = getter.table(store.data_mut()).get_mut(&to);
        stream.map_err(wasmtime::Error::from)?.write(bytes)?;
    }
    Ok(taken)
}

/// Separates failures, which the guest gets as values, from traps.
fn answer(
    table: &mut ResourceTable,
    result: Result<u64, Failure>,
) -> wasmtime::Result<(Result<u64, WitFailure>,)> {
    let failure = match result {
        Ok(count) => return Ok((Ok(count),)),
        Err(Failure::Region(error)) => WitFailure::Region(error.into()),
        Err(Failure::Stream(StreamError::Closed)) => WitFailure::Closed,
        Err(Failure::Stream(StreamError::LastOperationFailed(error))) => {
            WitFailure::Failed(table.push(error)?)
        }
        Err(Failure::Stream(StreamError::Trap(error)) | Failure::Trap(error)) => return Err(error),
    };
    Ok((Err(failure),))
}
