//! Multiplies out the instances of a component, without making any.
//!
//! A component that instantiates another twice, which instantiates another twice,
//! and so on, has twice as many instances at each level. The compiler unfolds them
//! all. So does this, but it keeps nothing of an instance apart from the modules,
//! components and instances by which it can instantiate more, and it stops at the
//! limits.

use std::collections::HashMap;

use wasmparser::ComponentExternalKind;

use super::limits::{CompileLimits, at_most};
use super::measure::{Core, Refused, Totals, check_depth};

/// A component as it was read.
#[derive(Default)]
pub(super) struct Component<'a> {
    /// The items that take part in instantiations, in order.
    pub(super) items: Vec<Item<'a>>,
    /// The number of other definitions.
    pub(super) plain: u64,
    /// The canonical functions among these.
    pub(super) canonicals: u64,
    pub(super) imports: u64,
    pub(super) exports: u64,
}

/// A kind of item that instantiations are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Module,
    Component,
    Instance,
}

impl Kind {
    pub(super) fn of(kind: ComponentExternalKind) -> Option<Kind> {
        match kind {
            ComponentExternalKind::Module => Some(Kind::Module),
            ComponentExternalKind::Component => Some(Kind::Component),
            ComponentExternalKind::Instance => Some(Kind::Instance),
            ComponentExternalKind::Func
            | ComponentExternalKind::Value
            | ComponentExternalKind::Type => None,
        }
    }
}

/// A name, and what it stands for in the component that has it.
type Reference<'a> = (&'a str, Kind, u32);

/// A definition in a component; each adds to the index space of its kind.
pub(super) enum Item<'a> {
    /// A core module, by its number among all that were read.
    Module(usize),
    /// A component, likewise.
    Component(usize),
    Import(Kind, &'a str),
    /// An export of the component instance of this index.
    Alias(Kind, u32, &'a str),
    /// An item of the component that is so many levels further out.
    Outer(Kind, u32, u32),
    /// An instance of the core module of this index; it is in no index space that
    /// matters here.
    InstantiateModule(u32),
    /// An instance of the component of this index.
    Instantiate(u32, Vec<Reference<'a>>),
    /// An instance that is made of what is there.
    Bundle(Vec<Reference<'a>>),
    /// An export, which is another definition of the same.
    Export(&'a str, Kind, u32),
}

/// The item that an index stands for. `None` if only the importer knows it.
#[derive(Clone, Copy)]
enum Thing {
    Module(Option<usize>),
    /// The number of the component, and of the frame in which it was defined.
    Component(Option<(usize, usize)>),
    /// The number of its exports.
    Instance(Option<usize>),
}

impl Thing {
    fn unknown(kind: Kind) -> Self {
        match kind {
            Kind::Module => Thing::Module(None),
            Kind::Component => Thing::Component(None),
            Kind::Instance => Thing::Instance(None),
        }
    }

    fn is(self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Thing::Module(_), Kind::Module)
                | (Thing::Component(_), Kind::Component)
                | (Thing::Instance(_), Kind::Instance)
        )
    }
}

type Named<'a> = HashMap<&'a str, Thing>;

/// What an instance exports.
struct Exports<'a> {
    things: Named<'a>,
    /// How deep instances nest in it, with itself.
    depth: u64,
}

/// The index spaces of an instance. They only ever grow, so that a component which
/// was defined inside may look into them at any time.
#[derive(Default)]
struct Frame {
    modules: Vec<Thing>,
    components: Vec<Thing>,
    instances: Vec<Thing>,
    /// The number of the frame around it.
    outer: Option<usize>,
}

impl Frame {
    fn space(&self, kind: Kind) -> &[Thing] {
        match kind {
            Kind::Module => &self.modules,
            Kind::Component => &self.components,
            Kind::Instance => &self.instances,
        }
    }

    fn add(&mut self, thing: Thing) {
        let space = match thing {
            Thing::Module(_) => &mut self.modules,
            Thing::Component(_) => &mut self.components,
            Thing::Instance(_) => &mut self.instances,
        };
        space.push(thing);
    }

    fn get(&self, kind: Kind, index: u32) -> Result<Thing, Refused> {
        let index = usize::try_from(index).ok();
        let thing = index.and_then(|at| self.space(kind).get(at));
        thing.copied().ok_or(Refused::Dangling(match kind {
            Kind::Module => "a core module",
            Kind::Component => "a component",
            Kind::Instance => "an instance",
        }))
    }

    fn named<'a>(&self, references: &[Reference<'a>]) -> Result<Named<'a>, Refused> {
        let references = references.iter();
        references
            .map(|(name, kind, index)| Ok((*name, self.get(*kind, *index)?)))
            .collect()
    }
}

