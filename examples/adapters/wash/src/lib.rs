//! Tombolo as a plugin of wash: components of a workload get the interfaces of `tombolo:memory`.
//!
//! The page of this example says what to change once wash and Tombolo use one version of wasmtime.
#![forbid(unsafe_code)]

pub mod wash_runtime;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tombolo::{Limits, Parcel, RegionCtx, RegionHost, guest_in};
use wasmtime::StoreContextMut;
use wasmtime::component::{Func, Resource, Val};

use crate::wash_runtime::{
    HostPlugin, SharedCtx, WitInterface, WitInterfaces, WitWorld, WorkloadItem,
};

/// The id of the plugin.
pub const ID: &str = "tombolo-memory";

/// The interfaces that the plugin provides.
const INTERFACES: &str = "tombolo:memory/regions,windows,pins@0.1.0";

/// The plugin. All workloads share the regions of its host, and its budget. A clone is the same
/// plugin.
#[derive(Clone)]
pub struct Regions(Arc<Inner>);

struct Inner {
    host: RegionHost,
    limits: Limits,
    /// The place of each context in the table of its store.
    places: Mutex<HashMap<Key, u32>>,
}

/// The ids of a store and of a component in it.
type Key = (Arc<str>, Arc<str>);

/// A context in the table of its store. It forgets its place when the store is dropped.
struct Placed {
    context: RegionCtx,
    key: Key,
    plugin: Arc<Inner>,
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.plugin.places().remove(&self.key);
    }
}

impl Inner {
    fn places(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Regions {
    /// Creates the plugin for a host. Each component of a store may hold as much as `limits` says.
    #[must_use]
    pub fn new(host: RegionHost, limits: Limits) -> Regions {
        Regions(Arc::new(Inner {
            host,
            limits,
            places: Mutex::default(),
        }))
    }

    /// Returns how many contexts there are in all stores.
    #[must_use]
    pub fn contexts(&self) -> usize {
        self.0.places().len()
    }

    /// Returns the context of a component in a store. The first call creates it.
    ///
    /// # Panics
    ///
    /// Panics if the table of the store is full, or if another plugin has taken the context out.
    pub fn context<'a>(
        &self,
        shared: &'a mut SharedCtx,
        component: &Arc<str>,
    ) -> &'a mut RegionCtx {
        let key = (shared.active_ctx.store_id.clone(), component.clone());
        let place = self.0.places().get(&key).copied();
        let place = place.unwrap_or_else(|| {
            let context = self.0.host.context(&**component);
            let placed = Placed {
                context: context.limits(self.0.limits.clone()).build(),
                key: key.clone(),
                plugin: self.0.clone(),
            };
            let place = shared.table.push(placed).expect("the table has room").rep();
            self.0.places().insert(key, place);
            place
        });
        let placed: &mut Placed = shared
            .table
            .get_mut(&Resource::new_borrow(place))
            .expect("nobody takes it out");
        &mut placed.context
    }

    /// Returns a way to the context of a component, for `guest_in` and for linkers.
    pub fn getter(
        &self,
        component: &Arc<str>,
    ) -> impl Fn(&mut SharedCtx) -> &mut RegionCtx + Clone + Send + Sync + use<> {
        let (plugin, component) = (self.clone(), component.clone());
        move |shared| plugin.context(shared, &component)
    }

    /// Calls a function that one component exports and another one of the store imports. Regions in
    /// the arguments are lent or moved to the callee, and those in the results move to the caller.
    /// wash calls this where it would call `call_async`.
    ///
    /// The store must be dropped if the future is: the call would run on within the next one.
    ///
    /// # Errors
    ///
    /// If a region may not be passed, or the callee traps. The store must not be entered again
    /// then.
    pub async fn call_linked(
        &self,
        mut store: StoreContextMut<'_, SharedCtx>,
        caller: &Arc<str>,
        callee: &Arc<str>,
        func: Func,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let to = self.context(store.data_mut(), callee).recipient();
        let back = self.context(store.data_mut(), caller).recipient();
        let lender = guest_in(&mut store, self.getter(caller));
        let (parcel, lending) = Parcel::pack(lender, params.to_vec(), &to)?;
        let mut borrower = guest_in(&mut store, self.getter(callee));
        let (params, borrowed) = parcel.unpack(&mut borrower)?;
        let called = func.call_async(borrower.store(), &params, results).await;
        // Results move before the lends end, and arrive afterwards.
        let packed = called.and_then(|()| {
            let packed = Parcel::pack(&mut borrower, results.to_vec(), &back);
            packed.map_err(Into::into)
        });
        let (returned, _) = borrowed.end(&mut borrower, packed)?;
        lending.end(&mut store)?;
        let (returned, _) = returned.unpack(guest_in(&mut store, self.getter(caller)))?;
        results.clone_from_slice(&returned);
        Ok(())
    }
}

#[async_trait::async_trait]
impl HostPlugin for Regions {
    fn id(&self) -> &'static str {
        ID
    }

    fn world(&self) -> WitWorld {
        WitWorld {
            imports: HashSet::from([WitInterface::from(INTERFACES)]),
            exports: HashSet::new(),
        }
    }

    async fn on_workload_item_bind<'a>(
        &self,
        item: &mut WorkloadItem<'a>,
        interfaces: WitInterfaces<'_>,
    ) -> anyhow::Result<()> {
        if !interfaces.contains("tombolo", "memory", &["regions"]) {
            return Ok(());
        }
        let component: Arc<str> = item.id().into();
        let linker = item.linker();
        if let Err(reason) = tombolo::is_prepared(linker.engine()) {
            tracing::warn!(%component, "it cannot map regions and works by copies: {reason}");
        }
        tombolo::add_to_linker_with(linker, self.getter(&component))?;
        Ok(())
    }
}
