//! The WIT interfaces, as wasmtime host functions.
//!
//! | file | content |
//! |---|---|
//! | `bindings` | generated from `wit/memory.wit` and `wit/pressure.wit` |
//! | `getter` | the ways from a store's data to the parts that the interfaces need |
//! | `pressure` | the interface `pressure`, for stores that have WASI |
//! | `streams` | the interface `streams`, registered by hand, for stores that have WASI |
//! | `watch` | the resource of the interface `pressure` |
//! | `regions` | the interface `regions` |
//! | `windows` | the interface `windows`, registered by hand |
//! | `pins` | the interface `pins`, registered by hand |
//! | `waits` | the interface `waits`, registered by hand, for stores that have WASI |
//! | `concurrent` | the package `tombolo:memory-async`, for engines with concurrency |

pub(crate) mod bindings;
#[cfg(feature = "component-model-async")]
mod concurrent;
mod getter;
pub(crate) mod pins;
#[cfg(feature = "wasi-io")]
mod pressure;
mod regions;
#[cfg(feature = "wasi-io")]
mod streams;
#[cfg(feature = "wasi-io")]
mod waits;
#[cfg(feature = "wasi-io")]
pub(crate) mod watch;
pub(crate) mod windows;

#[cfg(feature = "component-model-async")]
pub use concurrent::{add_async_to_linker, add_async_to_linker_with};
#[cfg(feature = "wasi-io")]
pub use pressure::{add_pressure_to_linker, add_pressure_to_linker_with};
#[cfg(feature = "wasi-io")]
pub use streams::{add_streams_to_linker, add_streams_to_linker_with};
#[cfg(feature = "wasi-io")]
pub use waits::{add_waits_to_linker, add_waits_to_linker_with};

use wasmtime::component::Linker;

use self::bindings::HostFailure;
use self::bindings::tombolo::memory::regions::ErrorCode;
use crate::ctx::{RegionCtx, RegionView};

/// Adds the interfaces `tombolo:memory/regions`, `windows` and `pins` to a linker. They are
/// synchronous, and work in synchronous and asynchronous stores.
///
/// Guests then import them like any WASI interface. Bindings of a world of your own that mentions
/// `region` use the types of [`regions`](crate::regions).
///
/// ```
/// use tombolo::{RegionHost, RegionCtx, RegionView};
/// use wasmtime::component::Linker;
/// use wasmtime::{Config, Engine, Store};
///
/// struct State {
///     regions: RegionCtx,
///     // ... and other data of the store ...
/// }
///
/// impl RegionView for State {
///     fn region_ctx(&mut self) -> &mut RegionCtx {
///         &mut self.regions
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::new();
/// tombolo::prepare(&mut config)?;
/// let engine = Engine::new(&config)?;
///
/// let mut linker: Linker<State> = Linker::new(&engine);
/// tombolo::add_to_linker(&mut linker)?;
///
/// let host = RegionHost::new();
/// let regions = host.context("the guest's name").build();
/// let store = Store::new(&engine, State { regions });
/// # drop(store);
/// # Ok(())
/// # }
/// ```
///
/// Do not call `Linker::define_unknown_imports_as_traps` afterwards: it would take the type
/// `region` of `windows` for another one.
///
/// # Errors
///
/// If the linker has them already.
pub fn add_to_linker<T: RegionView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_to_linker_with(linker, T::region_ctx)
}

/// Adds the interfaces as [`add_to_linker`] does, for store data of any type. The getter returns
/// the context of the guest that the linker is for.
///
/// The type of the data can be one of another crate, and generic. A store can have several guests,
/// each with a linker of its own. A getter may capture which of them it returns:
///
/// ```
/// use tombolo::RegionCtx;
/// use wasmtime::component::Linker;
/// # use wasmtime::{Config, Engine};
///
/// struct State {
///     guests: Vec<RegionCtx>,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut config = Config::new();
/// # tombolo::prepare(&mut config)?;
/// # let engine = Engine::new(&config)?;
/// for number in 0..3 {
///     let mut linker: Linker<State> = Linker::new(&engine);
///     tombolo::add_to_linker_with(&mut linker, move |state| &mut state.guests[number])?;
///     // ... instantiates one component in the store ...
/// }
/// # Ok(())
/// # }
/// ```
///
/// Everything else takes such a guest by [`guest_in`](crate::guest_in).
///
/// # Errors
///
/// If the linker has them already.
pub fn add_to_linker_with<T, G>(linker: &mut Linker<T>, getter: G) -> wasmtime::Result<()>
where
    T: 'static,
    G: Fn(&mut T) -> &mut RegionCtx + Clone + Send + Sync + 'static,
{
    regions::add_to_linker(linker, &getter)?;
    windows::add_to_linker(linker, &getter)?;
    pins::add_to_linker(linker, &getter)
}

/// Separates refusals, which the guest gets as values, from traps.
fn answer<R>(result: Result<R, HostFailure>) -> wasmtime::Result<(Result<R, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(HostFailure::Code(code)) => Ok((Err(code),)),
        Err(HostFailure::Trap(error)) => Err(error),
    }
}
