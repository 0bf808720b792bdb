//! What a component's instances take of the host's memory, told from its binary
//! before anything is instantiated.
//!
//! wasmtime asks a `ResourceLimiter` before it makes a memory or a table, but not
//! before it makes the rest of an instance: its globals, imports, function
//! references and element segments. A module of a few bytes for each global can
//! be instantiated hundreds of times by a component, also through components
//! within it, so that the memory is a product. This pass computes that product,
//! in time that is linear in the binary.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ElementItems, ElementKind, Encoding, Imports, Instance, Parser,
    Payload, TypeRef,
};

/// Of each core instance: wasmtime's `Instance`, its entry in the store, and what
/// the allocator adds.
const INSTANCE: u64 = 1024;

/// Of each component instance: its table of handles, flags and the like.
const COMPONENT_INSTANCE: u64 = 512;

/// Of each canonical function: what compiled code calls it by, and its closure.
const CANONICAL: u64 = 128;

/// Of each imported function, table, memory or global, in each instance.
const IMPORT: u64 = 32;

/// Of each function that the module defines or imports: the reference to it that
/// tables and exports show. wasmtime leaves out those of functions that nothing
/// refers to; they are counted here all the same.
const FUNCTION: u64 = 32;

/// Of each global and tag.
const GLOBAL: u64 = 16;

/// Of each table and memory, without its elements and pages, which the limiter is
/// asked about.
const TABLE: u64 = 256;

/// Of each item of a passive element segment, which each instance evaluates.
const ELEMENT: u64 = 16;

/// Of each data or element segment.
const SEGMENT: u64 = 32;

/// What one instantiation takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes of the host's memory, without linear memories and table elements.
    pub(super) bytes: u64,
    /// Component instances, each of which has a table of handles.
    pub(super) components: u64,
}

impl Size {
    /// Of a module or a component that a component imports, or takes from an
    /// instance: that cannot be told.
    const UNKNOWN: Size = Size {
        bytes: u64::MAX,
        components: u64::MAX,
    };
}

/// Returns what the instances of a component take; `u64::MAX` bytes if that is too
/// much to count, or if it instantiates what it imports.
///
/// # Errors
///
/// If the binary is malformed. It is not validated here.
pub(super) fn instances(wasm: &[u8]) -> Result<Size, BinaryReaderError> {
    let mut frames = vec![Frame::default()];
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { encoding, .. } => frames.push(Frame {
                size: match encoding {
                    Encoding::Module => Size {
                        bytes: INSTANCE,
                        components: 0,
                    },
                    Encoding::Component => Size {
                        bytes: COMPONENT_INSTANCE,
                        components: 1,
                    },
                },
                encoding: Some(encoding),
                ..Frame::default()
            }),
            Payload::End(_) => {
                let (Some(done), Some(outer)) = (frames.pop(), frames.last_mut()) else {
                    break;
                };
                match done.encoding {
                    Some(Encoding::Module) => outer.modules.push(done.size),
                    _ => outer.components.push(done.size),
                }
            }
            payload => measure(&mut frames, payload)?,
        }
    }
    // One of the two is what the binary is.
    let whole = frames.pop().unwrap_or_default();
    let mut sizes = whole.components.into_iter().chain(whole.modules);
    Ok(sizes.next().unwrap_or_default())
}

/// A module or a component that is being read.
#[derive(Default)]
struct Frame {
    encoding: Option<Encoding>,
    /// What one instantiation of it takes.
    size: Size,
    /// What one instantiation takes of each core module in its index space.
    modules: Vec<Size>,
    /// The same for components.
    components: Vec<Size>,
}

impl Frame {
    fn add(&mut self, count: u64, each: u64) {
        let more = count.saturating_mul(each);
        self.size.bytes = self.size.bytes.saturating_add(more);
    }

