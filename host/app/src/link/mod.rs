//! Plans how the guests of an app are linked.
//!
//! Each import of a guest is met by the host, if the host offers it, or else by
//! the export of another guest that has the same interface name and a
//! compatible version. Nothing is instantiated here: [`examine`] looks at types
//! only, says what to define in each guest's linker, and all that is wrong.
//!
//! Between guests every plain value of WIT can pass, and handles to regions and
//! to resources that guests define, at any depth. Other handles of the host's
//! cannot: their owner is one store.

mod compare;
mod entry;
mod error;
mod error_slot;
mod exports;
mod interfaces;
mod name;
mod offer;
mod print;
mod resources;
mod visit;

#[cfg(test)]
mod tests;

use wasmtime::component::types::{self, ComponentFunc, ComponentInstance, ComponentItem, Type};
use wasmtime::component::{Component, Linker, ResourceType};
use wasmtime::{Engine, bail};

pub(crate) use self::entry::{entries, misfit, near_entries};
pub use self::error::{Difference, LinkError, LinkErrors, Near, Refusal};
pub(crate) use self::error_slot::ErrorSlot;
pub use self::error_slot::Warning;
use self::exports::Exports;
pub use self::interfaces::{Export, Import, Interfaces, Provider};
use self::name::Name;
use self::offer::Offers;
use self::resources::{Identity, Origin, Resources};
use crate::near::Hints;
use crate::text;

/// A guest to link: its name in the app, and its component.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The guest's name, for diagnoses.
    pub(crate) name: &'a str,
    /// What it is an instance of.
    pub(crate) component: &'a Component,
}

/// How the guests of an app are linked.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What each guest imports from another.
    pub(crate) links: Vec<Link>,
    /// The resources that guests define, by their numbers.
    pub(crate) kinds: Vec<Kind>,
    /// What works, but deserves to be said.
    pub(crate) warnings: Vec<Warning>,
}

/// One imported interface, and the guest that serves it.
#[derive(Debug)]
pub(crate) struct Link {
    /// The index of the guest that imports.
    pub(crate) importer: usize,
    /// The name of the import, to define in the importer's linker.
    pub(crate) import: String,
    /// The index of the guest that exports.
    pub(crate) exporter: usize,
    /// The name of the export, to look up in the exporter's instance: the
    /// import's, or that of a compatible version.
    pub(crate) export: String,
    /// The functions that the importer imports, all of which the exporter has,
    /// with the same types.
    pub(crate) functions: Vec<Function>,
    /// The resources that the interface shows, each with its number among the
    /// plan's kinds.
    pub(crate) resources: Vec<(String, u32)>,
}

/// A resource that a guest defines, and exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The index of the guest.
    pub(crate) owner: usize,
    /// The name of an exported interface that shows it.
    pub(crate) export: String,
    /// Its name in there.
    pub(crate) name: String,
}

/// One function of a [`Link`].
#[derive(Debug)]
pub(crate) struct Function {
    /// The function's name in both interfaces.
    pub(crate) name: String,
    /// The importer's type of it; resource types are not substituted.
    pub(crate) ty: ComponentFunc,
    /// Whether a handle can pass, in an argument or in the result.
    pub(crate) handles: bool,
    /// How the caller can be told that the callee is dead.
    pub(crate) error_slot: Option<ErrorSlot>,
}

/// A part, with what was found out about it.
struct Guest<'a> {
    name: &'a str,
    ty: types::Component,
    resources: Resources,
}

impl Guest<'_> {
    /// Whether the guest takes this resource for one that `import` defines.
    fn defines(&self, import: &str, ty: ResourceType) -> bool {
        matches!(self.resources.origin(ty), Some(Origin::Import(origin)) if origin == import)
    }
}

/// Who may call whom: indices of guests. Everybody may call everybody, if
/// nothing is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(pub(crate) Option<Vec<(usize, usize)>>);

impl Allowed {
    fn call(&self, from: usize, to: usize) -> bool {
        let Allowed(calls) = self;
        calls
            .as_ref()
            .is_none_or(|calls| calls.contains(&(from, to)))
    }
}

