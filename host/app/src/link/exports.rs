//! The interfaces that guests export.

use std::collections::BTreeMap;

use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

use super::name::Name;
use super::{ExaminedGuests, NearestExport};
use crate::near::Hints;
use tombolo_exchange::GuestId;

/// The exported interfaces of all guests, by their name without the version.
pub(super) struct ExportIndex {
    by_path: BTreeMap<String, Vec<ExportedInterface>>,
}

/// One exported interface.
pub(super) struct ExportedInterface {
    pub(super) guest: GuestId,
    pub(super) name: String,
    pub(super) instance: ComponentInstance,
}

impl ExportIndex {
    pub(super) fn of(engine: &Engine, guests: &ExaminedGuests<'_>) -> Self {
        let mut by_path: BTreeMap<String, Vec<ExportedInterface>> = BTreeMap::new();
        for (id, guest) in guests {
            for (name, item) in guest.ty.exports(engine) {
                if let ComponentItem::ComponentInstance(instance) = item.ty {
                    let path = Name::parse(name).path.to_owned();
                    by_path.entry(path).or_default().push(ExportedInterface {
                        guest: *id,
                        name: name.to_owned(),
                        instance,
                    });
                }
            }
        }
        Self { by_path }
    }

    /// Returns the allowed guests that export the best version of `import`, ideally one. A guest
    /// never serves its own imports.
    pub(super) fn best(
        &self,
        importer: GuestId,
        import: &Name<'_>,
        allowed: impl Fn(GuestId) -> bool,
    ) -> Vec<&ExportedInterface> {
        let mut best: Vec<&ExportedInterface> = Vec::new();
        for export in self.by_path.get(import.path).into_iter().flatten() {
            let name = Name::parse(&export.name);
            if export.guest == importer || !allowed(export.guest) || !import.accepts(&name) {
                continue;
            }
            let order = best
                .first()
                .map(|other| import.prefers(&name, &Name::parse(&other.name)));
            match order {
                Some(std::cmp::Ordering::Less) => {}
                Some(std::cmp::Ordering::Equal) => best.push(export),
                Some(std::cmp::Ordering::Greater) | None => best = vec![export],
            }
        }
        best
    }

    /// Finds the export that is most similar to `import`.
    pub(super) fn near(
        &self,
        importer: GuestId,
        import: &Name<'_>,
        guests: &ExaminedGuests<'_>,
        hints: &mut Hints,
    ) -> Option<NearestExport> {
        let here = self.by_path.get(import.path).into_iter().flatten();
        if let Some(export) =
            here.max_by_key(|export| (export.guest != importer, Name::parse(&export.name).version))
        {
            return Some(if export.guest == importer {
                NearestExport::Itself
            } else {
                NearestExport::Version {
                    guest: guests[&export.guest].name.to_owned(),
                    export: export.name.clone(),
                }
            });
        }
        let others = self.by_path.iter().filter_map(|(path, exports)| {
            let export = exports.iter().find(|export| export.guest != importer)?;
            Some((path.as_str(), export))
        });
        let nearest = hints.nearest(import.path, others, 0.8);
        nearest.map(|export| NearestExport::Name {
            guest: guests[&export.guest].name.to_owned(),
            export: export.name.clone(),
        })
    }
}
