//! Computes the host memory of a component's instances before anything is instantiated.
//!
//! wasmtime asks a `ResourceLimiter` before it creates a memory or a table. It does not ask before
//! it creates the rest of an instance: its globals, imports, function references and element
//! segments. A component can instantiate a module hundreds of times, also through nested
//! components, so the memory is a product. [`Totals`] are that product.

use crate::compile::{Core, Totals};

/// The bytes of a core instance: wasmtime's `Instance`, its entry in the store, and the allocator's
/// overhead.
const INSTANCE: u64 = 1024;

/// The bytes of a component instance: its handle table, flags and the like.
const COMPONENT_INSTANCE: u64 = 512;

/// The bytes of a canonical function: the record by which compiled code calls it, and its closure.
const CANONICAL: u64 = 128;

/// The bytes of an imported function, table, memory or global.
const IMPORT: u64 = 32;

/// The bytes of a defined or imported function: the reference that tables and exports use. wasmtime
/// omits it for functions that nothing refers to, but they are counted here too.
const FUNCTION: u64 = 32;

/// The bytes of a global or tag.
const GLOBAL: u64 = 16;

/// The bytes of a table or memory, without its elements and pages, which the limiter counts.
const TABLE: u64 = 256;

/// The bytes of an item of a passive element segment, which each instance evaluates.
const ELEMENT: u64 = 16;

/// The bytes of a data or element segment.
const SEGMENT: u64 = 32;

/// The size of one instantiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InstanceSize {
    /// The bytes of host memory, without linear memories and table elements.
    pub(super) bytes: u64,
    /// The component instances, each of which has a handle table.
    pub(super) components: u64,
}

impl InstanceSize {
    /// Returns the size of a component's instances. The bytes saturate at `u64::MAX`.
    pub(super) fn of(totals: &Totals) -> InstanceSize {
        // All fields are named, so that a new one is considered here. The limiter counts table
        // elements and pages, and data is part of the component's code.
        let Core {
            imports,
            imported_functions,
            exports: _,
            functions,
            globals,
            tags,
            tables,
            table_elements: _,
            passive_elements,
            segments,
            memories,
            memory_bytes: _,
            data_bytes: _,
        } = totals.core;
        let bytes = [
            (totals.core_instances, INSTANCE),
            (totals.component_instances, COMPONENT_INSTANCE),
            (totals.canonicals, CANONICAL),
            (imports, IMPORT),
            (imported_functions, FUNCTION),
            (functions, FUNCTION),
            (globals, GLOBAL),
            (tags, GLOBAL),
            (tables, TABLE),
            (memories, TABLE),
            (passive_elements, ELEMENT),
            (segments, SEGMENT),
        ];
        let bytes = bytes
            .iter()
            .map(|(count, each)| count.saturating_mul(*each))
            .fold(0, u64::saturating_add);
        InstanceSize {
            bytes,
            components: totals.component_instances,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{CompileLimits, measure};

    fn size(text: &str) -> InstanceSize {
        let wasm = wat::parse_str(text).expect("good text");
        let measured = measure(&wasm, &CompileLimits::default());
        InstanceSize::of(&measured.expect("a good binary").instance)
    }

    fn bytes(text: &str) -> u64 {
        size(text).bytes
    }

    /// Returns how many globals are counted for each that the text contains.
    fn globals(text: impl Fn(&str) -> String) -> u64 {
        let global = "(global i64 (i64.const 0))";
        let with = bytes(&text(&global.repeat(100)));
        (with - bytes(&text(""))) / (100 * GLOBAL)
    }

    // rule 10
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
        assert_eq!(size(text).components, 1 + 2 * 3);
    }

    #[test]
    fn unused_module_costs_nothing() {
        assert_eq!(
            globals(|globals| format!("(component (core module {globals}))")),
            0
        );
    }

    #[test]
    fn exported_module_keeps_its_cost() {
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
    fn imported_functions_count_as_functions() {
        let text = |import: &str| {
            format!(
                r#"(component
                     (core module $a (func (export "f")))
                     (core module $b {import})
                     (core instance $i (instantiate $a))
                     (core instance (instantiate $b (with "" (instance $i)))))"#
            )
        };
        let with = bytes(&text(r#"(import "" "f" (func))"#));
        assert_eq!(with - bytes(&text("")), IMPORT + FUNCTION);
    }

    #[test]
    fn passive_elements_count_in_each_instance() {
        let instance = "(core instance (instantiate $m))";
        let text = |elements: &str| {
            format!("(component (core module $m (func $f) {elements}) {instance} {instance})")
        };
        let items = "$f ".repeat(1000);
        let with = bytes(&text(&format!("(elem func {items})")));
        assert_eq!(with - bytes(&text("")), 2 * (SEGMENT + 1000 * ELEMENT));
    }
}
