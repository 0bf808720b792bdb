//! The types of the crate `wash-runtime` that a plugin meets, with the same names and signatures.
//! The page of this example says what to do with this file.

use std::any::{Any, type_name};
use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use wasmtime::component::{Instance, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// The plugins of a component, by their ids.
pub type Plugins = HashMap<&'static str, Arc<dyn HostPlugin + Send + Sync>>;

/// An interface, from the module `wit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WitInterface {
    /// The namespace.
    pub namespace: String,
    /// The package.
    pub package: String,
    /// The interfaces of the package.
    pub interfaces: Vec<String>,
}

impl From<&str> for WitInterface {
    fn from(text: &str) -> WitInterface {
        let text = text.split('@').next().unwrap_or_default();
        let (namespace, rest) = text.split_once(':').unwrap_or_default();
        let (package, interfaces) = rest.split_once('/').unwrap_or((rest, ""));
        WitInterface {
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            interfaces: interfaces.split(',').map(str::to_owned).collect(),
        }
    }
}

/// The interfaces that a plugin provides and calls, from the module `wit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WitWorld {
    /// The interfaces that it provides.
    pub imports: HashSet<WitInterface>,
    /// The interfaces that it calls.
    pub exports: HashSet<WitInterface>,
}

/// The interfaces for which a plugin is bound, from the module `plugin`.
#[derive(Debug)]
pub struct WitInterfaces<'a> {
    inner: &'a HashSet<WitInterface>,
}

impl<'a> WitInterfaces<'a> {
    /// Creates a set.
    pub fn new(inner: &'a HashSet<WitInterface>) -> Self {
        Self { inner }
    }

    /// Returns a package with these interfaces.
    pub fn get(
        &self,
        namespace: &str,
        package: &str,
        interfaces: &[&str],
    ) -> Option<&WitInterface> {
        self.inner.iter().find(|it| {
            it.namespace == namespace
                && it.package == package
                && interfaces
                    .iter()
                    .all(|name| it.interfaces.iter().any(|own| own == name))
        })
    }

    /// Returns whether there is a package with these interfaces.
    pub fn contains(&self, namespace: &str, package: &str, interfaces: &[&str]) -> bool {
        self.get(namespace, package, interfaces).is_some()
    }
}

