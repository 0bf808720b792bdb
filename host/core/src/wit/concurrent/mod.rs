//! The package `tombolo:memory-async`: the waits of `tombolo:memory` as async functions.
//!
//! wasmtime drops the future of such a function if the guest cancels the call. So each function
//! only waits: at any point it can be dropped, and has taken nothing. What a guest waited for it
//! takes afterwards, by the plain functions. Handles are looked up while the component model says
//! that the guest cannot drop them, which is for the length of the call.

mod pressure;
mod waits;

use wasmtime::component::Linker;

use crate::ctx::{RegionCtx, RegionView};

/// Adds the package `tombolo:memory-async` to a linker: the interfaces `waits` and `pressure`, in
/// which guests wait by async functions.
///
/// It is apart from [`add_to_linker`](crate::add_to_linker), which guests of this package need
/// too, because it needs an engine with concurrency: `Config::concurrency_support`. Such guests
/// must run on a tokio runtime with time. WASI is not needed.
///
/// ```
/// use tombolo::{RegionCtx, RegionView};
/// use wasmtime::component::Linker;
/// use wasmtime::{Config, Engine};
///
/// struct State {
///     regions: RegionCtx,
/// }
/// # impl RegionView for State {
/// #     fn region_ctx(&mut self) -> &mut RegionCtx { &mut self.regions }
/// # }
/// // ... `impl RegionView` ...
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::new();
/// tombolo::prepare(&mut config)?;
/// config.concurrency_support(true);
/// let engine = Engine::new(&config)?;
/// let mut linker: Linker<State> = Linker::new(&engine);
/// tombolo::add_to_linker(&mut linker)?;
/// tombolo::add_async_to_linker(&mut linker)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the engine has no concurrency, or the linker has the package already.
pub fn add_async_to_linker<T: RegionView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_async_to_linker_with(linker, T::region_ctx)
}

/// Adds the package as [`add_async_to_linker`] does, for store data of any type. The getter
/// returns the context of the guest that the linker is for.
///
/// # Errors
///
/// If the engine has no concurrency, or the linker has the package already.
pub fn add_async_to_linker_with<T, G>(linker: &mut Linker<T>, getter: G) -> wasmtime::Result<()>
where
    T: Send + 'static,
    G: Fn(&mut T) -> &mut RegionCtx + Clone + Send + Sync + 'static,
{
    waits::add_to_linker(linker, &getter)?;
    pressure::add_to_linker(linker, &getter)
}
