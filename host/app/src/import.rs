//! The imports of a guest that other guests serve, as functions in its linker.

use std::sync::Arc;

use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};

use super::bytes;
use super::call::Target;
use super::call_stats::{CallEdge, CallStats};
use super::link::Link;
use super::slot_import;
use super::state::GuestState;
use super::table::GuestTable;
use tombolo_region::escape;

/// How the imports of an app's guests are defined.
pub(super) struct ImportWays<'a> {
    pub(super) table: &'a Arc<GuestTable>,
    pub(super) stats: &'a CallStats,
    /// Whether all calls pass dynamic values.
    pub(super) dynamic: bool,
}

impl ImportWays<'_> {
    /// Defines, in the importer's linker, the functions and resources that another guest
    /// exports.
    pub(super) fn define(
        &self,
        linker: &mut Linker<GuestState>,
        link: &Link,
        exporter: &Component,
    ) -> wasmtime::Result<()> {
        let (table, stats) = (self.table, self.stats);
        let missing = || wasmtime::Error::msg(format!("`{}` is planned but missing", link.export));
        let interface = exporter
            .get_export_index(None, &link.export)
            .ok_or_else(missing)?;
        let mut instance = linker.instance(&link.import)?;
        for (resource, kind) in &link.resources {
            let ty = ResourceType::host_dynamic(*kind);
            instance.resource(resource, ty, |mut store, rep| {
                store.data_mut().proxies.forget(rep)
            })?;
        }
        for function in &link.functions {
            let export = exporter
                .get_export_index(Some(&interface), &function.name)
                .ok_or_else(missing)?;
            let name = format!("{}.{}", escape(&link.export), function.name);
            let name: Arc<str> = name.into();
            let counter = stats.add(CallEdge {
                caller: link.importer,
                callee: link.exporter,
                function: name.clone(),
            });
            let guests = (table.entry(link.importer), table.entry(link.exporter));
            let target = Target::new(table, guests, function, export, name, counter);
            let target = Arc::new(target);
            if function.ty.async_() {
                define_async(&mut instance, &function.name, target)?;
                continue;
            }
            let typed = !table.entry(link.exporter).template.tasks;
            if typed && bytes::define(&mut instance, &function.name, &function.ty, &target)? {
                continue;
            }
            if typed && !self.dynamic && slot_import::define(&mut instance, function, &target)? {
                continue;
            }
            instance.func_new_async(&function.name, move |store, _, params, results| {
                let target = target.clone();
                Box::new(async move {
                    let call = async |_| target.call(store, params, results).await;
                    target.watched(call).await
                })
            })?;
        }
        Ok(())
    }
}

/// Defines an async function.
fn define_async(
    instance: &mut LinkerInstance<'_, GuestState>,
    name: &str,
    target: Arc<Target>,
) -> wasmtime::Result<()> {
    instance.func_new_concurrent(name, move |accessor, _, params, results| {
        let target = target.clone();
        Box::pin(async move {
            let call = async |_| target.call_awaited(accessor, params, results).await;
            target.watched(call).await
        })
    })
}
