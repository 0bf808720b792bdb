//! Measures a component in one pass over its bytes, without compiling it.

mod concurrency;
mod module;
mod types;

#[cfg(test)]
mod tests;

use wasmparser::{
    ComponentAlias, ComponentExportSectionReader, ComponentExternalKind, ComponentImport,
    ComponentImportSectionReader, ComponentInstance, ComponentOuterAliasKind, Encoding, Instance,
    Parser, Payload,
};

use self::concurrency::{canonical_needs_it, import_needs_it};
use self::module::Module;
use self::types::{component_types, core_types};
use super::function;
use super::limits::{CompileLimits, MeasureError, at_most, check_depth};
use super::totals::{Core, Totals};
use super::unfold::{self, Item, ItemKind, ParsedComponent};

/// The numbers of a component's items that cost time or memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// The size in bytes.
    pub(crate) bytes: u64,
    /// Types in all components and core modules.
    pub(crate) types: u64,
    /// Functions that core modules define.
    pub(crate) functions: u64,
    /// Imports and exports of core modules.
    pub(crate) core_names: u64,
    /// The totals of one instance of the component.
    pub(crate) instance: Totals,
    /// Whether the component needs an engine with concurrency.
    pub(crate) concurrent: bool,
}

/// Measures a component, and refuses it as soon as it is over a limit.
///
/// Takes time proportional to the component's size, and to its `definitions`, multiplied out, up
/// to the limit. A measured component may still be invalid.
///
/// # Errors
///
/// See [`MeasureError`].
pub(crate) fn measure(wasm: &[u8], limits: &CompileLimits) -> Result<Measure, MeasureError> {
    let bytes = wasm.len() as u64;
    at_most("component-bytes", limits.component_bytes, bytes, || {
        format!("the component has {bytes} bytes")
    })?;
    let mut reader = ComponentReader {
        wasm,
        limits,
        measure: Measure {
            bytes,
            ..Measure::default()
        },
        open: Vec::new(),
        modules: Vec::new(),
        components: Vec::new(),
        root: None,
    };
    for payload in Parser::new(0).parse_all(wasm) {
        reader.payload(payload?)?;
    }
    let ComponentReader {
        mut measure,
        modules,
        components,
        root,
        ..
    } = reader;
    if let Some(root) = root {
        measure.instance = unfold::unfold(&modules, &components, root, limits)?;
    }
    Ok(measure)
}

/// A component or a core module that is being read.
enum Open<'a> {
    Component(ParsedComponent<'a>),
    Module(Module),
}

struct ComponentReader<'a> {
    wasm: &'a [u8],
    limits: &'a CompileLimits,
    measure: Measure,
    /// The components and modules that are being read, outermost first.
    open: Vec<Open<'a>>,
    modules: Vec<Core>,
    components: Vec<ParsedComponent<'a>>,
    /// The index of the outermost component, once it is read.
    root: Option<usize>,
}

impl<'a> ComponentReader<'a> {
    fn payload(&mut self, payload: Payload<'a>) -> Result<(), MeasureError> {
        match payload {
            Payload::Version { encoding, .. } => return self.begin(encoding),
            Payload::End(_) => {
                self.end();
                return Ok(());
            }
            _ => {}
        }
        match self.open.last_mut() {
            Some(Open::Component(_)) => self.of_component(payload),
            Some(Open::Module(_)) => self.of_module(payload),
            None => Ok(()),
        }
    }

    fn begin(&mut self, encoding: Encoding) -> Result<(), MeasureError> {
        self.open.push(match encoding {
            Encoding::Component => Open::Component(ParsedComponent::default()),
            Encoding::Module => Open::Module(Module::default()),
        });
        let depth = self.open.len() as u64;
        check_depth("components nest", depth, self.limits)
    }

    fn end(&mut self) {
        match self.open.pop() {
            Some(Open::Module(module)) => {
                self.modules.push(module.core);
                let item = Item::Module(self.modules.len() - 1);
                self.push(item);
            }
            Some(Open::Component(component)) => {
                self.components.push(component);
                let index = self.components.len() - 1;
                match self.open.is_empty() {
                    true => self.root = Some(index),
                    false => self.push(Item::Component(index)),
                }
            }
            None => {}
        }
    }

    /// Adds an item to the component that is being read.
    fn push(&mut self, item: Item<'a>) {
        if let Some(Open::Component(component)) = self.open.last_mut() {
            component.items.push(item);
        }
    }

    /// Counts definitions that play no part in instantiations.
    fn plain(&mut self, count: u64) {
        if let Some(Open::Component(component)) = self.open.last_mut() {
            component.plain += count;
        }
    }

    fn types(&mut self, count: u64) -> Result<(), MeasureError> {
        self.measure.types += count;
        let types = self.measure.types;
        at_most("types", self.limits.types, types, || {
            format!("the component has {types} types or more")
        })
    }