/// A plugin of the host, from the module `plugin`.
#[async_trait::async_trait]
pub trait HostPlugin: Any + Send + Sync + 'static {
    /// Returns the id of the plugin.
    fn id(&self) -> &'static str;

    /// Returns what the plugin provides and calls.
    fn world(&self) -> WitWorld;

    /// Starts the plugin.
    ///
    /// # Errors
    ///
    /// As the plugin's.
    async fn start(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Adds the plugin to a component.
    ///
    /// # Errors
    ///
    /// As the plugin's.
    async fn on_workload_item_bind<'a>(
        &self,
        _item: &mut WorkloadItem<'a>,
        _interfaces: WitInterfaces<'_>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    /// Forgets a workload.
    ///
    /// # Errors
    ///
    /// As the plugin's.
    async fn on_workload_unbind(
        &self,
        _workload_id: &str,
        _interfaces: WitInterfaces<'_>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    /// Stops the plugin.
    ///
    /// # Errors
    ///
    /// As the plugin's.
    async fn stop(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A component of a workload, from the module `engine::workload`.
pub struct WorkloadMetadata {
    id: Arc<str>,
    workload_id: Arc<str>,
    linker: Linker<SharedCtx>,
    plugins: Option<Plugins>,
}

impl WorkloadMetadata {
    /// Creates a component with an empty linker.
    pub fn new(
        workload_id: impl Into<Arc<str>>,
        id: impl Into<Arc<str>>,
        linker: Linker<SharedCtx>,
    ) -> WorkloadMetadata {
        WorkloadMetadata {
            id: id.into(),
            workload_id: workload_id.into(),
            linker,
            plugins: None,
        }
    }

    /// Returns the id of the component.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the id of its workload.
    pub fn workload_id(&self) -> &str {
        &self.workload_id
    }

    /// Returns its linker.
    pub fn linker(&mut self) -> &mut Linker<SharedCtx> {
        &mut self.linker
    }

    /// Returns its plugins.
    pub fn plugins(&self) -> &Option<Plugins> {
        &self.plugins
    }

    /// Adds a plugin.
    pub fn add_plugin(&mut self, id: &'static str, plugin: Arc<dyn HostPlugin + Send + Sync>) {
        self.plugins.get_or_insert_default().insert(id, plugin);
    }
}

/// A component that serves requests, from the module `engine::workload`.
pub struct WorkloadComponent {
    /// The parts that all kinds of components have.
    pub metadata: WorkloadMetadata,
}

/// A component that runs on, from the module `engine::workload`.
pub struct WorkloadService {
    /// The parts that all kinds of components have.
    pub metadata: WorkloadMetadata,
}

/// A part of a workload, from the module `engine::workload`.
pub enum WorkloadItem<'a> {
    /// A component that serves requests.
    Component(&'a mut WorkloadComponent),
    /// A component that runs on.
    Service(&'a mut WorkloadService),
}

impl Deref for WorkloadItem<'_> {
    type Target = WorkloadMetadata;

    fn deref(&self) -> &WorkloadMetadata {
        match self {
            WorkloadItem::Component(component) => &component.metadata,
            WorkloadItem::Service(service) => &service.metadata,
        }
    }
}

impl DerefMut for WorkloadItem<'_> {
    fn deref_mut(&mut self) -> &mut WorkloadMetadata {
        match self {
            WorkloadItem::Component(component) => &mut component.metadata,
            WorkloadItem::Service(service) => &mut service.metadata,
        }
    }
}

/// The context of a component in a store, from the module `engine::ctx`.
pub struct Ctx {
    /// The id of the context.
    pub id: Arc<str>,
    /// The id that all contexts of a store share.
    pub store_id: Arc<str>,
    /// The id of the component.
    pub component_id: Arc<str>,
    /// The id of its workload.
    pub workload_id: Arc<str>,
    /// WASI.
    pub ctx: WasiCtx,
    plugins: HashMap<&'static str, Arc<dyn Any + Send + Sync>>,
}

impl Ctx {
    /// Creates a context.
    pub fn new(
        store_id: impl Into<Arc<str>>,
        workload_id: impl Into<Arc<str>>,
        component_id: impl Into<Arc<str>>,
    ) -> Ctx {
        let component_id = component_id.into();
        Ctx {
            id: component_id.clone(),
            store_id: store_id.into(),
            component_id,
            workload_id: workload_id.into(),
            ctx: WasiCtx::builder().build(),
            plugins: HashMap::new(),
        }
    }

    /// Returns a plugin.
    ///
    /// # Errors
    ///
    /// If there is none of this id and type.
    pub fn try_get_plugin<T: HostPlugin + 'static>(&self, id: &str) -> wasmtime::Result<Arc<T>> {
        let plugin = self.plugins.get(id).cloned();
        let plugin = plugin.and_then(|plugin| plugin.downcast::<T>().ok());
        plugin.ok_or_else(|| wasmtime::format_err!("no plugin {id} of type {}", type_name::<T>()))
    }
}

/// The data of a store, from the module `engine::ctx`.
pub struct SharedCtx {
    /// The context of the component that runs.
    pub active_ctx: Ctx,
    /// The resources of all components.
    pub table: ResourceTable,
    /// The contexts of the other components.
    pub contexts: HashMap<Arc<str>, Ctx>,
    /// The instances of linked components.
    pub exporter_instances: HashMap<Arc<str>, Instance>,
}

impl SharedCtx {
    /// Creates the data of a store.
    pub fn new(context: Ctx) -> SharedCtx {
        SharedCtx {
            active_ctx: context,
            table: ResourceTable::new(),
            contexts: HashMap::new(),
            exporter_instances: HashMap::new(),
        }
    }

    /// Makes the context of a component the active one.
    ///
    /// # Errors
    ///
    /// If there is no such component.
    pub fn set_active_ctx(&mut self, id: &Arc<str>) -> wasmtime::Result<()> {
        if *id == self.active_ctx.component_id {
            return Ok(());
        }
        let Some(ctx) = self.contexts.remove(id) else {
            wasmtime::bail!("there is no context of component {id}");
        };
        let before = std::mem::replace(&mut self.active_ctx, ctx);
        self.contexts.insert(before.component_id.clone(), before);
        Ok(())
    }
}

impl WasiView for SharedCtx {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.active_ctx.ctx,
            table: &mut self.table,
        }
    }
}
