//! The interfaces that the host offers.

use std::collections::HashMap;

use semver::Version;
use wasmtime::bail;
use wasmtime::component::Linker;

use super::name::Name;

/// The versions of the packages that the host offers. Of several, the first is named in errors.
static VERSIONS: [(&str, Version); 3] = [
    // The versions in `wasmtime-wasi`.
    ("wasi:", Version::new(0, 2, 12)),
    ("wasi:", Version::new(0, 3, 0)),
    // The version in `wit/`.
    ("tombolo:", Version::new(0, 1, 0)),
];

/// The names that a linker defines before any guest is linked.
///
/// A [`Linker`] cannot list what it defines, but it refuses to define a function that has the
/// name of an instance. If there is no such instance, the attempt defines the function. So this
/// type tries it on a copy of the linker, and once for each name.
pub(super) struct Offers<T: 'static> {
    copy: Linker<T>,
    known: HashMap<String, bool>,
}

impl<T: 'static> Offers<T> {
    pub(super) fn new(linker: &Linker<T>) -> Self {
        let mut copy = linker.clone();
        copy.allow_shadowing(false);
        Self {
            copy,
            known: HashMap::new(),
        }
    }

    /// Returns whether the host serves an import of this name. As in the linker, that may be by
    /// the name itself or by a compatible version.
    pub(super) fn offered(&mut self, import: &str) -> bool {
        if self.defines(import) {
            return true;
        }
        let name = Name::parse(import);
        let mut versions = self.versions(name.path).into_iter();
        versions.any(|offered| name.accepts(&Name::parse(&offered)))
    }

    /// Returns the name by which the host offers this interface, in any version.
    pub(super) fn nearest(&mut self, import: &str) -> Option<String> {
        self.versions(Name::parse(import).path).into_iter().next()
    }

    /// Returns the names by which the host offers the interface with this path.
    fn versions(&mut self, path: &str) -> Vec<String> {
        let versions = VERSIONS
            .iter()
            .filter(|(package, _)| path.starts_with(package));
        let names = versions.map(|(_, version)| format!("{path}@{version}"));
        names.filter(|name| self.defines(name)).collect()
    }

    fn defines(&mut self, name: &str) -> bool {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let defined = self
            .copy
            .root()
            .func_new(name, |_, _, _, _| bail!("never linked"))
            .is_err();
        self.known.insert(name.to_owned(), defined);
        defined
    }
}