/// What is to be said of the links between guests.
#[derive(Debug)]
pub(crate) struct Examined {
    /// How they are linked, as far as they can be.
    pub(crate) plan: Plan,
    /// Everything that keeps them from being linked.
    pub(crate) errors: Vec<LinkError>,
    /// What each of them imports and exports.
    pub(crate) interfaces: Vec<Interfaces>,
}

/// Plans the links between `parts`, whose imports `linker` meets first.
///
/// `linker` has all that the host offers to each of them: `wasi:*` and
/// `tombolo:*`.
pub(crate) fn examine<T: 'static>(
    linker: &Linker<T>,
    parts: &[Part<'_>],
    allowed: &Allowed,
) -> Examined {
    let engine = linker.engine();
    let mut offers = Offers::new(linker);
    let mut guests: Vec<Guest<'_>> = parts
        .iter()
        .map(|part| {
            let ty = part.component.component_type();
            let resources = Resources::of(engine, &ty, &mut offers);
            Guest {
                name: part.name,
                ty,
                resources,
            }
        })
        .collect();
    let exports = Exports::of(engine, &guests);
    let kinds = identify(engine, &mut guests, &exports, allowed);
    let mut planner = Planner {
        engine,
        exports,
        guests: &guests,
        allowed,
        plan: Plan {
            links: Vec::new(),
            kinds,
            warnings: Vec::new(),
        },
        errors: Vec::new(),
        hints: Hints::new(),
    };
    let mut imports = Vec::new();
    for (importer, part) in parts.iter().enumerate() {
        let known = planner.errors.len();
        imports.push(planner.imports(importer, &mut offers));
        // What is left to check is the host's part, which the engine's own
        // check knows best. It stops at the first import that it cannot meet,
        // so there must be none of ours.
        if planner.errors.len() == known
            && let Err(error) = planner.check_host(linker, importer, part.component)
        {
            planner.errors.push(LinkError::Host {
                guest: part.name.to_owned(),
                reason: text::line(&error),
            });
        }
    }
    let Planner { plan, errors, .. } = planner;
    let commands = entries(engine, parts);
    let interfaces = imports
        .into_iter()
        .enumerate()
        .map(|(index, imports)| Interfaces {
            guest: guests[index].name.to_owned(),
            command: commands.iter().any(|(command, _)| *command == index),
            imports,
            exports: interfaces::exports(engine, &guests, index, &plan.links),
        })
        .collect();
    Examined {
        plan,
        errors,
        interfaces,
    }
}

/// What an import needs somebody for.
#[derive(Clone, Copy)]
struct Needs {
    functions: bool,
    resources: bool,
}

impl Needs {
    fn of(engine: &Engine, guest: &Guest<'_>, import: &str, instance: &ComponentInstance) -> Self {
        let mut needs = Self {
            functions: false,
            resources: false,
        };
        for (_, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => needs.functions = true,
                ComponentItem::Resource(ty) => needs.resources |= guest.defines(import, ty),
                _ => {}
            }
        }
        needs
    }
}

/// Who serves an import.
enum Choice<'a> {
    /// Nobody has to: an interface of types alone is complete without anybody's
    /// export.
    Types,
    Export(&'a exports::Export),
    Several(Vec<usize>),
    Forbidden(Vec<usize>),
    Nobody,
}

/// Finds who serves an import of guest `importer`.
fn choose<'a>(
    exports: &'a Exports,
    allowed: &Allowed,
    importer: usize,
    import: &str,
    needs: Needs,
) -> Choice<'a> {
    if !needs.functions && !needs.resources {
        return Choice::Types;
    }
    let name = Name::parse(import);
    let guests = |exports: &[&exports::Export]| exports.iter().map(|it| it.guest).collect();
    let mut best = exports.best(importer, &name, |to| allowed.call(importer, to));
    if best.is_empty() {
        let others = exports.best(importer, &name, |_| true);
        if others.is_empty() {
            return Choice::Nobody;
        }
        if needs.functions {
            return Choice::Forbidden(guests(&others));
        }
        // Who is only handed somebody's resources on calls nobody.
        best = others;
    }
    match best[..] {
        [export] => Choice::Export(export),
        ref several => Choice::Several(guests(several)),
    }
}

