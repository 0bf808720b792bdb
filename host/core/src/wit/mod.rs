//! The WIT interfaces, as wasmtime host functions.
//!
//! | file | content |
//! |---|---|
//! | `bindings` | generated from `wit/memory.wit` and `wit/pressure.wit` |
//! | `pressure` | the interface `pressure`, for stores that have WASI |
//! | `watch` | the resource of the interface `pressure` |
//! | `regions` | the interface `regions` |
//! | `windows` | the interface `windows`, registered by hand |
//! | `pins` | the interface `pins`, registered by hand |
//! | `waits` | the interface `waits`, registered by hand, for stores that have WASI |

pub(crate) mod bindings;
pub(crate) mod pins;
#[cfg(feature = "wasi-io")]
mod pressure;
mod regions;
#[cfg(feature = "wasi-io")]
mod waits;
#[cfg(feature = "wasi-io")]
pub(crate) mod watch;
pub(crate) mod windows;

#[cfg(feature = "wasi-io")]
pub use pressure::add_pressure_to_linker;
#[cfg(feature = "wasi-io")]
pub use waits::add_waits_to_linker;

use wasmtime::component::Linker;

use self::bindings::HostFailure;
use self::bindings::tombolo::memory::regions::ErrorCode;
use crate::ctx::{RegionCtx, RegionView};
use crate::sys::StoreId;

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
    bindings::tombolo::memory::regions::add_to_linker::<T, HasRegions>(linker, |data| {
        let store = StoreId::of_data(data);
        let ctx = data.region_ctx();
        ctx.bind(store);
        ctx
    })?;
    windows::add_to_linker(linker)?;
    pins::add_to_linker(linker)
}

/// Separates refusals, which the guest gets as values, from traps.
fn answer<R>(result: Result<R, HostFailure>) -> wasmtime::Result<(Result<R, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(HostFailure::Code(code)) => Ok((Err(code),)),
        Err(HostFailure::Trap(error)) => Err(error),
    }
}

struct HasRegions;

impl wasmtime::component::HasData for HasRegions {
    type Data<'a> = &'a mut RegionCtx;
}