    fn of_component(&mut self, payload: Payload<'a>) -> Result<(), MeasureError> {
        match payload {
            Payload::ComponentTypeSection(section) => {
                let types = component_types(self.wasm, section.range(), self.limits)?;
                self.measure.concurrent |= types.concurrent;
                self.types(types.count)
            }
            Payload::CoreTypeSection(section) => {
                for ty in section {
                    self.types(core_types(&ty?))?;
                }
                Ok(())
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    match instance? {
                        Instance::Instantiate { module_index, args } => {
                            self.plain(args.len() as u64);
                            self.push(Item::InstantiateModule(module_index));
                        }
                        Instance::FromExports(exports) => self.plain(1 + exports.len() as u64),
                    }
                }
                Ok(())
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    self.instance(instance?);
                }
                Ok(())
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(&alias?);
                }
                Ok(())
            }
            Payload::ComponentImportSection(section) => self.imports(section),
            Payload::ComponentExportSection(section) => self.exports(section),
            Payload::ComponentCanonicalSection(section) => {
                let canonicals = section.count().into();
                self.plain(canonicals);
                self.count(|component| &mut component.canonicals, canonicals);
                for canonical in section {
                    self.measure.concurrent |= canonical_needs_it(&canonical?);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds an instance of a component.
    fn instance(&mut self, instance: ComponentInstance<'a>) {
        match instance {
            ComponentInstance::Instantiate {
                component_index,
                args,
            } => {
                self.plain(args.len() as u64);
                let args = args
                    .iter()
                    .filter_map(|arg| named(arg.name, arg.kind, arg.index));
                self.push(Item::Instantiate(component_index, args.collect()));
            }
            ComponentInstance::FromExports(exports) => {
                self.plain(exports.len() as u64);
                let exports = exports
                    .iter()
                    .filter_map(|export| named(export.name.name, export.kind, export.index));
                self.push(Item::Bundle(exports.collect()));
            }
        }
    }

    /// Adds an alias.
    fn alias(&mut self, alias: &ComponentAlias<'a>) {
        let item = match *alias {
            ComponentAlias::InstanceExport {
                kind,
                instance_index,
                name,
            } => ItemKind::of(kind).map(|kind| Item::Alias(kind, instance_index, name)),
            ComponentAlias::Outer { kind, count, index } => match kind {
                ComponentOuterAliasKind::CoreModule => {
                    Some(Item::Outer(ItemKind::Module, count, index))
                }
                ComponentOuterAliasKind::Component => {
                    Some(Item::Outer(ItemKind::Component, count, index))
                }
                _ => None,
            },
            ComponentAlias::CoreInstanceExport { .. } => None,
        };
        match item {
            Some(item) => self.push(item),
            None => self.plain(1),
        }
    }

    fn imports(&mut self, section: ComponentImportSectionReader<'a>) -> Result<(), MeasureError> {
        let imports = u64::from(section.count());
        let all = self.count(|component| &mut component.imports, imports);
        if self.open.len() == 1 {
            at_most("imports", self.limits.imports, all, || {
                format!("the component has {all} imports")
            })?;
        }
        for import in section {
            let ComponentImport { name, ty } = import?;
            self.measure.concurrent |= import_needs_it(name.name);
            match ItemKind::of(ty.kind()) {
                Some(kind) => self.push(Item::Import(kind, name.name)),
                None => self.plain(1),
            }
        }
        Ok(())
    }

    fn exports(&mut self, section: ComponentExportSectionReader<'a>) -> Result<(), MeasureError> {
        let exports = u64::from(section.count());
        let all = self.count(|component| &mut component.exports, exports);
        if self.open.len() == 1 {
            at_most("exports", self.limits.exports, all, || {
                format!("the component has {all} exports")
            })?;
        }
        for export in section {
            let export = export?;
            match named(export.name.name, export.kind, export.index) {
                Some((name, kind, index)) => self.push(Item::Export(name, kind, index)),
                None => self.plain(1),
            }
        }
        Ok(())
    }

    /// Adds to a count of the component that is being read, and returns the sum.
    fn count<F>(&mut self, field: F, more: u64) -> u64
    where
        F: for<'b> FnOnce(&'b mut ParsedComponent<'a>) -> &'b mut u64,
    {
        match self.open.last_mut() {
            Some(Open::Component(component)) => {
                let count = field(component);
                *count += more;
                *count
            }
            _ => 0,
        }
    }

    fn of_module(&mut self, payload: Payload<'a>) -> Result<(), MeasureError> {
        let Some(Open::Module(module)) = self.open.last_mut() else {
            return Ok(());
        };
        match payload {
            Payload::TypeSection(section) => {
                let types = module.types(section, self.limits)?;
                self.types(types)?;
            }
            Payload::ImportSection(section) => {
                let imports = module.imports(section)?;
                self.names(imports)?;
            }
            Payload::FunctionSection(section) => {
                self.measure.functions += u64::from(section.count());
                let all = self.measure.functions;
                at_most("functions", self.limits.functions, all, || {
                    format!("the component has {all} core functions or more")
                })?;
                module.functions(section)?;
            }
            Payload::TableSection(section) => module.tables(section)?,
            Payload::MemorySection(section) => module.memories(section)?,
            Payload::TagSection(section) => module.core.tags += u64::from(section.count()),
            Payload::GlobalSection(section) => module.core.globals += u64::from(section.count()),
            Payload::ExportSection(section) => {
                let exports = u64::from(section.count());
                module.core.exports += exports;
                self.names(exports)?;
            }
            Payload::ElementSection(section) => module.elements(section)?,
            Payload::DataSection(section) => module.data(section)?,
            Payload::CodeSectionEntry(body) => {
                let Module {
                    signatures, locals, ..
                } = module;
                function::check(&body, module.next, signatures, locals, self.limits)?;
                module.next += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts names of core modules.
    fn names(&mut self, more: u64) -> Result<(), MeasureError> {
        self.measure.core_names += more;
        let all = self.measure.core_names;
        at_most("core-names", self.limits.core_names, all, || {
            format!("the core modules have {all} imports and exports or more")
        })
    }
}

/// Returns a reference to an item that plays a part in instantiations.
fn named(name: &str, kind: ComponentExternalKind, index: u32) -> Option<(&str, ItemKind, u32)> {
    Some((name, ItemKind::of(kind)?, index))
}
