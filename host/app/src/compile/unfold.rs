//! Multiplies out the instances of a component, without creating any.
//!
//! If a component instantiates another twice, which instantiates another twice, and so on, each
//! level has twice as many instances. The compiler unfolds them all. So does this module, but of
//! each instance it keeps only the modules, components and instances by which more can be
//! instantiated. It stops at the limits.

use std::collections::HashMap;

use wasmparser::ComponentExternalKind;

use super::limits::{CompileLimits, MeasureError, at_most, check_depth};
use super::totals::{Core, Totals};

/// A component as it was read.
#[derive(Default)]
pub(super) struct ParsedComponent<'a> {
    /// The items that play a part in instantiations, in order.
    pub(super) items: Vec<Item<'a>>,
    /// The number of other definitions.
    pub(super) plain: u64,
    /// The canonical functions among these.
    pub(super) canonicals: u64,
    pub(super) imports: u64,
    pub(super) exports: u64,
}

/// The kind of an item that plays a part in instantiations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Module,
    Component,
    Instance,
}

impl ItemKind {
    pub(super) fn of(kind: ComponentExternalKind) -> Option<ItemKind> {
        match kind {
            ComponentExternalKind::Module => Some(ItemKind::Module),
            ComponentExternalKind::Component => Some(ItemKind::Component),
            ComponentExternalKind::Instance => Some(ItemKind::Instance),
            ComponentExternalKind::Func
            | ComponentExternalKind::Value
            | ComponentExternalKind::Type => None,
        }
    }
}

/// A name, with the kind and index that it stands for in its component.
type Reference<'a> = (&'a str, ItemKind, u32);

/// An item of a component. Each adds to the index space of its kind.
pub(super) enum Item<'a> {
    /// A core module, by its number among all that were read.
    Module(usize),
    /// A component, by its number among all that were read.
    Component(usize),
    Import(ItemKind, &'a str),
    /// An export of the component instance of this index.
    Alias(ItemKind, u32, &'a str),
    /// An item, by its index, of the component this number of levels further out.
    Outer(ItemKind, u32, u32),
    /// An instance of the core module of this index. It adds to no index space that matters here.
    InstantiateModule(u32),
    /// An instance of the component of this index.
    Instantiate(u32, Vec<Reference<'a>>),
    /// An instance that consists of existing items.
    Bundle(Vec<Reference<'a>>),
    /// An export, which adds its item once more.
    Export(&'a str, ItemKind, u32),
}

/// The meaning of an index. `None` if only the importer knows it.
#[derive(Clone, Copy)]
enum Definition {
    Module(Option<usize>),
    /// The number of the component, and of the frame that defines it.
    Component(Option<(usize, usize)>),
    /// The number of its exports.
    Instance(Option<usize>),
}

impl Definition {
    fn unknown(kind: ItemKind) -> Self {
        match kind {
            ItemKind::Module => Definition::Module(None),
            ItemKind::Component => Definition::Component(None),
            ItemKind::Instance => Definition::Instance(None),
        }
    }

    fn is(self, kind: ItemKind) -> bool {
        matches!(
            (self, kind),
            (Definition::Module(_), ItemKind::Module)
                | (Definition::Component(_), ItemKind::Component)
                | (Definition::Instance(_), ItemKind::Instance)
        )
    }
}

type ByName<'a> = HashMap<&'a str, Definition>;

/// The exports of an instance.
struct InstanceExports<'a> {
    definitions: ByName<'a>,
    /// The depth of nested instances, including this one.
    depth: u64,
}

/// The index spaces of an instance. They only grow, so a component that is defined inside can
/// use them at any time.
#[derive(Default)]
struct Frame {
    modules: Vec<Definition>,
    components: Vec<Definition>,
    instances: Vec<Definition>,
    /// The number of the enclosing frame.
    outer: Option<usize>,
}

impl Frame {
    fn space(&self, kind: ItemKind) -> &[Definition] {
        match kind {
            ItemKind::Module => &self.modules,
            ItemKind::Component => &self.components,
            ItemKind::Instance => &self.instances,
        }
    }

    fn add(&mut self, definition: Definition) {
        let space = match definition {
            Definition::Module(_) => &mut self.modules,
            Definition::Component(_) => &mut self.components,
            Definition::Instance(_) => &mut self.instances,
        };
        space.push(definition);
    }

    fn get(&self, kind: ItemKind, index: u32) -> Result<Definition, MeasureError> {
        let index = usize::try_from(index).ok();
        let definition = index.and_then(|at| self.space(kind).get(at));
        definition
            .copied()
            .ok_or(MeasureError::Dangling(match kind {
                ItemKind::Module => "a core module",
                ItemKind::Component => "a component",
                ItemKind::Instance => "an instance",
            }))
    }

    fn named<'a>(&self, references: &[Reference<'a>]) -> Result<ByName<'a>, MeasureError> {
        let references = references.iter();
        references
            .map(|(name, kind, index)| Ok((*name, self.get(*kind, *index)?)))
            .collect()
    }
}

/// All frames and exports. They refer to each other by number, in cycles and in long chains. None
/// owns another, so all are dropped together, without recursion.
#[derive(Default)]
struct Arena<'a> {
    frames: Vec<Frame>,
    exports: Vec<InstanceExports<'a>>,
}

impl<'a> Arena<'a> {
    fn frame(&mut self, outer: Option<usize>) -> usize {
        self.frames.push(Frame {
            outer,
            ..Frame::default()
        });
        self.frames.len() - 1
    }

