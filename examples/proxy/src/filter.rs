//! The second guest, and the calls to it.

use std::sync::Arc;

use tombolo::{PackError, Parcel, RegionHost};
use wasmtime::component::{Component, InstancePre, Linker, Val};
use wasmtime::{Engine, StoreContextMut};

use crate::proxy::{State, linker, new_store};

const INTERFACE: &str = "tombolo-examples:proxy/filter";
const FUNCTIONS: [&str; 2] = ["count", "capitals"];

/// The guest that bodies are lent to. Each call has a new instance.
pub(crate) struct Filter {
    guest: InstancePre<State>,
    host: RegionHost,
}

impl Filter {
    pub(crate) fn new(engine: &Engine, wasm: &[u8], host: &RegionHost) -> anyhow::Result<Filter> {
        let component = Component::new(engine, wasm)?;
        Ok(Filter {
            guest: linker(engine)?.instantiate_pre(&component)?,
            host: host.clone(),
        })
    }

    /// Defines the functions of this guest in the linker of another one.
    pub(crate) fn link(self: Arc<Filter>, linker: &mut Linker<State>) -> anyhow::Result<()> {
        let mut instance = linker.instance(INTERFACE)?;
        for name in FUNCTIONS {
            let filter = self.clone();
            instance.func_new_async(name, move |store, _, params, results| {
                let filter = filter.clone();
                Box::new(async move {
                    results[0] = filter.call(store, name, params).await?;
                    Ok(())
                })
            })?;
        }
        Ok(())
    }

    /// Calls a function, and lends it the regions among the parameters. If this is dropped, so are
    /// both stores, with all windows.
    async fn call(
        &self,
        mut caller: StoreContextMut<'_, State>,
        name: &str,
        params: &[Val],
    ) -> wasmtime::Result<Val> {
        let engine = self.guest.engine();
        let mut store = new_store(engine, self.host.context("filter").build());
        let to = store.data().regions.recipient();
        let (parcel, lending) = match Parcel::pack(&mut caller, params.to_vec(), &to) {
            Ok(packed) => packed,
            Err(PackError::Fatal(error)) => return Err(error),
            Err(refused) => return Ok(failed(&refused.for_sender())),
        };
        let (params, borrowed) = parcel.unpack(&mut store)?;
        let mut results = [Val::Bool(false)];
        let called = async {
            let instance = self.guest.instantiate_async(&mut store).await?;
            let interface = instance.get_export_index(&mut store, None, INTERFACE);
            let function = instance.get_export_index(&mut store, interface.as_ref(), name);
            let function = function.and_then(|it| instance.get_func(&mut store, it));
            let Some(function) = function else {
                wasmtime::bail!("the filter has no function `{name}`");
            };
            function.call_async(&mut store, &params, &mut results).await
        };
        let called = called.await;
        let ended = borrowed.end(&mut store, called);
        // Its windows end with it, even if it failed.
        drop(store);
        lending.over().await;
        lending.end(&mut caller)?;
        let [result] = results;
        Ok(ended.map_or_else(
            |error| {
                tracing::warn!("{error:#}");
                failed("the filter failed")
            },
            |()| result,
        ))
    }
}

/// Returns a failure as the functions do.
fn failed(text: &str) -> Val {
    Val::Result(Err(Some(Box::new(Val::String(text.to_owned())))))
}