/// Finds out which resources of the guests are the same, and gives each that a
/// guest defines a number.
fn identify(
    engine: &Engine,
    guests: &mut [Guest<'_>],
    exports: &Exports,
    allowed: &Allowed,
) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut found = Vec::new();
    for (index, guest) in guests.iter().enumerate() {
        for (ty, name, origin) in guest.resources.all() {
            if let Origin::Export(export) = origin {
                found.push((index, ty, kinds.len()));
                kinds.push(Kind {
                    owner: index,
                    export: export.clone(),
                    name: name.to_owned(),
                });
            }
        }
    }
    let own = found.len();
    for (index, guest) in guests.iter().enumerate() {
        for (ty, _, origin) in guest.resources.all() {
            if matches!(origin, Origin::Import(_))
                && let Some((owner, defined)) =
                    defined(engine, guests, exports, allowed, (index, ty))
                && let Some((.., kind)) = found[..own]
                    .iter()
                    .find(|(guest, ty, _)| (*guest, *ty) == (owner, defined))
            {
                found.push((index, ty, *kind));
            }
        }
    }
    for (index, ty, kind) in found {
        let number = u32::try_from(kind).expect("components are not that many");
        let owner = guests[kinds[kind].owner].name;
        let resources = &mut guests[index].resources;
        resources.identify(ty, Identity::Guest(number), Some(owner));
    }
    kinds
}

/// Follows a resource type, from guest to guest, to the one that defines it.
fn defined(
    engine: &Engine,
    guests: &[Guest<'_>],
    exports: &Exports,
    allowed: &Allowed,
    (mut index, mut ty): (usize, ResourceType),
) -> Option<(usize, ResourceType)> {
    // A longer way has a guest twice, each of which might have it from the other.
    for _ in 0..=guests.len() {
        let guest = &guests[index];
        let import = match guest.resources.origin(ty)? {
            Origin::Host => return None,
            Origin::Export(_) => return Some((index, ty)),
            Origin::Import(import) => import,
        };
        let ComponentItem::ComponentInstance(instance) = guest.ty.get_import(engine, import)?.ty
        else {
            return None;
        };
        let needs = Needs::of(engine, guest, import, &instance);
        let Choice::Export(export) = choose(exports, allowed, index, import, needs) else {
            return None;
        };
        let name = guest.resources.name(ty);
        match export.instance.get_export(engine, name)?.ty {
            ComponentItem::Resource(other) => (index, ty) = (export.guest, other),
            _ => return None,
        }
    }
    None
}

/// A plan in the making.
struct Planner<'a> {
    engine: &'a Engine,
    guests: &'a [Guest<'a>],
    exports: Exports,
    allowed: &'a Allowed,
    plan: Plan,
    errors: Vec<LinkError>,
    hints: Hints,
}

