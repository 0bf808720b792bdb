//! Finds the guest that serves an import, and which resources of different guests are the same.
//!
//! A resource type that a guest exports without importing it is the guest's own, and gets a
//! number: its index in [`LinkPlan::resources`](super::LinkPlan). An imported one is followed to
//! the guest that serves the import, from guest to guest. Types are equal if their numbers are.
//!
//! In the linkers of other guests the resource is one of the host's, with the type
//! [`ResourceType::host_dynamic`] of that number. So the engine itself keeps them apart. A
//! resource that comes from one guest in one interface, and from another guest in the next, does
//! not match.

use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

use super::exports::{ExportIndex, ExportedInterface};
use super::name::Name;
use super::resources::{Identity, Origin};
use super::{Allowed, ExaminedGuest, ExaminedGuests, ResourceDef};
use tombolo_exchange::GuestId;

/// The items of an import for which it needs an exporter.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    functions: bool,
    resources: bool,
}

impl Needs {
    pub(super) fn of(
        engine: &Engine,
        guest: &ExaminedGuest<'_>,
        import: &str,
        instance: &ComponentInstance,
    ) -> Self {
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

/// The exporter of an import, or why there is none.
pub(super) enum ExporterChoice<'a> {
    /// The interface consists of types, which need no exporter.
    Types,
    /// One export fits best.
    Export(&'a ExportedInterface),
    /// Several guests have equally good exports.
    Several(Vec<GuestId>),
    /// Only these guests export it, and the importer may not call them.
    Forbidden(Vec<GuestId>),
    /// No other guest exports it.
    Nobody,
}

/// Finds the guest that serves an import of `importer`.
pub(super) fn choose<'a>(
    exports: &'a ExportIndex,
    allowed: &Allowed,
    importer: GuestId,
    import: &str,
    needs: Needs,
) -> ExporterChoice<'a> {
    if !needs.functions && !needs.resources {
        return ExporterChoice::Types;
    }
    let name = Name::parse(import);
    let guests = |exports: &[&ExportedInterface]| exports.iter().map(|it| it.guest).collect();
    let mut best = exports.best(importer, &name, |to| allowed.call(importer, to));
    if best.is_empty() {
        let others = exports.best(importer, &name, |_| true);
        if others.is_empty() {
            return ExporterChoice::Nobody;
        }
        if needs.functions {
            return ExporterChoice::Forbidden(guests(&others));
        }
        // A guest that only passes resources on calls nobody, so it needs no permission.
        best = others;
    }
    match best[..] {
        [export] => ExporterChoice::Export(export),
        ref several => ExporterChoice::Several(guests(several)),
    }
}

/// Numbers the resources that guests define, and notes in each guest which of its resource types
/// has which number.
pub(super) fn identify(
    engine: &Engine,
    guests: &mut ExaminedGuests<'_>,
    exports: &ExportIndex,
    allowed: &Allowed,
) -> Vec<ResourceDef> {
    let mut defs = Vec::new();
    let mut found = Vec::new();
    for (id, guest) in &*guests {
        for (ty, name, origin) in guest.resources.all() {
            if let Origin::Export(export) = origin {
                found.push((*id, ty, defs.len()));
                defs.push(ResourceDef {
                    owner: *id,
                    export: export.clone(),
                    name: name.to_owned(),
                });
            }
        }
    }
    let own = found.len();
    for (id, guest) in &*guests {
        for (ty, _, origin) in guest.resources.all() {
            if matches!(origin, Origin::Import(_))
                && let Some((owner, defined)) =
                    definition(engine, guests, exports, allowed, (*id, ty))
                && let Some((.., def)) = found[..own]
                    .iter()
                    .find(|(guest, ty, _)| (*guest, *ty) == (owner, defined))
            {
                found.push((*id, ty, *def));
            }
        }
    }
    for (id, ty, def) in found {
        let number = u32::try_from(def).expect("at most 256 resources per guest");
        let owner = guests[&defs[def].owner].name;
        if let Some(guest) = guests.get_mut(&id) {
            let identity = Identity::Guest(number);
            guest.resources.identify(ty, identity, Some(owner));
        }
    }
    defs
}

/// Follows a resource type, from guest to guest, to the one that defines it.
fn definition(
    engine: &Engine,
    guests: &ExaminedGuests<'_>,
    exports: &ExportIndex,
    allowed: &Allowed,
    (mut id, mut ty): (GuestId, ResourceType),
) -> Option<(GuestId, ResourceType)> {
    // A longer path visits a guest twice: a cycle in which no guest defines the resource.
    for _ in 0..=guests.len() {
        let guest = &guests[&id];
        let import = match guest.resources.origin(ty)? {
            Origin::Host => return None,
            Origin::Export(_) => return Some((id, ty)),
            Origin::Import(import) => import,
        };
        let ComponentItem::ComponentInstance(instance) = guest.ty.get_import(engine, import)?.ty
        else {
            return None;
        };
        let needs = Needs::of(engine, guest, import, &instance);
        let ExporterChoice::Export(export) = choose(exports, allowed, id, import, needs) else {
            return None;
        };
        let name = guest.resources.name(ty);
        match export.instance.get_export(engine, name)?.ty {
            ComponentItem::Resource(other) => (id, ty) = (export.guest, other),
            _ => return None,
        }
    }
    None
}