    /// Returns an item of the frame `count` levels further out.
    fn outer(
        &self,
        frame: usize,
        kind: ItemKind,
        count: u32,
        index: u32,
    ) -> Result<Definition, MeasureError> {
        let mut frame = &self.frames[frame];
        for _ in 0..count {
            let outer = frame
                .outer
                .ok_or(MeasureError::Dangling("an outer component"))?;
            frame = &self.frames[outer];
        }
        frame.get(kind, index)
    }

    /// Creates an instance from its exports.
    fn instance(
        &mut self,
        definitions: ByName<'a>,
        limits: &CompileLimits,
    ) -> Result<Definition, MeasureError> {
        let depths = definitions.values().map(|definition| match definition {
            Definition::Instance(Some(exports)) => self.exports[*exports].depth,
            _ => 0,
        });
        let depth = 1 + depths.max().unwrap_or(0);
        check_depth("instances nest", depth, limits)?;
        self.exports.push(InstanceExports { definitions, depth });
        Ok(Definition::Instance(Some(self.exports.len() - 1)))
    }
}

/// An instantiation in progress.
struct Instantiation<'a> {
    component: usize,
    frame: usize,
    arguments: ByName<'a>,
    exports: ByName<'a>,
    /// The index of the component's next item.
    next: usize,
}

impl<'a> Instantiation<'a> {
    fn new(component: usize, frame: usize, arguments: ByName<'a>) -> Instantiation<'a> {
        Instantiation {
            component,
            frame,
            arguments,
            exports: ByName::new(),
            next: 0,
        }
    }
}

/// Returns the totals of one instance of component `root`.
pub(super) fn unfold(
    modules: &[Core],
    components: &[ParsedComponent<'_>],
    root: usize,
    limits: &CompileLimits,
) -> Result<Totals, MeasureError> {
    let mut totals = Totals::default();
    let mut arena = Arena::default();
    let mut steps = vec![Instantiation::new(root, arena.frame(None), ByName::new())];
    begin(&mut totals, &components[root], limits)?;
    while let Some(step) = steps.last_mut() {
        let Some(item) = components[step.component].items.get(step.next) else {
            // The instance is complete.
            let exports = std::mem::take(&mut step.exports);
            let instance = arena.instance(exports, limits)?;
            steps.pop();
            if let Some(outer) = steps.last() {
                arena.frames[outer.frame].add(instance);
            }
            continue;
        };
        step.next += 1;
        let frame = &arena.frames[step.frame];
        let definition = match item {
            Item::Module(module) => Definition::Module(Some(*module)),
            Item::Component(component) => Definition::Component(Some((*component, step.frame))),
            Item::Import(kind, name) => {
                let argument = step.arguments.get(name).copied();
                let argument = argument.filter(|definition| definition.is(*kind));
                argument.unwrap_or(Definition::unknown(*kind))
            }
            Item::Alias(kind, instance, name) => {
                let Definition::Instance(exports) = frame.get(ItemKind::Instance, *instance)?
                else {
                    return Err(MeasureError::Dangling("an instance"));
                };
                let exports = exports.map(|exports| &arena.exports[exports].definitions);
                let export = exports.and_then(|exports| exports.get(name)).copied();
                let export = export.filter(|definition| definition.is(*kind));
                export.unwrap_or(Definition::unknown(*kind))
            }
            Item::Outer(kind, count, index) => arena.outer(step.frame, *kind, *count, *index)?,
            Item::InstantiateModule(module) => {
                totals.core_instances += 1;
                let (all, most) = (totals.core_instances, limits.core_instances);
                at_most("core-instances", most, all, || {
                    format!("the component instantiates {all} core modules or more")
                })?;
                if let Definition::Module(Some(module)) = frame.get(ItemKind::Module, *module)? {
                    totals.core.add(&modules[module]);
                }
                continue;
            }
            Item::Bundle(exports) => {
                let exports = frame.named(exports)?;
                arena.instance(exports, limits)?
            }
            Item::Export(name, kind, index) => {
                let definition = frame.get(*kind, *index)?;
                step.exports.insert(name, definition);
                definition
            }
            Item::Instantiate(component, arguments) => {
                let arguments = frame.named(arguments)?;
                match frame.get(ItemKind::Component, *component)? {
                    Definition::Component(Some((component, outer))) => {
                        begin(&mut totals, &components[component], limits)?;
                        let inner = arena.frame(Some(outer));
                        steps.push(Instantiation::new(component, inner, arguments));
                        check_depth("instances nest", steps.len() as u64, limits)?;
                        continue;
                    }
                    _ => Definition::Instance(None),
                }
            }
        };
        arena.frames[step.frame].add(definition);
    }
    Ok(totals)
}

/// Counts an instance of `component`, without the instances that it creates.
fn begin(
    totals: &mut Totals,
    component: &ParsedComponent<'_>,
    limits: &CompileLimits,
) -> Result<(), MeasureError> {
    totals.component_instances += 1;
    let (all, most) = (totals.component_instances, limits.component_instances);
    at_most("component-instances", most, all, || {
        format!("the component instantiates {all} components or more")
    })?;
    let definitions = component.plain + component.items.len() as u64;
    totals.canonicals = totals.canonicals.saturating_add(component.canonicals);
    totals.definitions = totals.definitions.saturating_add(definitions);
    let all = totals.definitions;
    at_most("definitions", limits.definitions, all, || {
        format!("the component and those that it instantiates have {all} definitions or more")
    })
}
