//! Multiplies out the instances of a component, without making any.
//!
//! A component that instantiates another twice, which instantiates another twice,
//! and so on, has twice as many instances at each level. The compiler unfolds them
//! all. So does this, but it keeps nothing of an instance apart from the modules,
//! components and instances by which it can instantiate more, and it stops at the
//! limits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

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

type Named<'a> = (&'a str, Kind, u32);

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
    Instantiate(u32, Vec<Named<'a>>),
    /// An instance that is made of what is there.
    Bundle(Vec<Named<'a>>),
    /// An export, which is another definition of the same.
    Export(&'a str, Kind, u32),
}

/// The item that an index stands for. `None` if only the importer knows it.
#[derive(Clone)]
enum Thing<'a> {
    Module(Option<usize>),
    Component(Option<(usize, Rc<Frame<'a>>)>),
    Instance(Option<Rc<Exports<'a>>>),
}

impl Thing<'_> {
    fn unknown(kind: Kind) -> Self {
        match kind {
            Kind::Module => Thing::Module(None),
            Kind::Component => Thing::Component(None),
            Kind::Instance => Thing::Instance(None),
        }
    }

    fn is(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Thing::Module(_), Kind::Module)
                | (Thing::Component(_), Kind::Component)
                | (Thing::Instance(_), Kind::Instance)
        )
    }
}

type Exports<'a> = HashMap<&'a str, Thing<'a>>;

/// The index spaces of an instance. They only ever grow, so that a component which
/// was defined inside may look into them at any time.
#[derive(Default)]
struct Frame<'a> {
    modules: RefCell<Vec<Thing<'a>>>,
    components: RefCell<Vec<Thing<'a>>>,
    instances: RefCell<Vec<Thing<'a>>>,
    outer: Option<Rc<Frame<'a>>>,
}

impl<'a> Frame<'a> {
    fn space(&self, kind: Kind) -> &RefCell<Vec<Thing<'a>>> {
        match kind {
            Kind::Module => &self.modules,
            Kind::Component => &self.components,
            Kind::Instance => &self.instances,
        }
    }

    fn add(&self, thing: Thing<'a>) {
        let kind = match thing {
            Thing::Module(_) => Kind::Module,
            Thing::Component(_) => Kind::Component,
            Thing::Instance(_) => Kind::Instance,
        };
        self.space(kind).borrow_mut().push(thing);
    }

    fn get(&self, kind: Kind, index: u32) -> Result<Thing<'a>, Refused> {
        let space = self.space(kind).borrow();
        let thing = usize::try_from(index).ok().and_then(|at| space.get(at));
        thing.cloned().ok_or(Refused::Dangling(match kind {
            Kind::Module => "a core module",
            Kind::Component => "a component",
            Kind::Instance => "an instance",
        }))
    }

    fn outer(&self, kind: Kind, count: u32, index: u32) -> Result<Thing<'a>, Refused> {
        let mut frame = self;
        for _ in 0..count {
            frame = frame
                .outer
                .as_deref()
                .ok_or(Refused::Dangling("an outer component"))?;
        }
        frame.get(kind, index)
    }

    fn named(&self, named: &[Named<'a>]) -> Result<Exports<'a>, Refused> {
        let things = named.iter();
        things
            .map(|(name, kind, index)| Ok((*name, self.get(*kind, *index)?)))
            .collect()
    }
}

/// An instantiation under way.
struct Step<'a> {
    component: usize,
    frame: Rc<Frame<'a>>,
    arguments: Exports<'a>,
    exports: Exports<'a>,
    /// The next of the component's items.
    next: usize,
}

impl<'a> Step<'a> {
    fn new(component: usize, outer: Option<Rc<Frame<'a>>>, arguments: Exports<'a>) -> Step<'a> {
        Step {
            component,
            frame: Rc::new(Frame {
                outer,
                ..Frame::default()
            }),
            arguments,
            exports: Exports::new(),
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
    let mut steps = vec![Step::new(root, None, Exports::new())];
    begin(&mut totals, &components[root], limits)?;
    while let Some(step) = steps.last_mut() {
        let Some(item) = components[step.component].items.get(step.next) else {
            // The instance is complete.
            let exports = Rc::new(std::mem::take(&mut step.exports));
            steps.pop();
            if let Some(outer) = steps.last() {
                outer.frame.add(Thing::Instance(Some(exports)));
            }
            continue;
        };
        step.next += 1;
        let frame = &step.frame;
        match item {
            Item::Module(module) => frame.add(Thing::Module(Some(*module))),
            Item::Component(component) => {
                frame.add(Thing::Component(Some((*component, frame.clone()))));
            }
            Item::Import(kind, name) => {
                let argument = step.arguments.get(name).filter(|thing| thing.is(*kind));
                frame.add(argument.cloned().unwrap_or(Thing::unknown(*kind)));
            }
            Item::Alias(kind, instance, name) => {
                let Thing::Instance(exports) = frame.get(Kind::Instance, *instance)? else {
                    return Err(Refused::Dangling("an instance"));
                };
                let export = exports.as_ref().and_then(|exports| exports.get(name));
                let export = export.filter(|thing| thing.is(*kind));
                frame.add(export.cloned().unwrap_or(Thing::unknown(*kind)));
            }
            Item::Outer(kind, count, index) => frame.add(frame.outer(*kind, *count, *index)?),
            Item::InstantiateModule(module) => {
                totals.core_instances += 1;
                let (all, most) = (totals.core_instances, limits.core_instances);
                at_most("core-instances", most, all, || {
                    format!("the component instantiates {all} core modules or more")
                })?;
                if let Thing::Module(Some(module)) = frame.get(Kind::Module, *module)? {
                    totals.core.add(&modules[module]);
                }
            }
            Item::Bundle(exports) => {
                let exports = frame.named(exports)?;
                frame.add(Thing::Instance(Some(Rc::new(exports))));
            }
            Item::Export(name, kind, index) => {
                let thing = frame.get(*kind, *index)?;
                frame.add(thing.clone());
                step.exports.insert(name, thing);
            }
            Item::Instantiate(component, arguments) => {
                let arguments = frame.named(arguments)?;
                match frame.get(Kind::Component, *component)? {
                    Thing::Component(Some((component, outer))) => {
                        begin(&mut totals, &components[component], limits)?;
                        steps.push(Step::new(component, Some(outer), arguments));
                        check_depth("instances nest", steps.len() as u64, limits)?;
                    }
                    _ => frame.add(Thing::Instance(None)),
                }
            }
        }
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
