//! The totals of an instance of a component.

/// The totals of an instance of a component, multiplied out: each core module counts as often as
/// it is instantiated. All sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Instances of components, including the outermost one.
    pub(crate) component_instances: u64,
    /// Imports, exports, aliases, instances and functions of components.
    pub(crate) definitions: u64,
    /// The definitions that are lifted, lowered or built-in functions.
    pub(crate) canonicals: u64,
    /// Instances of core modules.
    pub(crate) core_instances: u64,
    /// The definitions of the core instances.
    pub(crate) core: Core,
}

/// The definitions of one or more core modules. Imports do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Core {
    /// Imported functions, tables, memories, globals and tags.
    pub(crate) imports: u64,
    /// Imported functions.
    pub(crate) imported_functions: u64,
    /// Exports.
    pub(crate) exports: u64,
    /// Functions.
    pub(crate) functions: u64,
    /// Globals.
    pub(crate) globals: u64,
    /// Exception tags.
    pub(crate) tags: u64,
    /// Tables.
    pub(crate) tables: u64,
    /// Initial elements of the tables.
    pub(crate) table_elements: u64,
    /// Elements in passive segments, which stay after instantiation.
    pub(crate) passive_elements: u64,
    /// Element and data segments.
    pub(crate) segments: u64,
    /// Linear memories.
    pub(crate) memories: u64,
    /// Initial bytes of the linear memories.
    pub(crate) memory_bytes: u64,
    /// Bytes in data segments.
    pub(crate) data_bytes: u64,
}

impl Core {
    /// Adds the definitions of `other`.
    pub(crate) fn add(&mut self, other: &Core) {
        let Core {
            imports,
            imported_functions,
            exports,
            functions,
            globals,
            tags,
            tables,
            table_elements,
            passive_elements,
            segments,
            memories,
            memory_bytes,
            data_bytes,
        } = self;
        for (sum, more) in [
            (imports, other.imports),
            (imported_functions, other.imported_functions),
            (exports, other.exports),
            (functions, other.functions),
            (globals, other.globals),
            (tags, other.tags),
            (tables, other.tables),
            (table_elements, other.table_elements),
            (passive_elements, other.passive_elements),
            (segments, other.segments),
            (memories, other.memories),
            (memory_bytes, other.memory_bytes),
            (data_bytes, other.data_bytes),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}