impl Planner<'_> {
    /// Links all imports of one guest that the host does not meet, and says who
    /// serves each import.
    fn imports<T: 'static>(&mut self, importer: usize, offers: &mut Offers<T>) -> Vec<Import> {
        let guest = &self.guests[importer];
        let mut imports = Vec::new();
        for (import, item) in guest.ty.imports(self.engine) {
            let mut served = |(functions, resources), provider| {
                imports.push(Import {
                    name: import.to_owned(),
                    functions,
                    resources,
                    provider,
                });
            };
            let refusal = match item.ty {
                ComponentItem::ComponentInstance(instance) => {
                    let provider = if offers.offered(import) {
                        Provider::Host
                    } else {
                        let host = offers.nearest(import);
                        self.import(importer, import, &instance, host)
                    };
                    let functions = interfaces::functions(self.engine, &instance);
                    let resources = interfaces::resources(self.engine, &instance);
                    served((functions, resources), provider);
                    continue;
                }
                // A type by itself needs nobody who exports it.
                ComponentItem::Type(_) => continue,
                ComponentItem::Resource(ty)
                    if guest.resources.origin(ty).is_some_and(Origin::is_imported) =>
                {
                    continue;
                }
                ComponentItem::Resource(_) => Refusal::Kind { kind: "resource" },
                ComponentItem::ComponentFunc(_) => Refusal::Bare,
                ComponentItem::CoreFunc(_) => Refusal::Kind {
                    kind: "core function",
                },
                ComponentItem::Module(_) => Refusal::Kind { kind: "module" },
                ComponentItem::Component(_) => Refusal::Kind { kind: "component" },
            };
            served((Vec::new(), Vec::new()), Provider::Refused);
            self.errors.push(LinkError::Refused {
                guest: guest.name.to_owned(),
                import: import.to_owned(),
                function: None,
                refusal,
            });
        }
        imports
    }

    /// Links one imported interface, and says who serves it.
    fn import(
        &mut self,
        importer: usize,
        import: &str,
        instance: &ComponentInstance,
        host: Option<String>,
    ) -> Provider {
        let guests = self.guests;
        let guest = &guests[importer];
        let refuse = |function: Option<&str>, refusal| LinkError::Refused {
            guest: guest.name.to_owned(),
            import: import.to_owned(),
            function: function.map(str::to_owned),
            refusal,
        };

        let name = Name::parse(import);
        let mut functions = Vec::new();
        let mut resources = Vec::new();
        for (item_name, item) in instance.exports(self.engine) {
            match item.ty {
                ComponentItem::ComponentFunc(ty) => functions.push((item_name, ty)),
                ComponentItem::Type(_) => {}
                ComponentItem::Resource(ty) => resources.push((item_name, ty)),
                _ => {
                    let kind = "nested item";
                    self.errors.push(refuse(None, Refusal::Kind { kind }));
                    return Provider::Refused;
                }
            }
        }
        let names = |guests: &[usize]| -> Vec<String> {
            let names = guests.iter().map(|guest| self.guests[*guest].name);
            names.map(str::to_owned).collect()
        };
        let needs = Needs::of(self.engine, guest, import, instance);
        let export = match choose(&self.exports, self.allowed, importer, import, needs) {
            Choice::Types => return Provider::Types,
            Choice::Export(export) => export,
            Choice::Nobody => {
                let error = self.missing(importer, import, host);
                self.errors.push(error);
                return Provider::Nobody;
            }
            Choice::Forbidden(others) => {
                let others = names(&others);
                self.errors.push(LinkError::Forbidden {
                    guest: guest.name.to_owned(),
                    import: import.to_owned(),
                    exporters: others.clone(),
                });
                return Provider::Forbidden(others);
            }
            Choice::Several(several) => {
                let exporters = names(&several);
                self.errors.push(LinkError::Ambiguous {
                    guest: guest.name.to_owned(),
                    import: import.to_owned(),
                    exporters: exporters.clone(),
                });
                return Provider::Ambiguous(exporters);
            }
        };

        let exporter = &guests[export.guest];
        let mut link = Link {
            importer,
            import: import.to_owned(),
            exporter: export.guest,
            export: export.name.clone(),
            functions: Vec::new(),
            resources: Vec::new(),
        };
        let known = self.errors.len();
        for (resource, ty) in resources {
            match guest.resources.identity(ty) {
                Identity::Guest(kind) => link.resources.push((resource.to_owned(), kind)),
                Identity::Unknown if guest.defines(import, ty) => {
                    self.errors.push(LinkError::NoResource {
                        importer: guest.name.to_owned(),
                        import: import.to_owned(),
                        resource: resource.to_owned(),
                        exporter: exporter.name.to_owned(),
                        export: export.name.clone(),
                    });
                }
                // What is used from another interface is seen to there.
                Identity::Unknown | Identity::Region => {}
            }
        }
        if self.errors.len() > known {
            return Provider::Unfit(exporter.name.to_owned());
        }
        for (function, ty) in functions {
            if let Some(refusal) = refused(&guest.resources, &ty) {
                self.errors.push(refuse(Some(function), refusal));
                continue;
            }
            let item = export.instance.get_export(self.engine, function);
            let Some(ComponentItem::ComponentFunc(exported)) = item.map(|item| item.ty) else {
                self.errors.push(LinkError::NoFunction {
                    importer: guest.name.to_owned(),
                    import: import.to_owned(),
                    function: function.to_owned(),
                    exporter: exporter.name.to_owned(),
                    export: export.name.clone(),
                    near: near_function(self.engine, &export.instance, function, &mut self.hints),
                });
                continue;
            };
            let difference =
                compare::functions((&guest.resources, &ty), (&exporter.resources, &exported));
            if let Some(difference) = difference {
                self.errors.push(LinkError::Mismatch {
                    importer: guest.name.to_owned(),
                    import: import.to_owned(),
                    function: function.to_owned(),
                    exporter: exporter.name.to_owned(),
                    imported: print::function(&guest.resources, &ty),
                    exported: print::function(&exporter.resources, &exported),
                    difference,
                });
                continue;
            }
            let error_slot = ErrorSlot::of(&ty);
            if error_slot.is_none() {
                self.plan.warnings.push(Warning {
                    importer: guest.name.to_owned(),
                    exporter: exporter.name.to_owned(),
                    function: format!("{}.{function}", name.path),
                });
            }
            link.functions.push(Function {
                name: function.to_owned(),
                handles: passes_handles(&ty),
                ty,
                error_slot,
            });
        }
        if self.errors.len() > known {
            return Provider::Unfit(exporter.name.to_owned());
        }
        self.plan.links.push(link);
        Provider::Guest(exporter.name.to_owned())
    }

    /// Says that nobody serves `import`. `host` is the version of it that the
    /// host offers.
    fn missing(&mut self, importer: usize, import: &str, host: Option<String>) -> LinkError {
        let name = Name::parse(import);
        let guest = self.guests[importer].name.to_owned();
        let import = import.to_owned();
        match host {
            Some(offered) => LinkError::HostVersion {
                guest,
                import,
                offered,
            },
            None if name.is_hosts() => LinkError::HostLacks { guest, import },
            None => LinkError::Missing {
                near: self
                    .exports
                    .near(importer, &name, self.guests, &mut self.hints),
                guest,
                import,
            },
        }
    }

    /// Lets the engine check one guest's imports against the host, with all
    /// that other guests serve to it left to the plan.
    fn check_host<T: 'static>(
        &self,
        linker: &Linker<T>,
        importer: usize,
        component: &Component,
    ) -> wasmtime::Result<()> {
        let mut linker = linker.clone();
        for link in &self.plan.links {
            if link.importer != importer {
                continue;
            }
            let mut instance = linker.instance(&link.import)?;
            for (resource, kind) in &link.resources {
                instance.resource(resource, ResourceType::host_dynamic(*kind), |_, _| Ok(()))?;
            }
            for function in &link.functions {
                // Never called: this linker makes no instance.
                instance.func_new(&function.name, |_, _, _, _| bail!("not linked"))?;
            }
        }
        linker.substituted_component_type(component)?;
        Ok(())
    }
}

