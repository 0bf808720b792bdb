//! Tombolo as a factor of Spin: components of an app get the interfaces of `tombolo:memory`.
//!
//! The page of this example says what to change once Spin and Tombolo use one version of wasmtime.
#![forbid(unsafe_code)]

pub mod spin_factors;

use tombolo::{Limits, RegionCtx, RegionCtxBuilder, RegionHost};
use wasmtime::component::ResourceTable;

use crate::spin_factors::{
    ConfigureAppContext, Factor, FactorInstanceBuilder, InitContext, PrepareContext, RuntimeFactors,
};

/// A way to an instance's context and to the table of WASI.
type WithTable<S> = fn(&mut S) -> (&mut RegionCtx, &mut ResourceTable);

/// The factor. All apps of the runtime share the regions of its host, and its budget.
#[derive(Debug, Default)]
pub struct RegionsFactor {
    host: RegionHost,
}

impl RegionsFactor {
    /// Creates the factor for a host.
    #[must_use]
    pub fn new(host: RegionHost) -> RegionsFactor {
        RegionsFactor { host }
    }
}

/// The operator's configuration for an app.
#[derive(Clone, Debug, Default)]
pub struct RuntimeConfig {
    /// The limits of each instance.
    pub limits: Limits,
}

/// The factor's state for an app.
#[derive(Debug)]
pub struct AppState {
    limits: Limits,
}

/// The builder of the context of an instance. Factors that come later may change it.
#[derive(Debug)]
pub struct InstanceBuilder {
    context: RegionCtxBuilder,
}

impl InstanceBuilder {
    /// Sets what the instance may hold.
    pub fn limits(&mut self, limits: Limits) {
        self.context = self.context.clone().limits(limits);
    }
}

impl FactorInstanceBuilder for InstanceBuilder {
    type InstanceState = RegionCtx;

    fn build(self) -> anyhow::Result<RegionCtx> {
        Ok(self.context.build())
    }
}

impl Factor for RegionsFactor {
    type RuntimeConfig = RuntimeConfig;
    type AppState = AppState;
    type InstanceBuilder = InstanceBuilder;

    fn init<T: InitContext<Self>>(&mut self, ctx: &mut T) -> anyhow::Result<()> {
        if let Err(reason) = tombolo::is_prepared(ctx.linker().engine()) {
            tracing::warn!("components cannot map regions and work by copies: {reason}");
        }
        ctx.link_bindings(|linker, get| tombolo::add_to_linker_with(linker, get))?;
        // As a pointer, because the function's own type is not known to outlive the linker.
        let both: WithTable<T::StoreData> = T::get_data_with_table;
        tombolo::add_waits_to_linker_with(ctx.linker(), both)?;
        tombolo::add_pressure_to_linker_with(ctx.linker(), both)?;
        Ok(())
    }

    fn configure_app<T: RuntimeFactors>(
        &self,
        mut ctx: ConfigureAppContext<T, Self>,
    ) -> anyhow::Result<AppState> {
        let RuntimeConfig { limits } = ctx.take_runtime_config().unwrap_or_default();
        Ok(AppState { limits })
    }

    fn prepare<T: RuntimeFactors>(
        &self,
        ctx: PrepareContext<T, Self>,
    ) -> anyhow::Result<InstanceBuilder> {
        let limits = ctx.app_state().limits.clone();
        let context = self.host.context(ctx.app_component().id()).limits(limits);
        Ok(InstanceBuilder { context })
    }
}
