//! Which guests export what.

use std::collections::BTreeMap;

use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

use super::name::Name;
use super::{Guest, Near};
use crate::near::Hints;

/// The interfaces that the guests export, by their name without version.
pub(super) struct Exports {
    by_path: BTreeMap<String, Vec<Export>>,
}

/// One exported interface.
pub(super) struct Export {
    pub(super) guest: usize,
    pub(super) name: String,
    pub(super) instance: ComponentInstance,
}

impl Exports {
    pub(super) fn of(engine: &Engine, guests: &[Guest<'_>]) -> Self {
        let mut by_path: BTreeMap<String, Vec<Export>> = BTreeMap::new();
        for (index, guest) in guests.iter().enumerate() {
            for (name, item) in guest.ty.exports(engine) {
                if let ComponentItem::ComponentInstance(instance) = item.ty {
                    let path = Name::parse(name).path.to_owned();
                    by_path.entry(path).or_default().push(Export {
                        guest: index,
                        name: name.to_owned(),
                        instance,
                    });
                }
            }
        }
        Self { by_path }
    }

    /// Finds who serves `import` to the guest `importer`: those of the allowed
    /// guests who export the best version of it, of which there should be one. A
    /// guest never serves itself.
    pub(super) fn best(
        &self,
        importer: usize,
        import: &Name<'_>,
        allowed: impl Fn(usize) -> bool,
    ) -> Vec<&Export> {
        let mut best: Vec<&Export> = Vec::new();
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

    /// Finds the export that whoever wrote `import` may have meant.
    pub(super) fn near(
        &self,
        importer: usize,
        import: &Name<'_>,
        guests: &[Guest<'_>],
        hints: &mut Hints,
    ) -> Option<Near> {
        let here = self.by_path.get(import.path).into_iter().flatten();
        if let Some(export) =
            here.max_by_key(|export| (export.guest != importer, Name::parse(&export.name).version))
        {
            return Some(if export.guest == importer {
                Near::Itself
            } else {
                Near::Version {
                    guest: guests[export.guest].name.to_owned(),
                    export: export.name.clone(),
                }
            });
        }
        let others = self.by_path.iter().filter_map(|(path, exports)| {
            let export = exports.iter().find(|export| export.guest != importer)?;
            Some((path.as_str(), export))
        });
        let nearest = hints.nearest(import.path, others, 0.8);
        nearest.map(|export| Near::Name {
            guest: guests[export.guest].name.to_owned(),
            export: export.name.clone(),
        })
    }
}
