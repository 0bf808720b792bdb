//! The imports and exports of guests, as users are shown them.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

use super::{ExaminedGuests, Link};
use tombolo_exchange::GuestId;

/// The imports and exports of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interfaces {
    /// The name of the guest.
    pub guest: String,
    /// Whether the guest is a command: it exports `wasi:cli/run` of WASI 0.2.
    pub command: bool,
    /// The imports, in the order of the component.
    pub imports: Vec<Import>,
    /// The exports, in the order of the component.
    pub exports: Vec<Export>,
}

/// An import of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Import {
    /// The name, with the version.
    pub name: String,
    /// The imported functions.
    pub functions: Vec<String>,
    /// The resources that the interface defines, or uses from other interfaces.
    pub resources: Vec<String>,
    /// The provider.
    pub provider: Provider,
}

/// An export of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Export {
    /// The name, with the version.
    pub name: String,
    /// The exported functions.
    pub functions: Vec<String>,
    /// The resources that the interface defines, or uses from other interfaces.
    pub resources: Vec<String>,
    /// The guests whose imports it serves.
    pub users: Vec<String>,
}

/// The provider of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// The host.
    Host,
    /// Another guest.
    Guest(String),
    /// None is needed: the interface consists of types.
    Types,
    /// None: only these guests export it, and the importer may not call them.
    Forbidden(Vec<String>),
    /// None: several guests have equally good exports.
    Ambiguous(Vec<String>),
    /// None: this guest lacks functions, or has them with other types.
    Unfit(String),
    /// None: imports of this kind cannot be linked between guests.
    Unsupported,
    /// None: no other guest exports it.
    Nobody,
}

/// Returns the names of an interface's functions.
pub(super) fn functions(engine: &Engine, instance: &ComponentInstance) -> Vec<String> {
    instance
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Returns the names of an interface's resources.
pub(super) fn resources(engine: &Engine, instance: &ComponentInstance) -> Vec<String> {
    instance
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::Resource(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Returns the exports of a guest, with the guests that they serve.
pub(super) fn exports(
    engine: &Engine,
    guests: &ExaminedGuests<'_>,
    exporter: GuestId,
    links: &[Link],
) -> Vec<Export> {
    let exports = guests[&exporter].ty.exports(engine);
    exports
        .map(|(name, item)| Export {
            name: name.to_owned(),
            functions: match &item.ty {
                ComponentItem::ComponentInstance(instance) => functions(engine, instance),
                _ => Vec::new(),
            },
            resources: match &item.ty {
                ComponentItem::ComponentInstance(instance) => resources(engine, instance),
                _ => Vec::new(),
            },
            users: links
                .iter()
                .filter(|link| link.exporter == exporter && link.export == name)
                .map(|link| guests[&link.importer].name.to_owned())
                .collect(),
        })
        .collect()
}
