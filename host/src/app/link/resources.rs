//! The resource types that a component knows, by name.

use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{self, ComponentItem};

use super::name::Name;
use super::offer::Offers;

/// The interface that has the resource `region`.
const REGIONS: &str = "tombolo:memory/regions";
const REGION: &str = "region";

/// How many resource types are known at most. WASI has about twenty; what goes
/// beyond this is refused as unknown, so that no component makes a linear
/// search long.
const MOST: usize = 256;

/// The resource types that one component imports from the host.
///
/// A component's type, before it is instantiated, has numbers for resources;
/// the first import that shows one is the one that defines it. The host alone
/// serves resources, so what it does not offer is not in here.
pub(super) struct Resources {
    known: Vec<Resource>,
}

struct Resource {
    ty: ResourceType,
    name: String,
    interface: String,
}

impl Resources {
    /// Collects them from what `component` imports and the host offers.
    pub(super) fn of_imports<T: 'static>(
        engine: &Engine,
        component: &types::Component,
        offers: &mut Offers<T>,
    ) -> Self {
        let mut resources = Self { known: Vec::new() };
        for (import, item) in component.imports(engine) {
            let ComponentItem::ComponentInstance(instance) = item.ty else {
                continue;
            };
            if !offers.offered(import) {
                continue;
            }
            for (name, item) in instance.exports(engine) {
                if let ComponentItem::Resource(ty) = item.ty
                    && !resources.knows(ty)
                    && resources.known.len() < MOST
                {
                    resources.known.push(Resource {
                        ty,
                        name: name.to_owned(),
                        interface: Name::parse(import).path.to_owned(),
                    });
                }
            }
        }
        resources
    }

    /// Whether the host serves this resource type.
    pub(super) fn knows(&self, ty: ResourceType) -> bool {
        self.find(ty).is_some()
    }

    /// Whether this is Tombolo's `region`.
    pub(super) fn is_region(&self, ty: ResourceType) -> bool {
        self.find(ty)
            .is_some_and(|known| known.interface == REGIONS && known.name == REGION)
    }

    /// The name of the type, as WIT writes it.
    pub(super) fn name(&self, ty: ResourceType) -> &str {
        self.find(ty).map_or("resource", |known| &known.name)
    }

    /// The name of the type with its interface, for diagnoses.
    pub(super) fn describe(&self, ty: ResourceType) -> String {
        match self.find(ty) {
            Some(known) => format!("`{}` of `{}`", known.name, known.interface),
            None => "a resource of a guest's own".to_owned(),
        }
    }

    fn find(&self, ty: ResourceType) -> Option<&Resource> {
        self.known.iter().find(|known| known.ty == ty)
    }
}
