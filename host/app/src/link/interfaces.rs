//! What guests import and export, and who serves what.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

use super::{Guest, Link};

/// What a guest imports and exports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interfaces {
    /// The guest.
    pub guest: String,
    /// Whether it is a command: it exports `wasi:cli/run`, of WASI 0.2.
    pub command: bool,
    /// What it imports, as the component lists it.
    pub imports: Vec<Import>,
    /// What it exports, as the component lists it.
    pub exports: Vec<Export>,
}

/// An import of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Import {
    /// Its name, with the version.
    pub name: String,
    /// The functions that are imported.
    pub functions: Vec<String>,
    /// The resources that it defines, or uses of other interfaces.
    pub resources: Vec<String>,
    /// Who serves it.
    pub provider: Provider,
}

/// An export of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Export {
    /// Its name, with the version.
    pub name: String,
    /// The functions that are exported.
    pub functions: Vec<String>,
    /// The resources that it defines, or uses of other interfaces.
    pub resources: Vec<String>,
    /// The guests that it is linked to.
    pub users: Vec<String>,
}

/// Who serves an import.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// The host.
    Host,
    /// Another guest.
    Guest(String),
    /// Nobody has to: it has types alone.
    Types,
    /// Only guests that the importer may not call.
    Forbidden(Vec<String>),
    /// More than one guest, of which none is better than the others.
    Ambiguous(Vec<String>),
    /// A guest whose functions have other types, or which lacks some.
    Unfit(String),
    /// Nobody can: it is of a kind that cannot be linked between guests.
    Refused,
    /// Nobody does.
    Nobody,
}

/// The names of an interface's functions.
pub(super) fn functions(engine: &Engine, instance: &ComponentInstance) -> Vec<String> {
    instance
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The names of an interface's resources.
pub(super) fn resources(engine: &Engine, instance: &ComponentInstance) -> Vec<String> {
    instance
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::Resource(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// What one of the guests exports, and to whom it is linked.
pub(super) fn exports(
    engine: &Engine,
    guests: &[Guest<'_>],
    exporter: usize,
    links: &[Link],
) -> Vec<Export> {
    let exports = guests[exporter].ty.exports(engine);
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
                .map(|link| guests[link.importer].name.to_owned())
                .collect(),
        })
        .collect()
}