/// All frames and exports, which refer to each other by their numbers. They refer back
/// and forth and in long chains, so that nothing owns another: all are dropped
/// together, without recursion.
#[derive(Default)]
struct Arena<'a> {
    frames: Vec<Frame>,
    exports: Vec<Exports<'a>>,
}

impl<'a> Arena<'a> {
    fn frame(&mut self, outer: Option<usize>) -> usize {
        self.frames.push(Frame {
            outer,
            ..Frame::default()
        });
        self.frames.len() - 1
    }

    /// Returns an item of the frame that is `count` levels further out.
    fn outer(&self, frame: usize, kind: Kind, count: u32, index: u32) -> Result<Thing, Refused> {
        let mut frame = &self.frames[frame];
        for _ in 0..count {
            let outer = frame.outer.ok_or(Refused::Dangling("an outer component"))?;
            frame = &self.frames[outer];
        }
        frame.get(kind, index)
    }

    /// Makes an instance of its exports.
    fn instance(&mut self, things: Named<'a>, limits: &CompileLimits) -> Result<Thing, Refused> {
        let depths = things.values().map(|thing| match thing {
            Thing::Instance(Some(exports)) => self.exports[*exports].depth,
            _ => 0,
        });
        let depth = 1 + depths.max().unwrap_or(0);
        check_depth("instances nest", depth, limits)?;
        self.exports.push(Exports { things, depth });
        Ok(Thing::Instance(Some(self.exports.len() - 1)))
    }
}

/// An instantiation under way.
struct Step<'a> {
    component: usize,
    frame: usize,
    arguments: Named<'a>,
    exports: Named<'a>,
    /// The next of the component's items.
    next: usize,
}

impl<'a> Step<'a> {
    fn new(component: usize, frame: usize, arguments: Named<'a>) -> Step<'a> {
        Step {
            component,
            frame,
            arguments,
            exports: Named::new(),
            next: 0,
        }
    }
}

/// Counts what one instance of component `root` has.
pub(super) fn unfold(
    modules: &[Core],
    components: &[Component<'_>],
    root: usize,
    limits: &CompileLimits,
) -> Result<Totals, Refused> {
    let mut totals = Totals::default();
    let mut arena = Arena::default();
    let mut steps = vec![Step::new(root, arena.frame(None), Named::new())];
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
        let thing = match item {
            Item::Module(module) => Thing::Module(Some(*module)),
            Item::Component(component) => Thing::Component(Some((*component, step.frame))),
            Item::Import(kind, name) => {
                let argument = step.arguments.get(name).copied();
                let argument = argument.filter(|thing| thing.is(*kind));
                argument.unwrap_or(Thing::unknown(*kind))
            }
            Item::Alias(kind, instance, name) => {
                let Thing::Instance(exports) = frame.get(Kind::Instance, *instance)? else {
                    return Err(Refused::Dangling("an instance"));
                };
                let exports = exports.map(|exports| &arena.exports[exports].things);
                let export = exports.and_then(|exports| exports.get(name)).copied();
                let export = export.filter(|thing| thing.is(*kind));
                export.unwrap_or(Thing::unknown(*kind))
            }
            Item::Outer(kind, count, index) => arena.outer(step.frame, *kind, *count, *index)?,
            Item::InstantiateModule(module) => {
                totals.core_instances += 1;
                let (all, most) = (totals.core_instances, limits.core_instances);
                at_most("core-instances", most, all, || {
                    format!("the component instantiates {all} core modules or more")
                })?;
                if let Thing::Module(Some(module)) = frame.get(Kind::Module, *module)? {
                    totals.core.add(&modules[module]);
                }
                continue;
            }
            Item::Bundle(exports) => {
                let exports = frame.named(exports)?;
                arena.instance(exports, limits)?
            }
            Item::Export(name, kind, index) => {
                let thing = frame.get(*kind, *index)?;
                step.exports.insert(name, thing);
                thing
            }
            Item::Instantiate(component, arguments) => {
                let arguments = frame.named(arguments)?;
                match frame.get(Kind::Component, *component)? {
                    Thing::Component(Some((component, outer))) => {
                        begin(&mut totals, &components[component], limits)?;
                        let inner = arena.frame(Some(outer));
                        steps.push(Step::new(component, inner, arguments));
                        check_depth("instances nest", steps.len() as u64, limits)?;
                        continue;
                    }
                    _ => Thing::Instance(None),
                }
            }
        };
        arena.frames[step.frame].add(thing);
    }
    Ok(totals)
}

/// Counts an instance of `component`, without what it instantiates.
fn begin(
    totals: &mut Totals,
    component: &Component<'_>,
    limits: &CompileLimits,
) -> Result<(), Refused> {
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
