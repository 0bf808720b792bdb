//! Names of interfaces, and which of their versions are compatible.

use std::cmp::Ordering;

use semver::Version;

/// The name of an import or export, as in `demo:music/server@0.1.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// The whole name.
    pub(super) text: &'a str,
    /// The name without its version.
    pub(super) path: &'a str,
    /// The version. If the text after the `@` is not a version, it is part of the path.
    pub(super) version: Option<Version>,
}

impl<'a> Name<'a> {
    /// Splits a name. Every text is a valid name.
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

    /// Returns whether an export named `export` can serve an import of this name: its version is
    /// the same, or compatible. It may be older, because the imported items are compared one by
    /// one.
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

    /// Compares two exports that this import accepts. The import's own version wins, otherwise
    /// the newer one.
    pub(super) fn prefers(&self, a: &Self, b: &Self) -> Ordering {
        let exact = |name: &Self| name.version == self.version;
        exact(a)
            .cmp(&exact(b))
            .then_with(|| a.version.cmp(&b.version))
    }

    /// Returns whether the interface is in a namespace that only hosts implement.
    pub(super) fn is_hosts(&self) -> bool {
        self.path.starts_with("wasi:") || self.path.starts_with("tombolo:")
    }

    /// Returns whether the version is one of WASI 0.2 or 0.3.
    pub(super) fn is_wasi(&self) -> bool {
        let minor = |version: &Version| (version.major, version.minor);
        let version = self.version.as_ref().map(minor);
        matches!(version, Some((0, 2 | 3)))
    }

    /// Returns whether the version is one of WASI 0.3.
    pub(super) fn is_wasi_p3(&self) -> bool {
        let minor = |version: &Version| (version.major, version.minor);
        self.version.as_ref().map(minor) == Some((0, 3))
    }
}

/// Returns whether two different versions are compatible by the rules of SemVer, as wasmtime's
/// own linker applies them. A pre-release is compatible only with itself.
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
    fn exact_version_wins_then_the_newer() {
        let import = Name::parse("a:b/c@1.1.0");
        let [old, exact, new] = ["a:b/c@1.0.0", "a:b/c@1.1.0", "a:b/c@1.2.0"].map(Name::parse);
        assert_eq!(import.prefers(&exact, &new), Ordering::Greater);
        assert_eq!(import.prefers(&old, &new), Ordering::Less);
        assert_eq!(import.prefers(&new, &new), Ordering::Equal);
    }
}
