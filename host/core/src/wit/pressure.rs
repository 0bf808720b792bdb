//! The interface `pressure`.

use wasmtime::component::{Linker, Resource, ResourceTable, ResourceType};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi_io::IoView;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

use super::bindings::with_wasi::tombolo::memory::pressure as wit;
use super::getter::{Both, Views, WasiGetter};
use super::watch::Watch;
use crate::ctx::{RegionCtx, RegionView};
use crate::guest::guest_in;
use crate::host::RegionHost;
use crate::pressure::Level;

const INTERFACE: &str = "tombolo:memory/pressure@0.1.0";

/// Adds the interface `tombolo:memory/pressure` to a linker, by which guests learn of memory
/// pressure: of [`RegionHost::pressure`] of the context's host.
///
/// It is separate from [`add_to_linker`](crate::add_to_linker) because guests wait by
/// `wasi:io/poll`, with pollables in WASI's table. So the store's data must have WASI's context as
/// well, and the linker WASI's interfaces.
///
/// ```
/// use tombolo::{RegionCtx, RegionView};
/// use wasmtime::component::{Linker, ResourceTable};
/// use wasmtime::{Config, Engine};
/// use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
/// use wasmtime_wasi_io::IoView;
///
/// struct State {
///     regions: RegionCtx,
///     wasi: WasiCtx,
///     table: ResourceTable,
/// }
/// # impl RegionView for State {
/// #     fn region_ctx(&mut self) -> &mut RegionCtx { &mut self.regions }
/// # }
/// # impl WasiView for State {
/// #     fn ctx(&mut self) -> WasiCtxView<'_> {
/// #         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
/// #     }
/// # }
/// // ... `impl RegionView`, `impl WasiView` ...
///
/// impl IoView for State {
///     fn table(&mut self) -> &mut ResourceTable { &mut self.table }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::new();
/// tombolo::prepare(&mut config)?;
/// let engine = Engine::new(&config)?;
/// let mut linker: Linker<State> = Linker::new(&engine);
/// wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
/// tombolo::add_to_linker(&mut linker)?;
/// tombolo::add_pressure_to_linker(&mut linker)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the linker has it already.
pub fn add_pressure_to_linker<T: RegionView + IoView>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    add(linker, Views)
}

/// Adds the interface as [`add_pressure_to_linker`] does, for store data of any type. The getter
/// returns the context of the guest that the linker is for, and WASI's table.
///
/// # Errors
///
/// If the linker has it already.
pub fn add_pressure_to_linker_with<T, G>(linker: &mut Linker<T>, getter: G) -> wasmtime::Result<()>
where
    T: 'static,
    G: Fn(&mut T) -> (&mut RegionCtx, &mut ResourceTable) + Clone + Send + Sync + 'static,
{
    add(linker, Both(getter))
}

fn add<T: 'static>(linker: &mut Linker<T>, getter: impl WasiGetter<T>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(INTERFACE)?;
    let watch = ResourceType::host::<Watch>();
    let get = getter.clone();
    instance.resource("watch", watch, move |mut store, rep| {
        let watch = Resource::<Watch>::new_own(rep);
        get.table(store.data_mut()).delete(watch)?;
        Ok(())
    })?;
    let get = getter.clone();
    instance.func_wrap(
        "current",
        move |mut store: StoreContextMut<'_, T>, (): ()| {
            let (host, _) = parts(&mut store, &get)?;
            Ok((wit::Level::from(host.pressure()),))
        },
    )?;
    let get = getter.clone();
    instance.func_wrap(
        "[constructor]watch",
        move |mut store: StoreContextMut<'_, T>, (): ()| {
            let (host, table) = parts(&mut store, &get)?;
            Ok((table.push(Watch::new(host))?,))
        },
    )?;
    let get = getter.clone();
    instance.func_wrap(
        "[method]watch.level",
        move |mut store: StoreContextMut<'_, T>, (watch,): (Resource<Watch>,)| {
            let (_, table) = parts(&mut store, &get)?;
            Ok((wit::Level::from(table.get(&watch)?.tell()),))
        },
    )?;
    instance.func_wrap(
        "[method]watch.subscribe",
        move |mut store: StoreContextMut<'_, T>, (watch,): (Resource<Watch>,)| {
            let (_, table) = parts(&mut store, &getter)?;
            Ok((watch_pollable(table, &watch)?,))
        },
    )
}

/// Returns the host, and WASI's table, if the guest may go on.
fn parts<'a, T: 'static>(
    store: &'a mut StoreContextMut<'_, T>,
    getter: &impl WasiGetter<T>,
) -> wasmtime::Result<(RegionHost, &'a mut ResourceTable)> {
    let mut guest = guest_in(store.as_context_mut(), |data: &mut T| {
        getter.region_ctx(data)
    });
    let (_, ctx) = guest.bound();
    ctx.check()?;
    let host = ctx.host().clone();
    Ok((host, getter.table(store.data_mut())))
}

fn watch_pollable(
    table: &mut ResourceTable,
    watch: &Resource<Watch>,
) -> wasmtime::Result<Resource<DynPollable>> {
    let watch = table.get(watch)?.clone();
    let watch = table.push(watch)?;
    subscribe(table, watch)
}

impl From<Level> for wit::Level {
    fn from(level: Level) -> wit::Level {
        match level {
            Level::Normal => wit::Level::Normal,
            Level::Moderate => wit::Level::Moderate,
            Level::Critical => wit::Level::Critical,
        }
    }
}
