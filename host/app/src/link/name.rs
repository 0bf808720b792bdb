//! Names of interfaces, and which versions of one go together.

use std::cmp::Ordering;

use semver::Version;

/// The name of an import or export, as in `demo:music/server@0.1.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// The whole name.
    pub(super) text: &'a str,
    /// The name without its version.
    pub(super) path: &'a str,
    /// The version; also none where what follows the `@` is not one, and is
    /// then part of the path.
    pub(super) version: Option<Version>,
}

impl<'a> Name<'a> {
    /// Takes a name apart. Every text is a name.
    pub(super) fn parse(text: &'a str) -> Self {
        if let Some((path, version)) = text.split_once('@')
            && let Ok(version) = Version::parse(version)
        {
            return Self {
                text,
                path,
                version: Some(version),
            };
        }
        Self {
            text,
            path: text,
            version: None,
        }
    }

    /// Whether an export of the name `export` can stand for an import of this
    /// one: the same version, or a compatible one. An older one can do, too:
    /// what of it is imported is compared item by item.
    pub(super) fn accepts(&self, export: &Self) -> bool {
        if self.path != export.path {
            return false;
        }
        match (&self.version, &export.version) {
            (None, None) => true,
            (Some(a), Some(b)) => a == b || compatible(a, b),
            _ => false,
        }
    }

    /// Compares two exports that this import accepts: its own version wins, and
    /// else the newer one.
    pub(super) fn prefers(&self, a: &Self, b: &Self) -> Ordering {
        let exact = |name: &Self| name.version == self.version;
        exact(a)
            .cmp(&exact(b))
            .then_with(|| a.version.cmp(&b.version))
    }

    /// Whether this is an interface that only a host can be expected to have.
    pub(super) fn is_hosts(&self) -> bool {
        self.path.starts_with("wasi:") || self.path.starts_with("tombolo:")
    }

    /// Whether the version is one of WASI 0.2.
    pub(super) fn is_wasi_p2(&self) -> bool {
        self.version
            .as_ref()
            .is_some_and(|version| (version.major, version.minor) == (0, 2))
    }
}

/// Whether two different versions are compatible by the rules of SemVer, as
/// wasmtime's own linker reads them: a pre-release is compatible with nothing.
fn compatible(a: &Version, b: &Version) -> bool {
    if !a.pre.is_empty() || !b.pre.is_empty() {
        return false;
    }
    match (a.major, a.minor) {
        (0, 0) => false,
        (0, minor) => b.major == 0 && b.minor == minor,
        (major, _) => b.major == major,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(import: &str, export: &str) -> bool {
        Name::parse(import).accepts(&Name::parse(export))
    }

    #[test]
    fn compatible_versions_are_accepted() {
        assert!(accepts("a:b/c", "a:b/c"));
        assert!(accepts("a:b/c@1.2.3", "a:b/c@1.0.0"));
        assert!(accepts("a:b/c@0.1.0", "a:b/c@0.1.9"));
        assert!(accepts("a:b/c@0.0.3", "a:b/c@0.0.3"));
        assert!(accepts("a:b/c@1.0.0-rc.1", "a:b/c@1.0.0-rc.1"));
    }

    #[test]
    fn other_versions_are_not_accepted() {
        assert!(!accepts("a:b/c@1.0.0", "a:b/c@2.0.0"));
        assert!(!accepts("a:b/c@0.1.0", "a:b/c@0.2.0"));
        assert!(!accepts("a:b/c@0.0.3", "a:b/c@0.0.4"));
        assert!(!accepts("a:b/c@1.0.0", "a:b/c@1.0.0-rc.1"));
        assert!(!accepts("a:b/c@0.1.0", "a:b/c@1.1.0"));
        assert!(!accepts("a:b/c", "a:b/c@1.0.0"));
        assert!(!accepts("a:b/c@1.0.0", "a:b/d@1.0.0"));
    }

    #[test]
    fn exact_version_wins_over_newer_and_newer_over_older() {
        let import = Name::parse("a:b/c@1.1.0");
        let [old, exact, new] = ["a:b/c@1.0.0", "a:b/c@1.1.0", "a:b/c@1.2.0"].map(Name::parse);
        assert_eq!(import.prefers(&exact, &new), Ordering::Greater);
        assert_eq!(import.prefers(&old, &new), Ordering::Less);
        assert_eq!(import.prefers(&new, &new), Ordering::Equal);
    }
}
