//! Plans how the guests of an app are linked.
//!
//! An import is served by the host if the host offers it. Otherwise it is served by another
//! guest that exports the same interface in a compatible version. Nothing is instantiated here:
//! [`examine`] looks at types only. It returns what to define in each guest's linker, and every
//! error at once. `AppBuilder::check` reports these, and `start` refuses by the same list.
//!
//! # What is compared
//!
//! Types are compared when linking, for all guests at once. All plain values of WIT pass between
//! guests, and handles to regions and to resources that guests define, at any depth. Interfaces
//! that pass other resources of the host are refused, because such a resource belongs to one
//! store. So are streams and futures whose items have no static type in the host.
//!
//! # Allowed calls
//!
//! If the app restricts calls, as a manifest always does, an import is linked only to guests that
//! its guest may call. If only other guests export it, that is an error of its own, so that
//! nothing is linked behind the operator's back.
//!
//! | file | contents |
//! |---|---|
//! | `planner` | one link for each import, or the errors |
//! | `identify` | which resources of different guests are the same |
//! | `exports` | the exported interfaces by name |
//! | `offer` | what the host offers |
//! | `resources` | the resource types of one component |
//! | `compare`, `visit`, `print` | walks over types: the first difference, all parts, WIT text |
//! | `error_slot` | how a caller learns of a failed callee |
//! | `entry` | which guests are commands |
//! | `tasks` | which guests have async functions |
//! | `name` | interface names and their versions |
//! | `error`, `interfaces` | what users are shown |

mod compare;
mod entry;
mod error;
mod error_slot;
mod exports;
mod identify;
mod interfaces;
mod name;
mod offer;
mod payload;
mod planner;
mod print;
mod resources;
mod tasks;
mod visit;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use wasmtime::component::types::{self, ComponentFunc};
use wasmtime::component::{Component, Linker, ResourceType};

pub(crate) use self::entry::{entries, misfit, near_entries, runs_async};
pub use self::error::{Difference, LinkError, LinkErrors, NearestExport, UnsupportedImport};
pub(crate) use self::error_slot::ErrorSlot;
pub use self::error_slot::LinkWarning;
use self::exports::ExportIndex;
use self::identify::identify;
pub use self::interfaces::{Export, Import, Interfaces, Provider};
use self::offer::Offers;
use self::planner::Planner;
use self::resources::{Origin, Resources};
pub(crate) use self::tasks::has_tasks;
use crate::text;
use tombolo_exchange::GuestId;

/// A guest to link: its identity and its name in the app, and its component.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) id: GuestId,
    /// The guest's name, for messages.
    pub(crate) name: &'a str,
    /// The guest's component.
    pub(crate) component: &'a Component,
}

/// The links between the guests of an app.
#[derive(Debug)]
pub(crate) struct LinkPlan {
    /// The imports that other guests serve.
    pub(crate) links: Vec<Link>,
    /// The resources that guests define. Links refer to them by their index.
    pub(crate) resources: Vec<ResourceDef>,
    /// Functions that work, but cannot report a failure.
    pub(crate) warnings: Vec<LinkWarning>,
}

/// One imported interface, and the guest that serves it.
#[derive(Debug)]
pub(crate) struct Link {
    /// The importing guest.
    pub(crate) importer: GuestId,
    /// The name of the import, to be defined in the importer's linker.
    pub(crate) import: String,
    /// The exporting guest.
    pub(crate) exporter: GuestId,
    /// The name of the export in the exporter's instance. Its version may differ from the
    /// import's.
    pub(crate) export: String,
    /// The functions that the importer imports. The exporter has all of them, with the same
    /// types.
    pub(crate) functions: Vec<LinkedFunction>,
    /// The resources that the interface contains, each with its index in the plan.
    pub(crate) resources: Vec<(String, u32)>,
}

/// A resource that a guest defines and exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceDef {
    /// The guest.
    pub(crate) owner: GuestId,
    /// The name of an exported interface that contains it.
    pub(crate) export: String,
    /// Its name in that interface.
    pub(crate) name: String,
}

/// One function of a [`Link`].
#[derive(Debug)]
pub(crate) struct LinkedFunction {
    /// The function's name in both interfaces.
    pub(crate) name: String,
    /// The function's type in the importer, whose resource types are not substituted.
    pub(crate) ty: ComponentFunc,
    /// Whether a handle can pass, in an argument or in the result.
    pub(crate) handles: bool,
    /// Whether all handles that can pass are handles to regions.
    pub(crate) only_regions: bool,
    /// The place in the result by which the caller learns that the callee failed.
    pub(crate) error_slot: Option<ErrorSlot>,
}

/// A part, with what is known about its types.
struct ExaminedGuest<'a> {
    name: &'a str,
    ty: types::Component,
    resources: Resources,
}

/// The guests of an app, or those of them whose components could be read.
type ExaminedGuests<'a> = BTreeMap<GuestId, ExaminedGuest<'a>>;

impl ExaminedGuest<'_> {
    /// Returns whether, in this guest's view, `import` defines the resource.
    fn defines(&self, import: &str, ty: ResourceType) -> bool {
        matches!(self.resources.origin(ty), Some(Origin::Import(origin)) if origin == import)
    }
}

/// The pairs of caller and callee that the app allows. `None` allows all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(pub(crate) Option<Vec<(GuestId, GuestId)>>);

impl Allowed {
    fn call(&self, from: GuestId, to: GuestId) -> bool {
        let Allowed(calls) = self;
        calls
            .as_ref()
            .is_none_or(|calls| calls.contains(&(from, to)))
    }
}

/// The result of [`examine`].
#[derive(Debug)]
pub(crate) struct Examined {
    /// The links, as far as guests can be linked.
    pub(crate) plan: LinkPlan,
    /// Everything that keeps guests from being linked.
    pub(crate) errors: Vec<LinkError>,
    /// The imports and exports of each guest.
    pub(crate) interfaces: Vec<Interfaces>,
}

/// Plans the links between `parts`.
///
/// `linker` defines what the host offers to each of them, `wasi:*` and `tombolo:*`, and takes
/// precedence over other guests.
pub(crate) fn examine<T: 'static>(
    linker: &Linker<T>,
    parts: &[Part<'_>],
    allowed: &Allowed,
) -> Examined {
    let engine = linker.engine();
    let mut offers = Offers::new(linker);
    let mut guests: ExaminedGuests<'_> = parts
        .iter()
        .map(|part| {
            let ty = part.component.component_type();
            let resources = Resources::of(engine, &ty, &mut offers);
            let guest = ExaminedGuest {
                name: part.name,
                ty,
                resources,
            };
            (part.id, guest)
        })
        .collect();
    let exports = ExportIndex::of(engine, &guests);
    let resources = identify(engine, &mut guests, &exports, allowed);
    let mut planner = Planner::new(engine, &guests, &exports, allowed, resources);
    let mut imports = Vec::new();
    for part in parts {
        let known = planner.errors.len();
        imports.push((part, planner.imports(part.id, &mut offers)));
        // The engine checks the host's part. It stops at the first import that is not defined,
        // so it is asked only if all imports from guests are.
        if planner.errors.len() == known
            && let Err(error) = planner.check_host(linker, part.id, part.component)
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
        .map(|(part, imports)| Interfaces {
            guest: part.name.to_owned(),
            command: commands.iter().any(|(command, _)| command.id == part.id),
            imports,
            exports: interfaces::exports(engine, &guests, part.id, &plan.links),
        })
        .collect();
    Examined {
        plan,
        errors,
        interfaces,
    }
}
