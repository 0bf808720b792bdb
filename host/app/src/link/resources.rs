//! The resource types that a component knows, and which of them are the same.

use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{self, ComponentInstance, ComponentItem};

use super::name::Name;
use super::offer::Offers;

/// The interface that has the resource `region`.
const REGIONS: &str = "tombolo:memory/regions";
const REGION: &str = "region";

/// How many resource types are known at most. WASI has about twenty; what goes
/// beyond this is refused as unknown, so that no component makes a linear
/// search long.
const MOST: usize = 256;

/// The resource types that one component imports and exports.
///
/// A component's type, before it is instantiated, has numbers for resources;
/// the first import that shows one is the one that defines it. What no import
/// shows, and an export does, the component defines itself.
pub(super) struct Resources {
    known: Vec<Resource>,
}

struct Resource {
    ty: ResourceType,
    name: String,
    interface: String,
    origin: Origin,
    identity: Identity,
    /// The guest that defines it, if it is another.
    owner: Option<String>,
}

/// Where a component has a resource type from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The host.
    Host,
    /// Whoever serves the import of this name.
    Import(String),
    /// It defines it itself, and exports it by this name.
    Export(String),
}

impl Origin {
    pub(super) fn is_imported(&self) -> bool {
        !matches!(self, Self::Export(_))
    }
}

/// What makes resource types of two components the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nothing known: like no other.
    Unknown,
    /// Tombolo's `region`.
    Region,
    /// The resource of a guest that has this number in the plan.
    Guest(u32),
}

impl Resources {
    /// Of a component of which no resource is known.
    pub(super) fn none() -> Self {
        Self { known: Vec::new() }
    }

    /// Collects them.
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

    /// All of them: type, name, and where the component has it from.
    pub(super) fn all(&self) -> impl Iterator<Item = (ResourceType, &str, &Origin)> {
        let known = self.known.iter();
        known.map(|known| (known.ty, &*known.name, &known.origin))
    }

    /// Notes whose the type is.
    pub(super) fn identify(&mut self, ty: ResourceType, identity: Identity, owner: Option<&str>) {
        if let Some(known) = self.known.iter_mut().find(|known| known.ty == ty) {
            known.identity = identity;
            known.owner = owner.map(str::to_owned);
        }
    }

    /// Where the component has the type from, if that is known.
    pub(super) fn origin(&self, ty: ResourceType) -> Option<&Origin> {
        self.find(ty).map(|known| &known.origin)
    }

    /// Whose the type is.
    pub(super) fn identity(&self, ty: ResourceType) -> Identity {
        self.find(ty)
            .map_or(Identity::Unknown, |known| known.identity)
    }

    /// The name of the type, as WIT writes it.
    pub(super) fn name(&self, ty: ResourceType) -> &str {
        self.find(ty).map_or("resource", |known| &known.name)
    }

    /// The name of the type with its interface, for diagnoses.
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
