//! The interface `waits`, registered by hand, because it takes regions from Tombolo's table and
//! puts pollables into WASI's.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::{IoView, async_trait};

use super::answer;
use super::bindings::HostFailure;
use super::windows::WitAccess;
use crate::ctx::RegionView;
use crate::error::RegionError;
use crate::host::{Region, WindowWaiter};
use crate::sys::StoreId;
use tombolo_region::Span;

const INTERFACE: &str = "tombolo:memory/waits@0.1.0";

type WaitArgs = (Resource<Region>, u64, u64, WitAccess);

/// Adds the interface `tombolo:memory/waits` to a linker, by which guests wait for windows.
///
/// It is separate from [`add_to_linker`](crate::add_to_linker) for the same reason as
/// [`add_pressure_to_linker`](crate::add_pressure_to_linker): guests wait by `wasi:io/poll`. They
/// must run on a tokio runtime with time.
///
/// # Errors
///
/// If the linker has it already.
pub fn add_waits_to_linker<T: RegionView + IoView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(INTERFACE)?;
    instance.func_wrap(
        "subscribe",
        |store: StoreContextMut<'_, T>, args: WaitArgs| answer(wait(store, args)),
    )
}

fn wait<T: RegionView + IoView>(
    mut store: StoreContextMut<'_, T>,
    (region, offset, length, access): WaitArgs,
) -> Result<Resource<DynPollable>, HostFailure> {
    let id = StoreId::of(&store);
    let state = store.data_mut();
    let ctx = state.region_ctx();
    ctx.bind(id);
    ctx.check().map_err(wasmtime::Error::from)?;
    let region = ctx
        .region_table
        .get(&region)
        .map_err(wasmtime::Error::from)?;
    let access = access.of(id, ctx)?;
    let span = Span::of_window(offset, length, region.size()).map_err(RegionError::from)?;
    let waiting = WindowWaiter::new(region, span, access)?;
    let table = state.table();
    let waiting = table.push(waiting).map_err(wasmtime::Error::from)?;
    Ok(subscribe(table, waiting)?)
}

#[async_trait]
impl Pollable for WindowWaiter {
    async fn ready(&mut self) {
        WindowWaiter::ready(self).await;
    }
}