/// Says why no guest can offer a function of this type to another.
fn refused(resources: &Resources, ty: &ComponentFunc) -> Option<Refusal> {
    if ty.async_() {
        return Some(Refusal::Async);
    }
    visit::function(ty, |ty, at| {
        let at = at.to_owned();
        Some(match ty {
            Type::Own(handle) | Type::Borrow(handle)
                if resources.identity(*handle) == Identity::Unknown =>
            {
                Refusal::Handle {
                    resource: resources.describe(*handle),
                    at,
                }
            }
            Type::Future(_) => Refusal::Value {
                value: "future",
                at,
            },
            Type::Stream(_) => Refusal::Value {
                value: "stream",
                at,
            },
            Type::ErrorContext => Refusal::Value {
                value: "error-context",
                at,
            },
            _ => return None,
        })
    })
}

/// Whether any handle passes. [`refused`] has seen to it that it may.
fn passes_handles(ty: &ComponentFunc) -> bool {
    visit::function(ty, |ty, _| {
        matches!(ty, Type::Own(_) | Type::Borrow(_)).then_some(())
    })
    .is_some()
}

/// Finds the function that whoever wrote `name` may have meant.
fn near_function(
    engine: &Engine,
    instance: &ComponentInstance,
    name: &str,
    hints: &mut Hints,
) -> Option<String> {
    let functions = instance
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
        .map(|(other, _)| (other, other));
    hints.nearest(name, functions, 0.7).map(str::to_owned)
}