    /// Counts the instantiation of something at an index. A wrong index is for
    /// wasmtime's validation to refuse.
    fn instantiate(&mut self, core: bool, index: u32) {
        let sizes = match core {
            true => &self.modules,
            false => &self.components,
        };
        let size = sizes.get(index as usize).copied().unwrap_or(Size::UNKNOWN);
        self.add(1, size.bytes);
        self.size.components = self.size.components.saturating_add(size.components);
    }

    /// Notes one more module or component in the index space.
    fn define(&mut self, kind: ComponentExternalKind, size: Size) {
        match kind {
            ComponentExternalKind::Module => self.modules.push(size),
            ComponentExternalKind::Component => self.components.push(size),
            _ => {}
        }
    }
}

/// Counts one section of the innermost module or component.
fn measure(frames: &mut [Frame], payload: Payload<'_>) -> Result<(), BinaryReaderError> {
    let (frame, outer) = frames.split_last_mut().expect("the outermost stays");
    match payload {
        // Of modules.
        Payload::ImportSection(imports) => {
            for import in imports {
                match import? {
                    Imports::Single(_, import) => count_import(frame, &import.ty, 1),
                    Imports::Compact1 { items, .. } => {
                        for item in items {
                            count_import(frame, &item?.ty, 1);
                        }
                    }
                    Imports::Compact2 { ty, names, .. } => {
                        count_import(frame, &ty, names.count().into());
                    }
                }
            }
        }
        Payload::FunctionSection(section) => frame.add(section.count().into(), FUNCTION),
        Payload::TableSection(section) => frame.add(section.count().into(), TABLE),
        Payload::MemorySection(section) => frame.add(section.count().into(), TABLE),
        Payload::TagSection(section) => frame.add(section.count().into(), GLOBAL),
        Payload::GlobalSection(section) => frame.add(section.count().into(), GLOBAL),
        Payload::DataSection(section) => frame.add(section.count().into(), SEGMENT),
        Payload::ElementSection(section) => {
            for element in section {
                let element = element?;
                frame.add(1, SEGMENT);
                if matches!(element.kind, ElementKind::Passive) {
                    let items = match element.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    };
                    frame.add(items.into(), ELEMENT);
                }
            }
        }
        // Of components.
        Payload::InstanceSection(section) => {
            for instance in section {
                if let Instance::Instantiate { module_index, .. } = instance? {
                    frame.instantiate(true, module_index);
                }
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section {
                match instance? {
                    ComponentInstance::Instantiate {
                        component_index, ..
                    } => frame.instantiate(false, component_index),
                    ComponentInstance::FromExports(_) => {}
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section {
                match alias? {
                    ComponentAlias::InstanceExport { kind, .. } => {
                        frame.define(kind, Size::UNKNOWN)
                    }
                    ComponentAlias::Outer { kind, count, index } => {
                        alias_outer(frame, outer, kind, count, index);
                    }
                    ComponentAlias::CoreInstanceExport { .. } => {}
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section {
                frame.define(import?.ty.kind(), Size::UNKNOWN);
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section {
                // What is exported gets one more index.
                let export = export?;
                let index = export.index as usize;
                let sizes = match export.kind {
                    ComponentExternalKind::Module => &frame.modules,
                    _ => &frame.components,
                };
                let size = sizes.get(index).copied().unwrap_or(Size::UNKNOWN);
                frame.define(export.kind, size);
            }
        }
        Payload::ComponentCanonicalSection(section) => {
            frame.add(section.count().into(), CANONICAL);
        }
        _ => {}
    }
    Ok(())
}

fn count_import(frame: &mut Frame, ty: &TypeRef, count: u64) {
    frame.add(count, IMPORT);
    if matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
        frame.add(count, FUNCTION);
    }
}

/// Notes a module or a component of an enclosing component in the index space.
fn alias_outer(
    frame: &mut Frame,
    outer: &[Frame],
    kind: ComponentOuterAliasKind,
    count: u32,
    index: u32,
) {
    let core = match kind {
        ComponentOuterAliasKind::CoreModule => true,
        ComponentOuterAliasKind::Component => false,
        ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => return,
    };
    let from = match count as usize {
        0 => Some(&*frame),
        count => outer.len().checked_sub(count).map(|at| &outer[at]),
    };
    let size = from.and_then(|from| {
        let sizes = match core {
            true => &from.modules,
            false => &from.components,
        };
        sizes.get(index as usize).copied()
    });
    let size = size.unwrap_or(Size::UNKNOWN);
    match core {
        true => frame.modules.push(size),
        false => frame.components.push(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> u64 {
        instances(&wat::parse_str(text).expect("good text"))
            .expect("a good binary")
            .bytes
    }

    /// What is over the cost of the same component without globals.
    fn globals(text: impl Fn(&str) -> String) -> u64 {
        let global = "(global i64 (i64.const 0))";
        let with = bytes(&text(&global.repeat(100)));
        (with - bytes(&text(""))) / (100 * GLOBAL)
    }

    #[test]
    fn core_instances_multiply() {
        let count = globals(|globals| {
            let instances = "(core instance (instantiate $m))".repeat(7);
            format!("(component (core module $m {globals}) {instances})")
        });
        assert_eq!(count, 7);
    }

    #[test]
    fn instances_of_nested_components_multiply() {
        let count = globals(|globals| {
            format!(
                "(component
                   (core module $m {globals})
                   (component $a
                     (alias outer 1 $m (core module $n))
                     (core instance (instantiate $n))
                     (core instance (instantiate $n)))
                   (component $b
                     (alias outer 1 $a (component $c))
                     (instance (instantiate $c))
                     (instance (instantiate $c))
                     (instance (instantiate $c)))
                   (instance (instantiate $b))
                   (instance (instantiate $b)))"
            )
        });
        assert_eq!(count, 12);
    }

    #[test]
    fn component_instances_multiply() {
        let text = "(component
                      (component $a)
                      (component $b
                        (alias outer 1 $a (component $c))
                        (instance (instantiate $c))
                        (instance (instantiate $c)))
                      (instance (instantiate $b))
                      (instance (instantiate $b)))";
        let size = instances(&wat::parse_str(text).unwrap()).unwrap();
        assert_eq!(size.components, 1 + 2 * 3);
    }

    #[test]
    fn module_that_is_not_instantiated_costs_nothing() {
        assert_eq!(
            globals(|globals| format!("(component (core module {globals}))")),
            0
        );
    }

    #[test]
    fn module_that_is_exported_keeps_its_cost() {
        let count = globals(|globals| {
            format!(
                "(component
                   (core module $m {globals})
                   (export $e \"m\" (core module $m))
                   (core instance (instantiate $e)))"
            )
        });
        assert_eq!(count, 1);
    }

    #[test]
    fn imported_module_cannot_be_counted() {
        let text = "(component
                      (import \"m\" (core module $m))
                      (core instance (instantiate $m)))";
        assert_eq!(bytes(text), u64::MAX);
    }

    #[test]
    fn exponential_nesting_saturates_in_linear_time() {
        let mut text =
            String::from("(component $c0 (core module $m) (core instance (instantiate $m)))");
        for level in 1..100 {
            let instances = format!("(instance (instantiate $i{level}))").repeat(2);
            text += &format!(
                "(component $c{level} (alias outer 1 $c{} (component $i{level})) {instances})",
                level - 1
            );
        }
        assert_eq!(
            bytes(&format!("(component {text} (instance (instantiate $c99)))")),
            u64::MAX
        );
    }

    #[test]
    fn passive_elements_and_imports_count_in_each_instance() {
        let instance = "(core instance (instantiate $m))";
        let text = |elements: &str| {
            format!("(component (core module $m (func $f) {elements}) {instance} {instance})")
        };
        let items = "$f ".repeat(1000);
        let with = bytes(&text(&format!("(elem func {items})")));
        assert_eq!(with - bytes(&text("")), 2 * (SEGMENT + 1000 * ELEMENT));
    }
}
