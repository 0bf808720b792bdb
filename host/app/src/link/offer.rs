//! What the host itself offers.

use std::collections::HashMap;

use semver::Version;
use wasmtime::bail;
use wasmtime::component::Linker;

use super::name::Name;

/// The versions at which the host offers its packages.
static VERSIONS: [(&str, Version); 2] = [
    // That of `wasmtime-wasi`.
    ("wasi:", Version::new(0, 2, 12)),
    // That of `wit/*.wit`.
    ("tombolo:", Version::new(0, 1, 0)),
];

/// What a linker defines before any guest is linked.
///
/// A [`Linker`] cannot be asked what it defines, but it refuses to define a
/// function by the name of an instance. Asking otherwise leaves a function
/// behind, so this asks a copy, and asks once for each name.
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

    /// Whether the host meets an import of this name, as the linker resolves
    /// names: by the name itself, or by a compatible version.
    pub(super) fn offered(&mut self, import: &str) -> bool {
        if self.defines(import) {
            return true;
        }
        let name = Name::parse(import);
        match self.nearest(import) {
            Some(offered) => name.accepts(&Name::parse(&offered)),
            None => false,
        }
    }

    /// The name under which the host offers this interface, of whatever
    /// version.
    pub(super) fn nearest(&mut self, import: &str) -> Option<String> {
        let path = Name::parse(import).path;
        let (_, version) = VERSIONS
            .iter()
            .find(|(package, _)| path.starts_with(package))?;
        let offered = format!("{path}@{version}");
        self.defines(&offered).then_some(offered)
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
