//! The resource types that a component imports and exports.

use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{self, ComponentInstance, ComponentItem};

use super::name::Name;
use super::offer::Offers;

/// The interface that defines the resource `region`.
const REGIONS: &str = "tombolo:memory/regions";
const REGION: &str = "region";

/// The most resource types of a component that are known. Further ones are refused as unknown, so
/// that linear searches stay short. WASI has about twenty.
const MOST: usize = 256;

/// The resource types that one component imports and exports.
///
/// The type of a component that is not instantiated numbers its resources. The first import that
/// contains a resource is the one that defines it. A resource that only exports contain is defined
/// by the component itself.
pub(super) struct Resources {
    known: Vec<Resource>,
}

struct Resource {
    ty: ResourceType,
    name: String,
    interface: String,
    origin: Origin,
    identity: Identity,
    /// The name of the guest that defines it.
    owner: Option<String>,
}

/// The origin of a resource type in a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The host.
    Host,
    /// The guest that serves the import of this name.
    Import(String),
    /// The component itself, which exports it in the interface of this name.
    Export(String),
}

impl Origin {
    pub(super) fn is_imported(&self) -> bool {
        !matches!(self, Self::Export(_))
    }
}

/// The identity of a resource type. Types of two components are the same if it is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Not known: the type is equal to no other.
    Unknown,
    /// Tombolo's `region`.
    Region,
    /// The resource of a guest with this number: an index into the plan.
    Guest(u32),
}

impl Resources {
    /// Returns the resources of a component that has none.
    pub(super) fn none() -> Self {
        Self { known: Vec::new() }
    }

    /// Collects the resource types of a component.
    pub(super) fn of<T: 'static>(
        engine: &Engine,
        component: &types::Component,
        offers: &mut Offers<T>,
    ) -> Self {
        let mut resources = Self::none();
        for (import, item) in component.imports(engine) {
            if let ComponentItem::ComponentInstance(instance) = item.ty {
                let origin = match offers.offered(import) {
                    true => Origin::Host,
                    false => Origin::Import(import.to_owned()),
                };
                resources.add(engine, import, &instance, &origin);
            }
        }
        for (export, item) in component.exports(engine) {
            if let ComponentItem::ComponentInstance(instance) = item.ty {
                let origin = Origin::Export(export.to_owned());
                resources.add(engine, export, &instance, &origin);
            }
        }
        resources
    }

    fn add(
        &mut self,
        engine: &Engine,
        interface: &str,
        instance: &ComponentInstance,
        origin: &Origin,
    ) {
        let interface = Name::parse(interface).path;
        for (name, item) in instance.exports(engine) {
            if let ComponentItem::Resource(ty) = item.ty
                && self.find(ty).is_none()
                && self.known.len() < MOST
            {
                let is_region = *origin == Origin::Host && interface == REGIONS && name == REGION;
                self.known.push(Resource {
                    ty,
                    name: name.to_owned(),
                    interface: interface.to_owned(),
                    origin: origin.clone(),
                    identity: match is_region {
                        true => Identity::Region,
                        false => Identity::Unknown,
                    },
                    owner: None,
                });
            }
        }
    }

    /// Returns the type, name and origin of each resource.
    pub(super) fn all(&self) -> impl Iterator<Item = (ResourceType, &str, &Origin)> {
        let known = self.known.iter();
        known.map(|known| (known.ty, &*known.name, &known.origin))
    }

    /// Sets the identity of a type, and the guest that defines it.
    pub(super) fn identify(&mut self, ty: ResourceType, identity: Identity, owner: Option<&str>) {
        if let Some(known) = self.known.iter_mut().find(|known| known.ty == ty) {
            known.identity = identity;
            known.owner = owner.map(str::to_owned);
        }
    }

    /// Returns the origin of a type, if it is known.
    pub(super) fn origin(&self, ty: ResourceType) -> Option<&Origin> {
        self.find(ty).map(|known| &known.origin)
    }

    /// Returns the identity of a type.
    pub(super) fn identity(&self, ty: ResourceType) -> Identity {
        self.find(ty)
            .map_or(Identity::Unknown, |known| known.identity)
    }

    /// Returns the name of a type in WIT.
    pub(super) fn name(&self, ty: ResourceType) -> &str {
        self.find(ty).map_or("resource", |known| &known.name)
    }

    /// Returns the name of a type with its interface, for messages.
    pub(super) fn describe(&self, ty: ResourceType) -> String {
        match self.find(ty) {
            Some(known) => {
                let owner = match &known.owner {
                    Some(owner) => format!(", of guest `{owner}`"),
                    None => String::new(),
                };
                format!("`{}` of `{}`{owner}", known.name, known.interface)
            }
            None => "a resource that no interface names".to_owned(),
        }
    }

    fn find(&self, ty: ResourceType) -> Option<&Resource> {
        self.known.iter().find(|known| known.ty == ty)
    }
}
