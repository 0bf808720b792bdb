//! Whether a component has async functions.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};

use super::visit;

/// Returns whether a component imports or exports async functions, streams or futures. Its tasks
/// run beside each other then.
pub(crate) fn has_tasks(engine: &Engine, component: &Component) -> bool {
    let ty = component.component_type();
    let is = |(_, item): (&str, ComponentItem)| item_has_tasks(engine, &item);
    ty.imports(engine).any(|(name, item)| is((name, item.ty)))
        || ty.exports(engine).any(|(name, item)| is((name, item.ty)))
}

fn item_has_tasks(engine: &Engine, item: &ComponentItem) -> bool {
    match item {
        ComponentItem::ComponentFunc(function) => is_task(function),
        ComponentItem::ComponentInstance(instance) => {
            let mut exports = instance.exports(engine);
            exports.any(|(_, item)| item_has_tasks(engine, &item.ty))
        }
        _ => false,
    }
}

fn is_task(function: &ComponentFunc) -> bool {
    let passes = |ty: &Type| matches!(ty, Type::Future(_) | Type::Stream(_) | Type::ErrorContext);
    function.async_() || visit::function(function, |ty, _| passes(ty).then_some(())).is_some()
}
