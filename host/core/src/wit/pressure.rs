//! The interface `pressure`.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi_io::IoView;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

use super::bindings::with_wasi::tombolo::memory::pressure as wit;
use super::watch::Watch;
use crate::ctx::{RegionView, WriteViolation};
use crate::host::RegionHost;
use crate::pressure::Level;
use crate::sys::StoreId;

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
    wit::add_to_linker::<T, HasPressure>(linker, |data| {
        let store = StoreId::of_data(data);
        let regions = data.region_ctx();
        regions.bind(store);
        let (host, checked) = (regions.host().clone(), regions.check());
        PressureView {
            host,
            checked,
            table: data.table(),
        }
    })
}

struct HasPressure;

impl HasData for HasPressure {
    type Data<'a> = PressureView<'a>;
}

/// The parts of a store's data that the interface needs.
struct PressureView<'a> {
    host: RegionHost,
    /// The result of the check of whether the guest may go on.
    checked: Result<(), WriteViolation>,
    table: &'a mut ResourceTable,
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

impl wit::Host for PressureView<'_> {
    fn current(&mut self) -> wasmtime::Result<wit::Level> {
        self.checked.clone()?;
        Ok(self.host.pressure().into())
    }
}

impl wit::HostWatch for PressureView<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<Watch>> {
        self.checked.clone()?;
        Ok(self.table.push(Watch::new(self.host.clone()))?)
    }

    fn level(&mut self, watch: Resource<Watch>) -> wasmtime::Result<wit::Level> {
        self.checked.clone()?;
        Ok(self.table.get(&watch)?.tell().into())
    }

    fn subscribe(&mut self, watch: Resource<Watch>) -> wasmtime::Result<Resource<DynPollable>> {
        self.checked.clone()?;
        let watch = self.table.get(&watch)?.clone();
        let watch = self.table.push(watch)?;
        subscribe(self.table, watch)
    }

    fn drop(&mut self, watch: Resource<Watch>) -> wasmtime::Result<()> {
        self.table.delete(watch)?;
        Ok(())
    }
}
