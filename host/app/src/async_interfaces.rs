//! The package `tombolo:app-async`, and `tombolo:memory-async`: the waits of guests in async
//! functions.
//!
//! wasmtime drops the future of such a function if the guest cancels the call. So each function
//! only waits, and takes nothing: what a guest waited for it takes by a plain function.

use std::future::Future;
use std::pin::Pin;

use wasmtime::component::{Access, Accessor, Linker, Resource};

use super::channel::{ReceiverEnd, SenderEnd};
use super::interfaces::WitScopeError;
use super::scope::ScopeError;
use super::state::GuestState;
use tombolo::RegionError;
use tombolo_region::Charge;

const CHANNELS: &str = "tombolo:app-async/channels@0.1.0";
const SCOPES: &str = "tombolo:app-async/scopes@0.1.0";

pub(super) const ASYNC_LIFECYCLE: &str = "tombolo:app-async/lifecycle";

/// The host memory of one wait, in bytes: its future, and wasmtime's records of it.
const WAIT_BYTES: u64 = 2048;

type Waiting<'a, R> = Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>;

/// Adds the interfaces, if the engine can offer async functions. It can if a guest has any.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    if !linker.engine().get_concurrency_support() {
        return Ok(());
    }
    tombolo::add_async_to_linker(linker)?;
    let mut channels = linker.instance(CHANNELS)?;
    channels.func_wrap_concurrent("wait-writable", wait_writable)?;
    channels.func_wrap_concurrent("wait-readable", wait_readable)?;
    let mut scopes = linker.instance(SCOPES)?;
    scopes.func_wrap_concurrent("wait-published", wait_published)?;
    let mut lifecycle = linker.instance(&format!("{ASYNC_LIFECYCLE}@0.1.0"))?;
    lifecycle.func_wrap_concurrent("wait-stop", wait_stop)
}

/// Returns the state of a guest that may go on, and the charge for a wait.
fn charged<'a>(
    access: &'a mut Access<'_, GuestState>,
) -> wasmtime::Result<(&'a mut GuestState, Charge)> {
    let state = access.data_mut();
    state.regions.check()?;
    let charge = state.charge(WAIT_BYTES)?;
    Ok((state, charge))
}

fn wait_writable(
    accessor: &Accessor<GuestState>,
    (end,): (Resource<SenderEnd>,),
) -> Waiting<'_, ()> {
    Box::pin(async move {
        let (writable, _charge) = accessor.with(|mut access| {
            let (state, charge) = charged(&mut access)?;
            Ok::<_, wasmtime::Error>((state.table.get(&end)?.writable(), charge))
        })?;
        writable.ready().await;
        Ok(())
    })
}

fn wait_readable(
    accessor: &Accessor<GuestState>,
    (end,): (Resource<ReceiverEnd>,),
) -> Waiting<'_, ()> {
    Box::pin(async move {
        let (readable, _charge) = accessor.with(|mut access| {
            let (state, charge) = charged(&mut access)?;
            Ok::<_, wasmtime::Error>((state.table.get(&end)?.readable(), charge))
        })?;
        readable.ready().await;
        Ok(())
    })
}

type Published = (Result<(), WitScopeError>,);

fn wait_published(
    accessor: &Accessor<GuestState>,
    (scope, name): (String, String),
) -> Waiting<'_, Published> {
    Box::pin(async move {
        let awaited = accessor.with(|mut access| {
            let state = access.data_mut();
            state.regions.check()?;
            let charge = state.charge(WAIT_BYTES);
            let grants = &state.grants;
            let awaited = match charge {
                Ok(charge) => {
                    let awaited = grants.app.scopes.awaited(grants.guest, &scope, &name);
                    awaited.map(|awaited| (awaited, charge))
                }
                Err(exhausted) => Err(ScopeError::Region(RegionError::Exhausted(exhausted))),
            };
            Ok::<_, wasmtime::Error>(awaited)
        })?;
        Ok((match awaited {
            Ok((awaited, _charge)) => {
                awaited.ready().await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        },))
    })
}

fn wait_stop(accessor: &Accessor<GuestState>, (): ()) -> Waiting<'_, ()> {
    Box::pin(async move {
        let (signals, _charge) = accessor.with(|mut access| {
            let (state, charge) = charged(&mut access)?;
            Ok::<_, wasmtime::Error>((state.grants.app.signals.clone(), charge))
        })?;
        signals.stopping().await;
        Ok(())
    })
}
