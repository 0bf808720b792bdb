//! The interface `waits`, registered by hand, because it takes regions from Tombolo's table and
//! puts pollables into WASI's.

use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::{IoView, async_trait};

use super::answer;
use super::bindings::HostFailure;
use super::getter::{Both, Views, WasiGetter};
use super::windows::WitAccess;
use crate::ctx::{RegionCtx, RegionView};
use crate::error::RegionError;
use crate::guest::guest_in;
use crate::host::{Region, WindowWaiter};
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
    add(linker, Views)
}

/// Adds the interface as [`add_waits_to_linker`] does, for store data of any type. The getter
/// returns the context of the guest that the linker is for, and WASI's table.
///
/// # Errors
///
/// If the linker has it already.
pub fn add_waits_to_linker_with<T, G>(linker: &mut Linker<T>, getter: G) -> wasmtime::Result<()>
where
    T: 'static,
    G: Fn(&mut T) -> (&mut RegionCtx, &mut ResourceTable) + Clone + Send + Sync + 'static,
{
    add(linker, Both(getter))
}

fn add<T: 'static>(linker: &mut Linker<T>, getter: impl WasiGetter<T>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(INTERFACE)?;
    instance.func_wrap(
        "subscribe",
        move |store: StoreContextMut<'_, T>, args: WaitArgs| answer(wait(store, &getter, args)),
    )
}

fn wait<T: 'static>(
    mut store: StoreContextMut<'_, T>,
    getter: &impl WasiGetter<T>,
    (region, offset, length, access): WaitArgs,
) -> Result<Resource<DynPollable>, HostFailure> {
    let mut guest = guest_in(store.as_context_mut(), |data: &mut T| {
        getter.region_ctx(data)
    });
    let (id, ctx) = guest.bound();
    ctx.check().map_err(wasmtime::Error::from)?;
    let region = ctx
        .region_table
        .get(&region)
        .map_err(wasmtime::Error::from)?;
    let access = access.of(id, ctx)?;
    let span = Span::of_window(offset, length, region.size()).map_err(RegionError::from)?;
    let waiting = WindowWaiter::new(region, span, access)?;
    let table = getter.table(store.data_mut());
    let waiting = table.push(waiting).map_err(wasmtime::Error::from)?;
    Ok(subscribe(table, waiting)?)
}

#[async_trait]
impl Pollable for WindowWaiter {
    async fn ready(&mut self) {
        WindowWaiter::ready(self).await;
    }
}
